"""The tree speaks in the field's words: none of those that this project once coined is left.

Decision records and the changelog keep the words of their day, and `simulations/results/earlier.py`
has the names that older results are read by. Words that are ordinary English too, such as level,
own, told, room or desk, are not looked for.
"""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("client", "common", "server", "simulations", "tests", "docs")
SUFFIXES = {".py", ".md", ".j2", ".toml", ".txt", ".html", ".css"}
OF_THEIR_DAY = (
    "docs/adr/",
    "docs/results/",
    "simulations/results/earlier.py",
    "tests/simulations/results/test_earlier.py",
    "tests/test_words.py",
)
RECORD = re.compile(r"\b\d{4}-[\w-]+")  # a decision record's name, whose words are of its day

OLD = {  # a name, or words that may be joined by any of space, dash and underline: what to say
    "tower": "adapted encoder",
    "towers": "adapted encoders",
    "trunk": "token states",
    "half_weight_share": "SIF smoothing",
    "word_weight": "lexical weight",
    "output_directions": "output rank",
    "noise frame": "noise basis",
    "adaptivity": "tau",
    "lanes": "canaries",
    "declared_shoppers": "size bracket",
    "placement": "LoRA target modules, or DP model",
    "placements": "LoRA target modules, or DP models",
    "turned away": "on_rollback",
    "knocking": "connection check",
    "warming": "encode ahead",
    "yardstick": "baseline",
    "yardsticks": "baselines",
    "rehearse": "validation-only run",
    "rehearsal": "validation-only run",
    "merit": "objective",
    "dial": "tail boost",
    "dialled": "boosted",
    "taste": "user embedding, or preference",
    "tastes": "user embeddings, or preferences",
    "loudness": "weights",
    "fit gate": "fit_fusion_weights",
    "default gate": "default fusion weights",
    "shop's gate": "shop's fusion weights",
    "gates of shops": "fusion weights",
    "GateTrial": "FusionTrial",
    "TextTaste": "TextScorer",
    "KnnModel": "no such model",
}
KEPT = {
    "placement": ("common/privacy/ledger/entry.py",),  # a name on merchants' disks, for ever
    "lanes": ("tests/simulations/results/test_earlier.py",),  # as earlier results have it
}


def pattern(word):
    """Match the word with nothing of an identifier's part around it, in any case."""
    joined = r"[\s_-]+".join(map(re.escape, word.split()))
    return re.compile(rf"(?<![^\W_]){joined}(?![^\W_])", re.IGNORECASE)


@cache
def texts():
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    paths += [*ROOT.glob("*.py"), *ROOT.glob("*.md"), *ROOT.glob("*.toml"), ROOT / "Makefile"]
    found = {}
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        read = path.suffix in SUFFIXES or path.name == "Makefile"
        if read and path.is_file() and name != "CHANGELOG.md" and not name.startswith(OF_THEIR_DAY):
            found[name] = RECORD.sub("", path.read_text("utf-8"))
    return found


def places_of(word, read):
    """Return where a word stands: `path:line`."""
    sought = pattern(word)
    return [
        f"{name}:{content.count(chr(10), 0, match.start()) + 1}"
        for name, content in read.items()
        if not name.startswith(KEPT.get(word, ()))
        for match in sought.finditer(content)
    ]


@pytest.mark.parametrize("word", OLD)
def test_no_word_of_before_is_left(word):
    assert not places_of(word, texts()), f"say {OLD[word]}"


@pytest.mark.parametrize("word", OLD)
def test_a_word_that_came_back_would_be_found(word):
    """In prose, in an identifier, and broken over a line; not inside another word."""
    underlined = word.replace(" ", "_")
    for content in (f"The {word}.", f"a = {underlined}_of(b)", f"A {word.replace(' ', chr(10))}"):
        assert places_of(word, {"client/new.py": f"\n{content}"}) == ["client/new.py:2"]
    assert not places_of(word, {"client/new.py": f"x{underlined}s"})
    assert not places_of(word, {"client/new.py": RECORD.sub("", f"docs/adr/0001-{underlined}.md")})


def test_the_whole_tree_is_read():
    read = texts()
    assert len(read) > 300
    assert {"README.md", "client/cli.py", "docs/explanation-model.md", "Makefile"} <= set(read)
    assert not any(name.startswith("docs/adr") for name in read)
