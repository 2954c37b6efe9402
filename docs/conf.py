"""How `make docs` builds these pages and the API reference, with Sphinx and without a network."""

import builtins
import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
NOT_SHIPPED = ("benchmarks", "harness", "results_page")
WINGS = ("client", "common", "server", "simulations")

project = "fedtail"
author = "The fedtail maintainers"
version = release = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "version"
]

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
# index.rst takes the overview in; docs/results holds extracts and no pages.
exclude_patterns = ["README.md", "results", "api/*/modules.rst"]

# -- pages ----------------------------------------------------------------
myst_heading_anchors = 4

# -- the API, from docstrings ---------------------------------------------
apidoc_modules = [
    {
        "path": f"../{wing}",
        "destination": f"api/{wing}",
        "exclude_patterns": [
            *(f"../simulations/{room}" for room in NOT_SHIPPED),
            "../client/serving/feedback/migrations",  # Alembic runs these; they are no API
        ],
        "separate_modules": False,  # a page for each room
        "module_first": True,
    }
    for wing in WINGS
]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
default_role = "code"  # docstrings say `name` as Markdown does
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # else each attribute of a class is described twice
napoleon_custom_sections = ["Formal guarantee"]

# -- HTML: Furo ships its own styles and asks no other host ---------------
html_theme = "furo"
html_title = f"fedtail {release}"
html_copy_source = False


def _escaped(line: str) -> str:
    """Return the line with `|` and `*` as they stand, outside of code."""
    parts = line.split("`")
    return "`".join(
        re.sub(r"[|*]", r"\\\g<0>", part) if i % 2 == 0 else part for i, part in enumerate(parts)
    )


def as_rest(_app: Sphinx, what: str, _name: str, _it: Any, _options: Any, lines: list[str]) -> None:
    """Make reST of a docstring: our drawings and formulas are indented blocks, as in Markdown."""
    out, drawing, opener = [], False, ""
    for before, line in pairwise(["", *lines]):
        starts = line.startswith("    ") and not before and opener and not opener.startswith(" ")
        if starts and not drawing:
            out += [".. code-block:: text", ""]
            drawing = True
        elif line and not line.startswith(" "):
            drawing = False
        out.append(line if drawing else _escaped(line))
        opener = line or opener
    # Napoleon takes a property's first line, up to a colon, for its type. `..` is an empty comment.
    lines[:] = ["..", "", *out] if what == "property" else out


def builtins_are_no_links(_app: Sphinx, page: nodes.document) -> None:
    """Leave Python's own names in signatures as they are.

    Sphinx would look for any attribute of that name: `type` in a signature is no event's type.
    """
    for link in list(page.findall(pending_xref)):
        if link.get("refdomain") == "py" and hasattr(builtins, link["reftarget"]):
            link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Read docstrings before Napoleon does, and pages before links are looked up."""
    app.connect("autodoc-process-docstring", as_rest, priority=400)
    app.connect("doctree-read", builtins_are_no_links)
