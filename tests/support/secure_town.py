"""Eight nodes without a model whose noise is shared: ledgers, parties, masks and journal are real.

What each node masks is kept by `SecureTown.made`, so that a sum can be held against plain addition.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Message

from client.app import app
from client.node.secure_party import Agreed, SecureParty
from client.node.session import close_nodes
from client.privacy.budget import LEDGER_FILE, charge_round
from client.privacy.policy import Policy
from common.federation.contribution_files import FOLDER
from common.identity.signing_key import PublicKey
from common.privacy.ledger.journal import read_journal
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.clipping import clip_and_sum
from common.privacy.mechanism.noise import NoiseSource
from common.privacy.mechanism.shares import protect_share
from common.privacy.secagg.replay import sum_again
from common.privacy.secagg.transcript import Transcript
from common.settings.run import run_digest
from server.run.cohort import Quorum
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import LOCAL, SEASON_ENDS, SEASON_SIZE, SIZE, WIDTH, make_setup, seeded
from tests.support.ledger_node import DATASET, LedgerWork

NAMES = tuple(f"shop-{place}" for place in range(8))
PLAN = replace(
    LOCAL,
    dp_model="distributed",
    noise_multiplier=2.0,
    season_noise_multiplier=3.0,
    merchants=8,
    spared=2,
    steps=3,
)
BARE = replace(
    PLAN, popularity_noise_multiplier=0.0, season_noise_multiplier=0.0, steps=2
)  # updates alone: sum n is round n
POLICY = Policy(
    max_epsilon=90.0,
    max_run_epsilon=90.0,
    delta=1e-3,
    min_noise_multiplier=0.0,
    dp_models=("distributed",),
)


class SecureWork(LedgerWork):
    """Makes shares of made-up rows, each under a charge of the ledger in the node's folder."""

    policy = POLICY
    made: dict = {}  # noqa: RUF012 - one town at a time: `SecureTown` empties it

    def prepare(self, basis, settings):
        self.setup = run_digest(settings, basis)
        return super().prepare(basis, settings)

    def _share(self, plan, run_id, number, kind, width):
        self.before(kind, number)
        charge = charge_round(self.ledger, plan, self.policy, str(run_id), number, kind)
        self.after(kind, number)
        rows = seeded("rows", self.merchant, kind, number).normal(size=(5, width))
        clipped = clip_and_sum(rows, plan.clip_norm(kind))
        share = protect_share(clipped, charge, NoiseSource.secure())
        self.made[self.merchant, kind, number] = share.integers
        return share

    def popularity_share(self, plan, run_id, index):
        return self._share(plan, run_id, 0, "popularity", len(index))

    def season_share(self, plan, run_id):
        return self._share(plan, run_id, 0, "season", SEASON_SIZE)

    def train_share(self, adapter, popularity, plan, run_id, round_number):
        return self._share(plan, run_id, round_number, "train", adapter.size)

    def party(self, plan, run_id):
        agreed = Agreed(SIZE, SEASON_SIZE, self.setup)
        state = self.ledger.path.parent
        return SecureParty(state, self.ledger, plan, run_id, agreed, self.policy.min_cohort)


class LossyGrid(InProcessGrid):
    """Loses what `loses` names: (message type's last word, place, how often it came) -> when.

    `before`: the node never sees the message; `after`: it does, and its answer is lost. What `asks`
    names is changed on its way to a node, as a server that lies would.
    """

    restarts = False  # whether each message comes to a new process

    def __init__(self, *arguments, loses=None, asks=None):
        super().__init__(*arguments)
        self.loses, self.asks, self.count = loses or {}, asks or {}, Counter()

    def _deliver(self, message):
        kind = message.metadata.message_type.rpartition(".")[2]
        place = message.metadata.dst_node_id - 1000
        self.count[kind, place] += 1
        which = (kind, place, self.count[kind, place])
        if which in self.asks:
            content = self.asks[which](message.content)
            message = _with_content(message, content)
        if self.restarts:
            close_nodes()
        if self.loses.get(which) == "before":
            return None
        reply = super()._deliver(message)
        return None if self.loses.get(which) == "after" else reply

    def pull_messages(self, message_ids):
        return [one for one in super().pull_messages(message_ids) if one is not None]


def _with_content(message, content):
    changed = Message(
        content, message.metadata.dst_node_id, message.metadata.message_type, ttl=60.0
    )
    changed.metadata.__dict__.update(message.metadata.__dict__)
    return changed


class SecureTown:
    """Eight merchants' folders, a server's folder, and runs that go on where they stopped."""

    def __init__(self, root, shops):
        self.federation, self.run_folder = root / "federation", root / "run"
        for name in NAMES:
            (self.federation / name).mkdir(parents=True)
        shops.make = SecureWork
        SecureWork.made = {}
        self.made = SecureWork.made
        self.run_id = 0

    def setup(self, **changes):
        values = {
            "plan": PLAN,
            "season_ends": SEASON_ENDS,
            "vector_width": WIDTH,
            "quorum": Quorum(6, 0.5, 0.0),
            "folder": self.run_folder,
            "journal": self.run_folder / "journal.jsonl",
        }
        return make_setup(**values | changes)

    def run(self, *, rounds=None, loses=None, asks=None, new_run=True, **changes):
        close_nodes()
        self.run_id += new_run
        config = {"federation": str(self.federation)}
        self.grid = LossyGrid(app, len(NAMES), config, self.run_id, loses=loses, asks=asks)
        strategy = self.strategy = FedtailStrategy(self.setup(**changes))
        strategy.start(self.grid, num_rounds=rounds)
        return strategy

    def ledger(self, name):
        return Ledger.open(self.federation / name / "node" / LEDGER_FILE, name, DATASET)

    def charged(self, name):
        return Counter(
            (one.kind, one.round_number) for one in self.ledger(name).entries() if one.run_id
        )

    def identities(self):
        return {name: PublicKey(bytes.fromhex(self.ledger(name).signer)) for name in NAMES}

    def journal(self, kind=None):
        entries = read_journal((self.run_folder / "journal.jsonl").read_bytes())
        return [one for one in entries if kind in {None, one.kind}]

    def transcript(self, name):
        return Transcript.from_bytes((self.run_folder / FOLDER / name).read_bytes())

    def sum_of(self, name):
        return sum_again(self.transcript(name), self.identities())

    def plain_sum(self, kind, number, names):
        rows = [self.made[name, kind, number] for name in names]
        return np.sum(rows, axis=0, dtype=np.int64).view(np.uint64)


@pytest.fixture
def secure_town(shops, tmp_path):
    return SecureTown(tmp_path, shops)


__all__ = ["BARE", "NAMES", "PLAN", "SecureTown", "SecureWork", "secure_town"]
