"""House checks: what the project says of itself is true of its files."""

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from datetime import date
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fedtail
from common.settings.run import RunSettings

ROOT = Path(__file__).parents[1]
ROOMS = ("client", "common", "server", "simulations")
MODULES = sorted(
    [ROOT / "fedtail.py", *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]
)
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ADRS = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
LONGEST_MODULE = 400
LONGEST_READING_PATH = 9
OF_THE_WHOLE = {
    "test_containers.py",
    "test_lock.py",
    "test_readmes.py",
    "test_project.py",
    "test_fedtail_cli.py",
    "test_privacy_bugs.py",
    "test_wheel.py",
    "test_words.py",
}  # these mirror no module, nor does what lies in tests/faults
MOST_MODULES = 15  # in a room


def shown(path):
    return path.relative_to(ROOT).as_posix()


@cache
def text(path):
    return path.read_text("utf-8")


@cache
def project():
    return tomllib.loads(text(ROOT / "pyproject.toml"))


def committed_files():
    """Return what git has or would take: all that is not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    names = listed.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


# ------------------------------------------------------------------ files
def test_no_file_names_a_path_of_a_machine():
    # Put together here, so that this file does not name one itself.
    roots = ("home/[a-z]", "Users/[A-Za-z]", "root/", "work/", "tmp/[a-z]")
    somewhere = re.compile(rf"(?<![\w.~}}\])/])/(?:{'|'.join(roots)})")
    found = []
    for path in committed_files():
        try:
            lines = text(path).splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{shown(path)}:{number}"
            for number, line in enumerate(lines, 1)
            if somewhere.search(line)
        ]
    assert found == []


@pytest.mark.parametrize("path", [*MODULES, *sorted((ROOT / "tests").rglob("*.py"))], ids=shown)
def test_a_module_stays_below_400_lines(path):
    assert len(text(path).splitlines()) <= LONGEST_MODULE


def test_every_exception_to_a_rule_has_its_reason():
    bare = re.compile(
        r"#\s*(?:noqa|type:\s*ignore)(?:\[[\w-]+\]|:\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?\s*$"
    )
    found = [
        f"{shown(path)}:{number}"
        for path in (*MODULES, *TESTS)
        for number, line in enumerate(text(path).splitlines(), 1)
        if bare.search(line)
    ]
    assert found == []


def test_every_rule_that_ruff_ignores_has_its_reason():
    lines = text(ROOT / "pyproject.toml").splitlines()
    rules = [line for line in lines if re.match(r'\s+"[A-Z]+\d*",', line)]
    assert len(rules) > 20
    assert [line for line in rules if not re.search(r"#\s*\S", line)] == []


@pytest.mark.parametrize("path", TESTS, ids=shown)
def test_a_test_file_mirrors_a_module(path):
    place = path.relative_to(ROOT / "tests")
    if place.name in OF_THE_WHOLE or place.parts[0] in {"attacks", "faults"}:
        return
    room, stem = ROOT / place.parent, path.stem.removeprefix("test_")
    if not (room / f"{stem}.py").is_file() and not (room / stem / "__init__.py").is_file():
        # a part of a module's tests: test_MODULE_IDEA.py beside test_MODULE.py
        wholes = [one.stem for one in room.glob("*.py") if stem.startswith(f"{one.stem}_")]
        assert [one for one in wholes if path.with_name(f"test_{one}.py").is_file()], place


def test_no_room_is_crowded():
    rooms = {path.parent for path in MODULES}
    crowded = {
        shown(room): count
        for room in rooms
        if (count := len([one for one in room.glob("*.py") if one.name != "__init__.py"]))
        > MOST_MODULES
    }
    assert crowded == {}


@pytest.mark.parametrize("room", sorted({path.parent for path in MODULES} - {ROOT}), ids=shown)
def test_a_room_says_what_belongs_there(room):
    assert ast.get_docstring(ast.parse(text(room / "__init__.py")))


# ------------------------------------------------------ which way imports run
def imported(path):
    for node in ast.walk(ast.parse(text(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_loads_nothing(room):
    script = (
        f"import sys; before = set(sys.modules); import {room}; print(set(sys.modules) - before)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == f"{{'{room}'}}"


def test_the_door_holds_no_logic():
    assert {name.split(".")[0] for name in imported(ROOT / "fedtail.py")} <= {
        *sys.stdlib_module_names,
        "typer",
        "rich",
        *ROOMS,
    }
    assert len(text(ROOT / "fedtail.py").splitlines()) < 100


# --------------------------------------------------------------- settings
def test_every_setting_is_described():
    silent = [name for name, field in RunSettings.model_fields.items() if not field.description]
    assert silent == []


# --------------------------------------------------------------- packages
def pins():
    lines = text(ROOT / "constraints.txt").splitlines()
    found = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


def test_constraints_pin_every_dependency_within_its_bounds():
    declared = project()["project"]
    extras = [one for extra in declared["optional-dependencies"].values() for one in extra]
    for requirement in map(Requirement, declared["dependencies"] + extras):
        pinned = pins().get(canonicalize_name(requirement.name))
        assert pinned is not None, requirement.name
        assert requirement.specifier.contains(pinned), requirement.name


def test_torch_is_pinned_without_a_build_so_that_a_cpu_build_fits():
    assert re.fullmatch(r"[\d.]+", pins()["torch"])


def test_ci_runs_check_and_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line.split("#")[0].strip() for line in text(script).splitlines()]
    assert "make check" in commands
    assert any(command.startswith("make test") for command in commands)


# ------------------------------------------------------------------- docs
def test_the_changelog_has_what_is_unreleased_then_this_version_dated():
    unreleased, *versions = re.findall(r"^## (.+)$", text(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert unreleased == "Unreleased"
    dated = [re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)", one) for one in versions]
    assert all(dated), versions
    assert dated[0][1] == project()["project"]["version"]
    days = [date.fromisoformat(one[2]) for one in dated]
    assert days == sorted(days, reverse=True)


def test_the_changelog_tells_privacy_first():
    for release in re.split(r"^## ", text(ROOT / "CHANGELOG.md"), flags=re.MULTILINE)[1:]:
        headings = re.findall(r"^### (.+)", release, re.MULTILINE)
        assert headings[0] == "Privacy"
        order = ["Privacy", "Added", "Changed", "Removed", "Fixed"]
        assert headings == [one for one in order if one in headings]
        for part in re.split(r"^### .+\n", release, flags=re.MULTILINE)[1:]:
            assert "\n\n" not in part.strip(), "a list is not cut by an empty line"


def test_decisions_are_numbered_without_a_gap():
    assert [path.name[:4] for path in ADRS] == [f"{n:04d}" for n in range(1, len(ADRS) + 1)]


@pytest.mark.parametrize("path", ADRS, ids=shown)
def test_a_decision_is_whole_and_listed(path):
    for part in ("Context", "Decision", "Consequences"):
        assert re.search(rf"^(\*\*{part}\.\*\*|## {part}$)", text(path), re.MULTILINE)
    assert "runner-up" in text(path).lower()
    assert text(path).startswith(f"# {path.name[:4]}. ")
    assert f"]({path.name})" in text(path.parent / "README.md")


def reading_path(heading):
    section = text(ROOT / "README.md").split(f"## {heading}")[1].split("\n## ")[0]
    return re.findall(r"^\d+\. \[`([\w/]+\.py)`\]", section, re.MULTILINE)


@pytest.mark.parametrize("heading", ["Follow one purchase", "Follow an adapter"])
def test_a_reading_path_is_short_and_exists(heading):
    path = reading_path(heading)
    assert 5 < len(path) <= LONGEST_READING_PATH
    assert len(path) - len(set(path)) <= 1  # returns to a file seen before
    assert [name for name in path if not (ROOT / name).is_file()] == []


def test_a_purchase_goes_from_a_file_to_a_recommendation():
    path = reading_path("Follow one purchase")
    assert path[0] == "client/importing/shop_import.py"
    assert path[-1] in {"client/ranking/fusion.py", "client/recommending/recommender.py"}
    for needed in (
        "client/training/dp_trainer.py",
        "common/privacy/mechanism/clipping.py",
        "common/privacy/mechanism/noise.py",
    ):
        assert needed in path


def test_an_adapter_goes_from_the_server_to_a_node_and_into_a_release():
    wings = [name.split("/")[0] for name in reading_path("Follow an adapter")]
    assert wings[0] == wings[-1] == "server"
    assert {"client", "common"} <= set(wings)


def test_the_first_screen_of_the_readme_says_what_counts():
    screen = "\n".join(text(ROOT / "README.md").splitlines()[:40])
    for needed in ("make demo", "](docs/images/", "Measured on real data", "does not work yet"):
        assert needed in screen


def anchors(page):
    """Return the anchors of a page's headings, as hosts of Markdown make them."""
    headings = re.findall(r"^#+ (.+)", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_between_pages_resolve(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        whole = there.exists() and (not anchor or anchor in anchors(there))
        broken += [] if whole else [target]
    assert broken == []


def test_pages_and_modules_named_in_text_exist():
    named = re.compile(rf"(?<![\w/.-])((?:docs|tests|{'|'.join(ROOMS)})/[\w/-]+\.(?:md|py|toml))")
    missing = {
        f"{shown(path)}: {name}"
        for path in (*PAGES, *MODULES)
        for name in named.findall(text(path))
        if not (ROOT / name).exists()
    }
    assert missing == set()


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_page_is_listed(page):
    if page.parent != ROOT / "docs" or page.name == "README.md":
        return
    assert f"]({page.name})" in text(ROOT / "docs" / "README.md")


def test_every_page_has_a_kind_that_the_site_navigates_by():
    globs = re.findall(r"^   ([\w/-]+-\*)$", text(ROOT / "docs" / "index.rst"), re.MULTILINE)
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    assert [name for name in pages if not any(fnmatch(name, glob) for glob in globs)] == []
    assert globs == ["tutorial-*", "how-to-*", "explanation-*", "ref-*"]


def test_hooks_before_a_commit_are_what_make_check_runs_and_fetch_nothing():
    hooks = text(ROOT / ".pre-commit-config.yaml")
    assert re.findall(r"repo: (.+)", hooks) == ["local"]
    entries = re.findall(r"entry: \.venv/bin/(.+)", hooks)
    assert len(entries) == len(re.findall(r"language: system", hooks))
    check = text(ROOT / "Makefile").split("\ncheck:")[1].split("\n\n")[0]
    options = r" (--quiet|--force-exclude|\.)(?= |$)"
    checked = re.findall(r"\$\(BIN\)/(.+)", check)
    assert [re.sub(options, "", one) for one in entries] == [
        re.sub(options, "", one) for one in checked
    ]


def commands(page):
    """Yield the words of each `fedtail` and `make` command in a page's blocks of shell.

    Where a command's output goes (`> FILE`) is the shell's business.
    """
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)
    for language, block in blocks:
        for line in block.replace("\\\n", " ").splitlines():
            command = line.strip().removeprefix("$ ").removeprefix(".venv/bin/")
            if language in {"", "sh"} and command.startswith(("fedtail ", "make ")):
                yield shlex.split(re.sub(r" > \S+$", "", command), comments=True)


def unknown_words(words):
    """Return the sub-commands and options of a command line that the command does not have."""
    command = typer.main.get_command(fedtail.app)
    rest = words[1:]
    while rest and rest[0] in getattr(command, "commands", {}):
        command = command.commands[rest.pop(0)]
    if hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        return [rest[0]]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    takes_value = {
        option
        for parameter in command.params
        for option in parameter.opts
        if not getattr(parameter, "is_flag", False)
    }
    wrong = []
    while rest:
        word = rest.pop(0)
        if word not in known and arguments and not word.startswith("-"):
            arguments.pop()
        elif word not in known:
            wrong.append(word)
        elif word in takes_value and rest:
            rest.pop(0)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_commands_in_pages_are_commands_that_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", text(ROOT / "Makefile"), re.MULTILINE))
    for words in commands(page):
        if words[0] == "make":
            named = [word for word in words[1:] if "=" not in word]
            assert set(named) <= targets, words
        else:
            assert unknown_words(words) == [], words


def test_the_check_of_commands_finds_what_is_wrong():
    assert unknown_words(["fedtail", "simulate", "--out", "x", "--nope"]) == ["--nope"]
    assert unknown_words(["fedtail", "client", "import", "shop", "--out", "x"]) == ["shop"]
    assert unknown_words(["fedtail", "audit", "x"]) == ["x"]
    assert unknown_words(["fedtail", "audit", "run", "out", "--key", "k", "more"]) == ["more"]
    assert unknown_words(["fedtail", "divine", "x"]) == ["divine"]
    assert unknown_words(["fedtail", "server", "journal", "x", "y", "--json"]) == ["y"]
    assert unknown_words(["fedtail", "simulate", "--fast", "--out", "--x"]) == []
