"""README.md and README.zh.md say the same: commands, figures, links, and the glossary's words."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = ("README.md", "README.zh.md")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def page(name):
    """A page without the line that leads to the other."""
    text = (ROOT / name).read_text("utf-8")
    for line in ("[中文](README.zh.md)", "[English](README.md)"):
        text = text.replace(line, "", 1)
    return text


def compared(find):
    return [find(page(name)) for name in NAMES]


def test_each_leads_to_the_other():
    assert "(README.zh.md)" in (ROOT / NAMES[0]).read_text("utf-8")
    assert "(README.md)" in (ROOT / NAMES[1]).read_text("utf-8")


def test_both_have_the_same_commands_and_tables():
    english, chinese = compared(FENCED.findall)
    assert english == chinese
    assert len(english) >= 4


def test_both_have_the_same_figures():
    def figures(text):
        text = re.sub(r"\]\([^)]*\)", "]", FENCED.sub("", text))
        return sorted(re.findall(r"(?<![\w.])(?:\d+)?\.\d+%?|\d+%", text))

    english, chinese = compared(figures)
    assert english == chinese
    assert {".114", ".139", ".135", ".087", ".003", "11.6%", "5.9%", "1.5%", "4.9%"} <= set(english)


def test_both_have_the_same_code_words_and_links():
    def words(text):
        return sorted(re.findall(r"`([^`\n]+)`", FENCED.sub("", text)))

    def links(text):
        return re.findall(r"\]\(([^)]+)\)", text)

    for find in (words, links):
        english, chinese = compared(find)
        assert english == chinese


def test_both_have_the_same_parts():
    english, chinese = compared(lambda text: re.findall(r"^(#+|\d+\.|- |\|)", text, re.MULTILINE))
    assert english == chinese


@pytest.mark.parametrize(
    "term",
    [
        "商家",
        "顾客",
        "节点",
        "隐私账本",
        "发布版本",
        "法定参与数",
        "伪梯度",
        "金丝雀样本",
        "销售趋势",
    ],
)
def test_the_words_are_the_glossarys(term):
    assert term in page("README.zh.md")
    assert term in (ROOT / "docs" / "ref-glossary.md").read_text("utf-8")
