"""The look of the report's figures, and their rendering as SVG that can stand inside one page.

Matplotlib draws without a display. Text stays text, so it can be searched and read aloud, and takes
the page's font. Every id carries the figure's name: ids of two figures would meet in one page.
"""

import io
import re
import warnings
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree as ET

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK: Final = "#1f2a33"
MUTED: Final = "#55636e"
RULE: Final = "#d9dee2"
GREY: Final = "#8494a1"
TEAL: Final = "#0f5257"
LIGHT_TEAL: Final = "#3a8a99"
AMBER: Final = "#b8691a"

_SVG: Final = "http://www.w3.org/2000/svg"
_XLINK: Final = "http://www.w3.org/1999/xlink"
ET.register_namespace("", _SVG)  # so that tags are written without a prefix, as HTML needs
ET.register_namespace("xlink", _XLINK)
# Any, since matplotlib types the keys as one Literal of all its settings.
STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedtail",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # a merchant may have a dollar sign in its name
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.unicode_minus": False,
    "axes.formatter.use_mathtext": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


@dataclass(frozen=True)
class Picture:
    """A figure for the page: `svg` is markup to be inserted as it is; the texts are plain."""

    svg: str
    title: str
    description: str


def canvas(width: float, height: float, rows: int = 1) -> tuple[Figure, Axes]:
    """Return an empty figure of a size in inches, and the first of its rows of axes.

    The page scales it to its column; rows share their horizontal axis.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots(rows, 1, sharex=True, squeeze=False)
    return figure, axes[0, 0]


def picture(figure: Figure, name: str, title: str, description: str) -> Picture:
    """Render a figure and make its markup fit to stand in a page beside others."""
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings():
        # Only the measuring of text lacks such glyphs; the reader's browser has its own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata=nothing)
    # The bytes are matplotlib's own output, not a stranger's document.
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - made here
    name = re.sub(r"[^a-z0-9-]+", "-", name)
    _prefix_ids(root, f"{name}-")
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-description"}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        identity = f"{name}-title" if tag == "title" else f"{name}-description"
        element = ET.Element(f"{{{_SVG}}}{tag}", {"id": identity})
        element.text = text
        root.insert(place, element)
    return Picture(ET.tostring(root, encoding="unicode"), title, description)


def _prefix_ids(root: ET.Element, prefix: str) -> None:
    """Put `prefix` before every id and every reference to one."""
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                element.attrib[key] = prefix + value
            elif value.startswith("#") and key.endswith("href"):
                element.attrib[key] = f"#{prefix}{value[1:]}"
            elif "url(#" in value:
                element.attrib[key] = value.replace("url(#", f"url(#{prefix}")
