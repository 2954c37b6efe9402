"""A node without a model whose ledger, receipts and policy are the real ones, on disk.

Its updates depend on merchant, round and adapter only, so a round that is trained twice gives the
same numbers, as seeded noise does.
"""

import contextlib
from collections import Counter
from dataclasses import replace

import pytest

from client.app import app
from client.node.session import close_nodes
from client.node.settings import merchant_folders
from client.privacy.budget import LEDGER_FILE, charge_round
from client.privacy.contributions import sign_contribution
from client.privacy.policy import Policy
from client.privacy.receipts import accept, covered
from common.errors import FedtailError
from common.privacy.ledger.journal import read_journal
from common.privacy.ledger.ledger import Ledger
from server.run.checkpoint import read_checkpoint
from server.run.cohort import Quorum
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import LOCAL, FakeWork, make_setup

POLICY = Policy(max_epsilon=60.0, max_run_epsilon=60.0, delta=1e-3, min_noise_multiplier=0.0)
DATASET = "the shop's data"


class LedgerWork(FakeWork):
    """Charges the ledger in the node's folder, and then makes its fake numbers.

    `before` and `after` are called with (merchant, kind, round) around each charge.
    """

    policy = POLICY

    def __init__(self, settings):
        super().__init__(settings)
        self.ledger = Ledger.open(settings.state / LEDGER_FILE, self.merchant, DATASET)

    def before(self, kind, number):
        pass

    def after(self, kind, number):
        pass

    def _charged(self, plan, run_id, number, kind):
        self.before(kind, number)
        charge_round(self.ledger, plan, self.policy, str(run_id), number, kind)
        self.after(kind, number)

    def popularity(self, plan, run_id, round_number):
        self._charged(plan, run_id, round_number, "popularity")
        return super().popularity(plan, run_id, round_number)

    def season(self, plan, run_id):
        self._charged(plan, run_id, 0, "season")
        return super().season(plan, run_id)

    def train(self, adapter, popularity, plan, run_id, round_number):
        self._charged(plan, run_id, round_number, "train")
        return super().train(adapter, popularity, plan, run_id, round_number)

    def accept(self, note):
        accept(self.ledger, note)

    def contribution(self, vector, purpose):
        return sign_contribution(self.ledger, vector, purpose)

    def head(self, journal):
        return self.ledger.signed_head(covered(self.ledger, journal))


class Town:
    """Three merchants' folders, a server's folder, and runs that go on where they stopped."""

    plan = replace(LOCAL, noise_multiplier=2.0)

    def __init__(self, root, shops):
        self.root, self.shops = root, shops
        self.federation, self.run_folder = root / "federation", root / "run"
        for name in ("ash", "birch", "cedar"):
            (self.federation / name).mkdir(parents=True, exist_ok=True)
        shops.make = LedgerWork
        self.quorum = Quorum(1, 0.5, 0.0)
        self.run_id = 0

    def setup(self, **changes):
        values = {
            "plan": self.plan,
            "quorum": self.quorum,
            "folder": self.run_folder,
            "journal": self.run_folder / "journal.jsonl",
        }
        return make_setup(**values | changes)

    def grid(self, kind=InProcessGrid):
        """New processes on all nodes, under a new run's number, as a start in Flower gives."""
        close_nodes()
        self.run_id += 1
        return kind(app, 3, {"federation": str(self.federation)}, self.run_id)

    def run(self, grid=None, rounds=None, **changes):
        strategy = FedtailStrategy(self.setup(**changes))
        strategy.start(grid or self.grid(), num_rounds=rounds)
        return strategy

    def charged(self, name=None):
        """How often each (kind, round) is on a merchant's ledger; of all merchants without one."""
        if name is None:
            return {place.name: self.charged(place.name) for place in self.folders}
        ledger = Ledger.open(self.federation / name / "node" / LEDGER_FILE, name, DATASET)
        return Counter((one.kind, one.round_number) for one in ledger.entries())

    @property
    def folders(self):
        return merchant_folders(self.federation)

    def journal(self):
        return read_journal((self.run_folder / "journal.jsonl").read_bytes())

    def checkpoint(self):
        return read_checkpoint(self.run_folder)

    def refusals(self):
        return [(one.participants, one.reason) for one in self.journal() if one.kind == "refusal"]


ONCE = Counter([("popularity", 0), *(("train", number) for number in range(1, 7))])


@pytest.fixture
def town(shops, tmp_path):
    return Town(tmp_path, shops)


@contextlib.contextmanager
def refused(kind, field):
    """The block ends with an error of ours, of that class and field."""
    with pytest.raises(FedtailError) as caught:
        yield
    assert type(caught.value) is kind
    assert caught.value.field == field


__all__ = ["ONCE", "LedgerWork", "Town", "refused", "town"]
