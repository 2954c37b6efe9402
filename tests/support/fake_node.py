"""A node's work without a model: numbers that depend only on the merchant's name and the round.

It stands in for `client.node.participant`; Flower's own classes around it are the real ones.
"""

import hashlib
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import ArrayRecord

from common.adapter import AdapterState, AdapterUpdate
from common.federation.optimiser import AdamScalar
from common.privacy.accounting.accountants import MechanismEvent
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.contributions import Contribution, vector_digest
from common.privacy.ledger.heads import Head
from common.wire import messages
from common.wire.messages import Prepared
from server.run.cohort import Quorum
from server.run.strategy import RunSetup

SIZE = 12
SEASON_ENDS, WIDTH = (10, 20), 4
SEASON_SIZE = 8
LOCAL = PrivacyPlan(
    sample_rate=0.5,
    steps=6,
    noise_multiplier=1.0,
    max_grad_norm=1.0,
    size_bracket=100,
    delta=1e-3,
    dp_model="local",
    popularity_noise_multiplier=2.0,
)


SEASONAL = replace(LOCAL, season_noise_multiplier=3.0)


def seasonal(**changes):
    """A run that takes a season of two ends, four numbers each."""
    values = {"plan": SEASONAL, "season_ends": SEASON_ENDS, "vector_width": WIDTH}
    return make_setup(**values | changes)


def seeded(*parts):
    """A generator that depends on `parts` alone."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


class FakeWork:
    """What `client.node.participant.MerchantWork` does; `calls` tells what it was asked."""

    def __init__(self, settings):
        self.merchant = settings.merchant
        self.calls = []
        self.metrics = {"epsilon": 1.0}
        self.raises = None

    def _called(self, name, *arguments):
        self.calls.append((name, *arguments))
        if self.raises is not None:
            raise self.raises

    @property
    def signing_key(self):
        return Ed25519PrivateKey.from_private_bytes(seeded("key", self.merchant).bytes(32))

    @property
    def keys(self):
        own = seeded("keys", self.merchant).integers(1, 2**63, 3, dtype=np.uint64)
        return np.concatenate([np.array([5, 7, 11], dtype=np.uint64), own])

    def prepare(self, basis, settings):
        self._called("prepare", basis, dict(settings))
        return Prepared(self.merchant, "catalogue", self.keys)

    def popularity(self, plan, run_id, round_number):
        self._called("popularity", plan.digest, run_id, round_number)
        noise = seeded("popularity", self.merchant).normal(0, plan.noise_std("popularity"), 6)
        return (np.arange(6) + noise).astype(np.float32)

    def season(self, plan, run_id):
        self._called("season", plan.digest, run_id)
        noise = seeded("season", self.merchant).normal(0, plan.noise_std("season"), SEASON_SIZE)
        return (np.arange(SEASON_SIZE) + noise).astype(np.float32)

    def train(self, adapter, popularity, plan, run_id, round_number):
        self._called("train", popularity, run_id, round_number)
        target = seeded("target", self.merchant).normal(size=adapter.size)
        noise = seeded("noise", self.merchant, round_number).normal(size=adapter.size) * 0.1
        vector = (adapter.flatten() - target + noise).astype(np.float32)
        return AdapterUpdate(vector, round_number, plan.digest)

    def accept(self, note):
        if note is not None and note.receipt is not None:
            self.covers = note.receipt.head.hash

    def head(self, journal):
        """As of a ledger with one entry a use, kept in memory."""
        uses = [call for call in self.calls if call[0] != "prepare"]
        spent = (MechanismEvent(0.5, 1.0, len(uses)),) if uses else ()
        covers = getattr(self, "covers", "")
        head = Head(self.merchant, len(uses), f"{len(uses):064x}", "", spent, covers)
        key = self.signing_key
        head = replace(head, signer=key.public_key().public_bytes_raw().hex())
        return head.signed(key.sign(head.message()))

    def contribution(self, vector, purpose):
        key = self.signing_key
        signer = key.public_key().public_bytes_raw().hex()
        one = Contribution(self.merchant, purpose, vector_digest(vector), signer)
        return one.signed(key.sign(one.message()))

    def commitment(self, plan, run_id):
        return ""

    def revealed_canaries(self, plan, run_id):
        return None

    def public_metrics(self):
        return self.metrics


class FakeShops(types.ModuleType):
    """What is put in the place of `client.node.participant`; keeps each merchant's latest work."""

    def __init__(self):
        super().__init__("client.node.participant")
        self.works = {}
        self.make = FakeWork

    def MerchantWork(self, settings):  # noqa: N802 - it stands for the class
        self.works[settings.merchant] = self.make(settings)
        return self.works[settings.merchant]


@pytest.fixture
def shops(monkeypatch):
    """Fake nodes instead of `client.node.participant`, and no node open from another test."""
    from client.node import session

    fake = FakeShops()
    monkeypatch.setitem(sys.modules, "client.node.participant", fake)
    session.close_nodes()
    yield fake
    session.close_nodes()


@pytest.fixture
def federation(tmp_path):
    """A folder with three merchants."""
    for name in ("ash", "birch", "cedar"):
        (tmp_path / "federation" / name).mkdir(parents=True)
    return tmp_path / "federation"


def make_setup(**changes):
    """A run of six rounds over three nodes, small enough to take milliseconds."""
    values = {
        "adapter": AdapterState({"b": np.zeros((3, 4), dtype=np.float32)}),
        "basis": b"public tensors",
        "plan": LOCAL,
        "settings": {"objective": "softmax", "seed": 3},
        "optimiser": AdamScalar(),
        "learning_rate": 0.1,
        "schedule": "cosine",
        "quorum": Quorum(minimum=3, fraction=1.0, wait_seconds=0.0),
    }
    return RunSetup(**values | changes)


def arrays_of(result):
    """The numbers in a result's final arrays."""
    assert isinstance(result.arrays, ArrayRecord)
    return messages.read_adapter(result.arrays).flatten()
