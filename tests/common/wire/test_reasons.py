"""Which words one end keeps of what the other says was wrong: this code's own, and no others."""

import ast
import re
from pathlib import Path

import pytest

from common.wire.reasons import FIELDS, known_reason
from common.wire.refusal import decode_refusal, encode_refusal

ROOT = Path(__file__).parents[3]
# What a node, or the server's run about one, may give as the reason.
TOLD = (
    *(f"client/{one}" for one in ("app.py", "node", "privacy", "training", "shop")),
    *(f"common/{one}" for one in ("adapter.py", "arrays.py", "catalogue.py", "encoder")),
    *(f"common/{one}" for one in ("federation", "identity", "privacy", "settings", "wire")),
    "server/run",
)
WORD = re.compile(r"[a-z][a-z_]{0,39}")


def fields_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg == "field":
            value = getattr(node.value, "value", None)
            if isinstance(value, str) and WORD.fullmatch(value):
                yield value


def test_every_field_that_this_code_names_is_known():
    files = [file for place in TOLD for file in (ROOT / place).rglob("*.py")]
    files += [ROOT / place for place in TOLD if place.endswith(".py")]
    named = {field for file in files for field in fields_of(file)}
    assert len(named) > 90
    assert named <= FIELDS


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("ledger:rollback", "ledger:rollback"),
        ("settings:grace_seconds", "settings:grace_seconds"),
        ("disk:full", "disk:full"),
        ("evicted", "evicted"),
        ("internal", "internal"),
        ("ledger:anna_smith_bought_a_red_teapot", "ledger"),
        ("ledger:\x1b[2J", "ledger"),
        ("ledger:", "ledger"),
        ("anna:rollback", "internal"),
        ("annasmith", "internal"),
        ("", "internal"),
    ],
)
def test_a_word_that_is_not_ours_is_not_kept(told, kept):
    assert known_reason(told) == kept
    assert decode_refusal(encode_refusal(told)) == kept
