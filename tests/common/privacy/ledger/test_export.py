"""A ledger as text is the ledger: same entries, same signatures, and every bit counts."""

import sqlite3

import pytest

from common.errors import LedgerError
from common.privacy.ledger.export import export_ledger, read_ledger
from tests.support.ledgers import pay, reopen


@pytest.fixture
def ledger(tmp_path):
    ledger = reopen(tmp_path / "node" / "ledger.sqlite")
    for number in (1, 2):
        pay(ledger, number)
    return ledger


def test_the_text_holds_the_ledgers_entries_and_no_secret(ledger):
    content = export_ledger(ledger.path)
    assert read_ledger(content) == ledger.entries()
    assert read_ledger(content, ledger.signer, "shop") == ledger.entries()
    secret = ledger.path.with_name("ledger.sqlite.key").read_bytes()
    assert secret not in content
    assert secret.hex() not in content.decode("ascii")


def test_the_same_ledger_is_the_same_text_and_a_longer_one_begins_with_it(ledger):
    before = export_ledger(ledger.path)
    assert export_ledger(ledger.path) == before
    pay(ledger, 3)
    assert export_ledger(ledger.path).startswith(before)
    assert len(read_ledger(export_ledger(ledger.path))) == 3


def test_an_empty_ledger_is_an_empty_text(tmp_path):
    path = reopen(tmp_path / "ledger.sqlite").path
    assert export_ledger(path) == b""
    assert read_ledger(b"") == ()


def test_every_flipped_bit_is_found_and_says_where(ledger):
    whole = export_ledger(ledger.path)
    for bit in range(0, len(whole) * 8, 7):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LedgerError, match=r"(Entry|Line) [12]\b"):
            read_ledger(bytes(broken), ledger.signer, "shop")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda lines: lines[1:], "number"),
        (lambda lines: [*lines, lines[-1]], "number"),
        (lambda lines: [lines[1], lines[0]], "number"),
    ],
)
def test_a_gap_a_copy_and_another_order_are_found(ledger, change, field):
    lines = export_ledger(ledger.path).splitlines(keepends=True)
    with pytest.raises(LedgerError) as caught:
        read_ledger(b"".join(change(lines)))
    assert caught.value.field == field


def test_anothers_key_and_anothers_name_are_refused(ledger):
    content = export_ledger(ledger.path)
    for signer, merchant, field in (("ab" * 32, None, "signer"), (None, "other", "merchant")):
        with pytest.raises(LedgerError) as caught:
            read_ledger(content, signer, merchant)
        assert caught.value.field == field


def test_a_ledger_that_was_altered_is_not_exported(ledger):
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("DROP TRIGGER no_update")
        connection.execute("UPDATE entries SET hash = ? WHERE number = 2", ("ab" * 32,))
    connection.close()
    with pytest.raises(LedgerError, match="Entry 2"):
        export_ledger(ledger.path)


def test_where_there_is_no_ledger_none_is_made(tmp_path):
    with pytest.raises(LedgerError):
        export_ledger(tmp_path / "ledger.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_the_nodes_own_file_is_recognised(ledger):
    with pytest.raises(LedgerError, match="export-ledger"):
        read_ledger(ledger.path.read_bytes())
