import re
import string
from pathlib import Path

import pytest

import client.serving.page
from client.importing import cleaning
from client.importing.rules import table
from client.serving.page.texts import LANGUAGES, Texts, chosen_language, texts

ROOM = Path(client.serving.page.__file__).parent
TEMPLATES = sorted((ROOM / "templates").glob("*.j2"))


def places(text):
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


def test_every_language_has_the_same_texts_with_the_same_places():
    english = texts("en").known
    for language in LANGUAGES:
        known = texts(language).known
        assert known.keys() == english.keys()
        assert {name: places(text) for name, text in known.items()} == {
            name: places(text) for name, text in english.items()
        }


def test_no_text_was_left_in_english():
    same = {
        name
        for name, text in texts("zh").known.items()
        if text == texts("en").known[name] and re.search("[A-Za-z]{3}", text)
    }
    assert same == set()


def test_every_text_that_a_template_names_is_there_and_every_one_there_is_used():
    known = texts("en").known
    words = "\n".join(path.read_text("utf-8") for path in TEMPLATES)
    named = set(re.findall(r"\bt\('([\w.@]+)'", words))
    whole = {one for one in named if not one.endswith((".", "_"))}
    assert whole <= known.keys()
    starts = set(re.findall(r"'([\w]+\.[\w]*)(?:%d)?'", words)) | {
        "nav.",
        "rule.",
        "models_compared.",
    }
    unused = {
        name
        for name in known
        if name not in words
        and not any(start and name.startswith(start) for start in starts)
        and not re.search(rf"'\.{re.escape(name.split('.')[1])}'", words)
    }
    assert unused == set()


def test_every_rule_of_the_import_has_its_words():
    source = Path(table.__file__).read_text("utf-8")
    rules = set(re.findall(r'Rule\(\s*"(\w+)",\s*"(?!quiet)', source))
    rules |= {name for name, _ in cleaning.TEXT_RULES}
    rules |= {"malformed_time", "malformed_position", "non_positive_price", "non_positive_quantity"}
    assert len(rules) > 20
    assert {f"rule.{name}" for name in rules} <= texts("en").known.keys()


@pytest.mark.parametrize(
    ("kept", "accepted", "language"),
    [
        ("zh", "en", "zh"),
        ("fr", "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "en-GB,en;q=0.9", "en"),
        (None, "fr,zh;q=0.1", "zh"),
        (None, "", "en"),
        ("", ";;;,,q=", "en"),
    ],
)
def test_the_language_is_the_one_chosen_else_the_browsers(kept, accepted, language):
    assert chosen_language(kept, accepted) == language


def test_a_missing_text_or_place_is_a_fault_and_no_empty_page():
    english = Texts("en")
    with pytest.raises(KeyError):
        english("no.such")
    with pytest.raises(KeyError):
        english("reach.sentence", reached=1)
    assert english.find("rule.of_a_later_version") is None
