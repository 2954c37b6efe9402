"""An upgrade in the middle of a run: what an older version left on disk is gone on with.

`tests/support/older_run.tar.gz` is what `Town.run(rounds=2)` of tests/support/ledger_node.py left,
as the code before ADR 0049 ran it: checkpoint, journal with its key, ledgers, receipts.
"""

import tarfile
from collections import Counter
from pathlib import Path

import pytest

from common.errors import InputError
from server.monitoring.journal_view import read_view
from tests.support.fake_node import shops
from tests.support.ledger_node import ONCE, Town, refused, town

__all__ = ["shops", "town"]  # fixtures
pytestmark = pytest.mark.faults
OLDER = Path(__file__).parents[1] / "support" / "older_run.tar.gz"
NAMES = ("ash", "birch", "cedar")


@pytest.fixture
def older(shops, tmp_path):
    """That run's town, after its second round."""
    with tarfile.open(OLDER) as packed:
        packed.extractall(tmp_path / "older", filter="data")
    return Town(tmp_path / "older", shops)


def test_a_run_goes_on_with_the_newer_version(older, town):
    """Stopped after round 2 by the older version: each round is charged once, and counts."""
    assert older.charged() == {
        name: Counter([("popularity", 0), ("train", 1), ("train", 2)]) for name in NAMES
    }
    strategy = older.run()
    assert [one.participants for one in strategy.history] == [3] * 6
    assert older.charged() == dict.fromkeys(NAMES, ONCE)
    assert strategy.state.adapter.digest == town.run().state.adapter.digest
    view = read_view(older.run_folder)
    assert [one.round_number for one in view.runs[0].rounds] == [1, 2, 3, 4, 5, 6]
    assert view.refusals == ()


def test_a_run_whose_settings_the_newer_version_reads_otherwise(older):
    """A setting more: refused by its digest, uncharged; another run goes on with the ledgers."""
    before = older.charged()
    settings = {**older.setup().settings, "aggregation": "mean"}
    with refused(InputError, "settings_digest"):
        older.run(settings=settings)
    assert older.charged() == before
    folder = older.root / "second"
    strategy = older.run(settings=settings, folder=folder)
    assert [one.participants for one in strategy.history] == [3] * 6
    assert older.charged() == {name: before[name] + ONCE for name in NAMES}
    assert older.refusals() == []
