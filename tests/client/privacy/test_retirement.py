"""A ledger is put away by a named act only, which stays on record."""

import pytest

from client.privacy.budget import LEDGER_FILE, open_ledger
from client.privacy.receipts import receipts_path
from client.privacy.retirement import RETIRED_FOLDER, retire, retired_path
from common.errors import InputError, LedgerError
from common.privacy.ledger.entry import Entry
from common.privacy.ledger.export import export_ledger, read_ledger
from common.privacy.ledger.ledger import Ledger
from common.privacy.ledger.signing_key import key_path
from tests.support.ledgers import pay
from tests.support.shops import command


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "shop" / "node" / LEDGER_FILE
    pay(open_ledger(path, "shop"))
    receipts_path(path).write_text("{}")
    return path


def names(folder):
    """What is there, but for the two files that SQLite makes and removes as it likes."""
    return {one.name for one in folder.iterdir() if not one.name.endswith(("-wal", "-shm"))}


def test_a_retired_ledger_is_kept_whole_and_named_beside_the_next(path):
    signer = open_ledger(path, "shop").signer
    folder = retire(path, "shop", "sold to another owner")
    (body, *_) = [line for line in retired_path(path).read_text().splitlines() if line]
    assert "sold to another owner" in body
    kept = read_ledger(export_ledger(folder / path.name), signer, "shop")
    assert [one.kind for one in kept] == ["train", "retired"]
    assert kept[-1].reason == "sold to another owner"
    assert Entry.from_body(kept[-1].body()) == kept[-1]
    assert kept[-1].event is None
    assert names(path.parent) == {RETIRED_FOLDER, f"{LEDGER_FILE}.retired.jsonl"}
    assert (folder / receipts_path(path).name).exists()
    assert key_path(folder / path.name).stat().st_mode & 0o077 == 0
    assert open_ledger(path, "shop").entries() == ()  # the next one, under a key of its own
    assert open_ledger(path, "shop").signer != signer


def test_each_retirement_is_one_line_more(path):
    retire(path, "shop", "first")
    pay(open_ledger(path, "shop"))
    retire(path, "shop", "second")
    assert len(retired_path(path).read_bytes().splitlines()) == 2
    assert len(list((path.parent / RETIRED_FOLDER).iterdir())) == 2


@pytest.mark.parametrize(
    ("merchant", "reason", "field"), [("other", "why", "merchant"), ("shop", " ", "reason")]
)
def test_a_wrong_name_or_no_reason_moves_nothing(path, merchant, reason, field):
    before = names(path.parent)
    with pytest.raises(LedgerError) as caught:
        retire(path, merchant, reason)
    assert caught.value.field == field
    assert names(path.parent) == before
    pay(open_ledger(path, "shop"), 2)


def test_a_retirement_that_was_cut_short_pays_for_nothing_and_can_be_ended(path):
    ledger = open_ledger(path, "shop")
    Ledger.open(path, "shop").retire("why")
    with pytest.raises(LedgerError) as caught:
        pay(ledger, 2)
    assert caught.value.field == "retired"
    retire(path, "shop", "why")
    assert not path.exists()
    assert len(retired_path(path).read_bytes().splitlines()) == 1


def test_the_command_asks_to_be_meant(path, tmp_path):
    ask = ["client", "retire-ledger", "shop", "--shop", str(path.parent.parent), "--reason", "why"]
    done = command(ask, tmp_path)
    assert isinstance(done.exception, InputError)
    assert path.exists()
    done = command([*ask, "--yes-what-was-spent-is-forgotten"], tmp_path)
    assert done.exception is None, done.output
    assert not path.exists()
    assert "on record" in done.output
