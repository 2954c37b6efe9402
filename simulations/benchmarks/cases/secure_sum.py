"""What the secure sum costs a client: seconds of computing, and bytes that it sends and receives.

A few clients are real. The others only hold keys and signatures that the real ones check; their
masked vectors are never made, so a thousand parties fit into a minute of a small machine.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Final, TypeVar

import numpy as np

from common.identity.signing_key import SigningKey
from common.privacy.mechanism.clipping import clip_and_sum
from common.privacy.mechanism.fixed_point import NoisyIntegers
from common.privacy.mechanism.noise import NoiseSource
from common.privacy.secagg.client import SecureSumClient
from common.privacy.secagg.messages import (
    Binding,
    MaskRequest,
    Phase,
    Roster,
    Terms,
    UnmaskRequest,
    View,
    ViewRequest,
    view_digest,
)
from common.privacy.secagg.setup import Party, Setup
from common.privacy.secagg.shamir import SHARE_BYTES
from common.privacy.secagg.topology import topology
from simulations.benchmarks.rows import Row

NUMBERS: Final = 150_000
ROUNDS: Final = 40  # of a run: keys and shares for all of them are told before the first
SECONDS_LIMIT: Final = 1.0
BYTES_LIMIT: Final = 1_500_000
TARGET_PARTIES: Final = 64
_REPEATS: Final = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one client's part costs: processor seconds, and bytes before compression."""

    seconds: float
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class MeasuredSum:
    """What a client pays.

    Attributes:
        parties: N.
        degree: How many neighbours it has.
        setup: Once a run: keys, checks, shares.
        masked: A round's masked vector, quantised and with its share of the noise.
        whole: A round from the request to the shares, with as many missing as may be.
        noise_seconds: Of the noise alone, contained in `masked` and `whole`.
    """

    parties: int
    degree: int
    setup: Cost
    masked: Cost
    whole: Cost
    noise_seconds: float


def measure_sum(parties: int) -> MeasuredSum:
    """Measure one real client among `parties`, over a few rounds; the median round counts."""
    crowd = _Crowd(parties)
    setup = crowd.set_up()
    clipped = clip_and_sum(np.zeros((0, NUMBERS)), 1.0)
    noisy = NoisyIntegers.of(
        noise_multiplier=2.0,
        max_grad_norm=1.0,
        parties=parties,
        spared=parties // 3,
        width=NUMBERS,
    )
    source = NoiseSource.secure()
    masked, whole, noise = [], [], []
    for number in range(1, _REPEATS + 1):
        integers, noise_seconds = _timed(lambda: noisy.noised(clipped, source))
        one, other = crowd.take_round(number, integers, noise_seconds)
        masked.append(one)
        whole.append(other)
        noise.append(noise_seconds)
    by_seconds = sorted(range(_REPEATS), key=lambda place: whole[place].seconds)
    middle = by_seconds[_REPEATS // 2]
    return MeasuredSum(
        parties, topology(parties).degree, setup, masked[middle], whole[middle], noise[middle]
    )


class _Crowd:
    """One real client, and a crowd of which only keys and signatures are real."""

    def __init__(self, parties: int) -> None:
        self.shape = topology(parties)
        self.terms = Terms("bench", "0" * 64, ROUNDS, NUMBERS)
        self.keys = {f"m{number:05d}": SigningKey.in_memory() for number in range(parties)}
        self.names = tuple(self.keys)
        identities = {name: key.public for name, key in self.keys.items()}
        self.me = self.names[0]
        self.parties = {name: Party(name, key, identities) for name, key in self.keys.items()}
        self.client = SecureSumClient(self.terms, self.parties[self.me])
        self.digest = ""

    def set_up(self) -> Cost:
        """Make the roster; have the neighbours deal shares to the one client, and it to them."""
        others = {
            name: _Dealer(self.terms, party)
            for name, party in self.parties.items()
            if name != self.me
        }
        told = {name: one.advertise() for name, one in others.items()}
        own, seconds = _timed(self.client.advertise)
        told[self.me] = own
        roster = Roster(self.shape.threshold, tuple(told[name] for name in self.names))
        self.digest = roster.digest
        dealt, more = _timed(lambda: self.client.share(roster))
        sealed = {name: others[name].share(roster).sealed[self.me] for name in dealt.sealed}
        _, last = _timed(lambda: self.client.accept(sealed))
        return Cost(seconds + more + last, _size(own) + _size(dealt), _size(roster) + _size(sealed))

    def take_round(
        self, number: int, integers: np.ndarray, noise_seconds: float
    ) -> tuple[Cost, Cost]:
        """Take one round, and return the cost of its first message and of all."""
        request = MaskRequest(self._binding("mask", number), NUMBERS)
        message, seconds = _timed(lambda: self.client.mask(request, integers))
        masked = Cost(seconds + noise_seconds, _size(message), _size(request))
        there = self.names[: self.shape.least_survivors]
        missing = self.names[self.shape.least_survivors :]
        asked = ViewRequest(self._binding("view", number), there, missing)
        view, more = _timed(lambda: self.client.view(asked))
        digest = view_digest(there, missing)
        views = tuple(
            View(name, b"", asked.binding, digest).signed(self.keys[name])
            for name in there[: self.shape.quorum]
        )
        last = UnmaskRequest(self._binding("unmask", number), there, missing, views)
        reply, end = _timed(lambda: self.client.unmask(last))
        return masked, Cost(
            masked.seconds + more + end,
            masked.sent + _size(view) + _size(reply),
            masked.received + _size(asked) + _size(last),
        )

    def _binding(self, phase: Phase, number: int) -> Binding:
        return Binding("bench", number, phase, self.terms.plan_digest, self.digest)


class _Dealer(Setup):
    """A party of the crowd: it checks nothing, and deals any bytes: to open they cost the same."""

    def _check_roster(self, roster: Roster) -> None:
        pass

    def _deal(self, around: tuple[int, ...], threshold: int) -> dict[int, bytes]:
        del threshold
        shares = secrets.token_bytes(2 * SHARE_BYTES * ROUNDS)
        return dict.fromkeys(around, shares)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what came of it, and the processor's seconds: other processes do not count."""
    began = time.process_time()
    done = work()
    return done, time.process_time() - began


def _size(message: object) -> int:
    """Return how many bytes a message holds: texts, numbers of 32 bytes, arrays as they are."""
    if isinstance(message, np.ndarray):
        return message.nbytes
    if isinstance(message, bytes | str):
        return len(message)
    if isinstance(message, int):
        return 32
    if isinstance(message, Mapping):
        return sum(_size(key) + _size(value) for key, value in message.items())
    if isinstance(message, tuple):
        return sum(map(_size, message))
    if is_dataclass(message):
        return sum(_size(getattr(message, one.name)) for one in fields(message))
    raise TypeError(type(message).__name__)


def sum_rows(parties: int) -> Iterator[Row]:
    """Yield what one of so many merchants pays; the target is for 64 of them, and for any fewer."""
    found = measure_sum(parties)
    told = (
        f"a secure sum of {NUMBERS:,} numbers, {parties:,} merchants, {found.degree} neighbours: "
    )
    bound = parties <= TARGET_PARTIES
    for what, cost in (("once a run", found.setup), ("a round, most missing", found.whole)):
        whole = bound and cost is found.whole
        limits = (SECONDS_LIMIT, BYTES_LIMIT / 1e6) if whole else (None, None)
        yield Row(what=f"{told}{what}", figure=cost.seconds, unit="s", target=limits[0])
        yield Row(what=f"{told}{what}, sent", figure=cost.sent / 1e6, unit="MB", target=limits[1])
        yield Row(what=f"{told}{what}, received", figure=cost.received / 1e6, unit="MB")
    yield Row(what=f"{told}of a round its noise", figure=found.noise_seconds, unit="s")


def rows() -> Iterator[Row]:
    """Yield the costs among eight merchants and among 64."""
    yield from sum_rows(8)
    yield from sum_rows(TARGET_PARTIES)
