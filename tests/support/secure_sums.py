"""Parties and a server of a secure sum in one process, for tests: nobody sends, they are called."""

import numpy as np
import pytest

from common.errors import PrivacyError, SecureSumError
from common.identity.signing_key import SigningKey
from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.messages import Binding, Terms, UnmaskRequest, ViewRequest
from common.privacy.secagg.server import SecureSumServer
from common.privacy.secagg.setup import Party
from common.privacy.secagg.topology import topology

PLAN = "p" * 64
_KEYS = {}


def signing_key(name):
    """Return the enrolment key of a name: the same in each sum, as enrolment is once."""
    return _KEYS.setdefault(name, SigningKey.in_memory())


class SumTown:
    """N parties after setup, and an honest server; `run_round` takes them through a round.

    `rounds` are few, as each costs keys and shares at setup.
    """

    def __init__(
        self,
        parties,
        *,
        rounds=1,
        length=5,
        least_cohort=2,
        shape_of=topology,
        setup=True,
        run_id="7",
        plan=PLAN,
    ):
        self.terms = Terms(run_id, plan, rounds, length)
        self.names = [f"m{number:03d}" for number in range(parties)]
        self.identities = {name: signing_key(name).public for name in self.names}
        self.shape_of = shape_of
        self.clients = {
            name: SecureSumClient(self.terms, self.party(name, least_cohort)) for name in self.names
        }
        self.server = SecureSumServer(self.terms, self.identities, shape_of=shape_of)
        if setup:
            self.set_up()

    def party(self, name, least_cohort=2):
        return Party(name, signing_key(name), self.identities, least_cohort, self.shape_of)

    def set_up(self, order=None):
        order = order or self.names
        for name in order:
            self.server.receive_advertisement(self.clients[name].advertise())
        self.roster = self.server.roster()
        for name in order:
            self.server.receive_shares(self.clients[name].share(self.roster))
        for name in order:
            self.clients[name].accept(self.server.sealed_for(name))

    def binding(self, phase, number=1, **changed):
        fields = {
            "run_id": self.terms.run_id,
            "round_number": number,
            "phase": phase,
            "plan_digest": self.terms.plan_digest,
            "roster": self.roster.digest,
        }
        return Binding(**(fields | changed))

    def view_request(self, missing=(), number=1):
        there = tuple(name for name in self.names if name not in missing)
        return ViewRequest(self.binding("view", number), there, tuple(missing))

    def unmask_request(self, missing=(), views=(), number=1):
        asked = self.view_request(missing, number)
        return UnmaskRequest(
            self.binding("unmask", number), asked.survivors, asked.dropouts, tuple(views)
        )

    def vectors(self, chance):
        """Return a vector of any integers for each party."""
        return {
            name: chance.integers(-(2**63), 2**63 - 1, self.terms.length, endpoint=True)
            for name in self.names
        }

    def mask_all(self, vectors, number=1, missing=()):
        """Return all masked vectors of a round, by name, received by nobody."""
        request = self.server.start(number)
        return {
            name: self.clients[name].mask(request, vectors[name])
            for name in self.names
            if name not in missing
        }

    def run_round(self, vectors, number=1, *, gone_before=(), gone_after=(), chance=None):
        """Take a round from start to finish.

        Args:
            vectors: By name.
            number: Of the round.
            gone_before: Who masks nothing.
            gone_after: Who masks, signs the view, and then answers no more.
            chance: Shuffles who answers first, in each phase; without it names do.
        """

        def shuffled(messages):
            messages = list(messages)
            if chance is not None:
                chance.shuffle(messages)
            return messages

        masked = self.mask_all(vectors, number, gone_before)
        for message in shuffled(masked.values()):
            self.server.receive_masked(message)
        request = self.server.close()
        if isinstance(request, ViewRequest):
            for name in shuffled(masked):
                self.server.receive_view(self.clients[name].view(request))
            request = self.server.unmask_request()
        for name in shuffled(name for name in masked if name not in gone_after):
            self.server.receive_unmask(self.clients[name].unmask(request))
        return self.server.finish()


def plain_sum(vectors, names):
    """Return the sum modulo 2^64 in Python's own integers."""
    rows = [vectors[name].tolist() for name in names]
    return np.array([sum(column) % 2**64 for column in zip(*rows, strict=True)], dtype=np.uint64)


def refused(code, function, *arguments):
    """Assert that a request is refused with a code, which is a promise broken and no mishap."""
    with pytest.raises(SecureSumError) as error:
        function(*arguments)
    assert isinstance(error.value, PrivacyError)
    assert error.value.public() == f"secure_sum:{code}"
