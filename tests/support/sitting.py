"""One node's party on disk, six others in memory, and an honest server between them."""

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from client.node.secure_party import Agreed, SecureParty
from client.privacy.budget import charge_round
from common.errors import SecureSumError
from common.identity.introduction import Introduction
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.clipping import clip_and_sum
from common.privacy.mechanism.noise import NoiseSource
from common.privacy.mechanism.shares import protect_share
from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.messages import UnmaskRequest, View, ViewRequest, view_digest
from common.privacy.secagg.server import SecureSumServer
from common.privacy.secagg.setup import Party
from common.privacy.secagg.slots import terms_of
from common.wire.secure_sum import Company, Dealt
from tests.support.secure_sums import signing_key
from tests.support.secure_town import POLICY

PLAN = PrivacyPlan(
    sample_rate=0.5,
    steps=4,
    noise_multiplier=2.0,
    max_grad_norm=1.0,
    size_bracket=100,
    delta=1e-3,
    dp_model="distributed",
    merchants=7,
    spared=2,
)
WIDTH, RUN, ME = 6, 7, "a"
OTHERS = ("b", "c", "d", "e", "f", "g")
NAMES = (ME, *OTHERS)
AGREED = Agreed(WIDTH, 0, "s" * 64)
TERMS = terms_of(PLAN, str(RUN), train=WIDTH, setup=AGREED.setup)


class Sitting:
    """One node with its folder, six parties in memory, and an honest server between them."""

    def __init__(self, state):
        self.state = state
        self.seen = 0
        self.ledger = Ledger.open(state / "ledger.sqlite", ME, "data")
        self.set_up()

    def party(self, **changes):
        """The node in a process of its own, that knows what Flower's context tells it."""
        given = {
            "state": self.state,
            "ledger": Ledger.open(self.state / "ledger.sqlite", ME),
            "plan": PLAN,
            "run_id": RUN,
            "agreed": AGREED,
            "least_cohort": 1,
        }
        party = SecureParty(**given | changes)
        party.seen = self.seen
        return party

    def ask(self, what, *arguments):
        party = self.party()
        try:
            return getattr(party, what)(*arguments)
        finally:
            self.seen = party.seen

    def set_up(self):
        told = self.ask("advertise", 0)
        key = self.ledger.signing_key.public
        self.keys = {ME: key} | {name: signing_key(name).public for name in OTHERS}
        self.server = SecureSumServer(TERMS, self.keys)
        self.others = {
            name: SecureSumClient(TERMS, Party(name, signing_key(name), self.keys))
            for name in OTHERS
        }
        self.server.receive_advertisement(told.advertisement)
        for one in self.others.values():
            self.server.receive_advertisement(one.advertise())
        self.company = Company(
            tuple(Introduction(name, self.keys[name].raw) for name in NAMES), self.server.roster()
        )
        self.server.receive_shares(self.ask("share", self.company))
        for one in self.others.values():
            self.server.receive_shares(one.share(self.company.roster))
        self.ask("accept", Dealt(self.server.sealed_for(ME)))
        for name, one in self.others.items():
            one.accept(self.server.sealed_for(name))

    def share(self, number=1, plan=PLAN):
        """What a round makes of the shoppers, charged: another each time."""
        charge = charge_round(self.ledger, plan, POLICY, str(RUN), number, "train")
        return protect_share(clip_and_sum(np.zeros((0, WIDTH)), 1.0), charge, NoiseSource.secure())

    def start(self, number=1):
        return self.server.start(number)

    def masked(self, number=1):
        request = self.start(number)
        return self.ask("mask", request, self.share(number))

    def view_request(self, missing=(), number=1):
        there = tuple(name for name in NAMES if name not in missing)
        return ViewRequest(self.server._binding("view"), there, tuple(missing))

    def unmask_request(self, missing=()):
        asked = self.view_request(missing)
        digest = view_digest(asked.survivors, asked.dropouts)
        signed = [
            View(name, b"", asked.binding, digest).signed(signing_key(name))
            for name in OTHERS
            if name not in missing
        ]
        binding = replace(asked.binding, phase="unmask")
        views = tuple(signed) if missing else ()
        return UnmaskRequest(binding, asked.survivors, asked.dropouts, views)

    def charged(self):
        return Counter(one.round_number for one in self.ledger.entries() if one.run_id)


def put_back(sitting, copy, what):
    """Put a copy of the party alone, or of the folder with its ledger, where the node has its."""
    if what == "party":
        (path,) = copy.glob("secure-sum/run-*.party")
        shutil.copy(path, sitting.state / "secure-sum" / path.name)
        return
    sitting.ledger = None
    shutil.rmtree(sitting.state)
    shutil.copytree(copy, sitting.state)
    sitting.ledger = Ledger.open(sitting.state / "ledger.sqlite", ME)


@pytest.fixture
def sitting(tmp_path):
    return Sitting(tmp_path / "node")


def refused(code, function, *arguments):
    with pytest.raises(SecureSumError) as caught:
        function(*arguments)
    assert caught.value.public() == f"secure_sum:{code}"
