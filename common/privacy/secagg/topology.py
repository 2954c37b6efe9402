"""Who masks with whom, and how many must agree: from the number of parties alone.

Up to 64 parties everybody masks with everybody, and holds a share of everybody's secrets. Beyond,
each has `degree` neighbours on a ring in an order that all parties' keys fix together (a Harary
graph on a random order: Bell, Bonawitz, Gascón, Lepoint, Raykova 2020, section 3).

**Complete graph.** N parties, c of them with the server, t of the N - 1 others open a secret, Q
equal views make a quorum. An honest party releases in a round either its share of somebody's self
mask or that of its key, in one view.

- A summand stays hidden if nobody can open both secrets of its party. Each of the N - 1 - c honest
  holders gives one share at most, each of the c others both: it takes 2t <= N - 1 + c. So
  t > (N - 1 + c) / 2, which t > 2(N - 1)/3 gives for c <= (N - 1)/3.
- Two views cannot both have a quorum if 2(Q - c) > N - c, as an honest party signs one: Q > 2N/3
  gives it for c < N/3.
- Where nobody is missing no views are exchanged. Whoever unmasks so has signed no other view, and
  signs none after. Beside a quorum for another view at most N - Q honest parties did so: with c
  they must not reach t, so c < t - (N - Q).

**Ring.** It holds against c <= N/5 with the server, and N/10 missing, whom the server may choose
after it has seen the ring; views are always exchanged, so honest parties act in one view. Then:

- no neighbourhood may hold t parties who are with the server, or they open a secret alone;
- the honest survivors must be connected, or the server learns the sums of the pieces. A ring with
  degree k falls apart only where two stretches of k/2 in a row are all missing or with the server.

Either of two rules makes sure of the second, and the one with fewer neighbours is taken:

- **Too few may be missing to cut the ring.** N/10 missing suffice for a cut only if k - N/10 of
  some two stretches are with the server. So k grows with N.
- **A cut opens nothing.** The last honest survivor before a cut has nobody honest left among its
  next k/2, and whoever is named missing gives no share: its self mask is opened by the k/2 behind
  it and by those of the next k/2 who are with the server. If t > k/2 + so many, it stays, and with
  it hides what its piece adds up to. So k grows with log N, and is less from 1,900 parties on.

The chances are hypergeometric tails over the order, times how many neighbourhoods, stretches or
pairs of them there are. The order is a hash of all keys, so somebody who controls a party can try
others: `GRINDING` is how many tries, in bits, are counted in, and `FAILURE` what remains.
"""

import hashlib
import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

COMPLETE: Final = 64  # parties up to which everybody masks with everybody
FAILURE: Final = 40  # bits: the chance that a ring hides less than it should is at most 2^-40
GRINDING: Final = 64  # bits: after 2^64 orders were tried
_LOST_ROUNDS: Final = 20  # bits: that a ring loses a round, where as many are missing as may be


@dataclass(frozen=True, slots=True)
class Topology:
    """What follows from the number of parties.

    Attributes:
        parties: N.
        degree: How many neighbours each has.
        threshold: t, how many neighbours' shares open one of its secrets.
        quorum: Q, how many equal signed views a party wants before it releases a share.
        least_survivors: How many summands a sum has at least.
        colluders: How many parties with the server it holds against.
        views_always: Whether views are exchanged also where nobody is missing.
    """

    parties: int
    degree: int
    threshold: int
    quorum: int
    least_survivors: int
    colluders: int
    views_always: bool


@lru_cache(maxsize=64)
def topology(parties: int) -> Topology:
    """Return the topology of `parties`, at least 2: the same for everybody.

    Raises:
        ValueError: if there are fewer than 2.
    """
    if parties < 2:
        raise ValueError("a sum has at least two parties")
    return _complete(parties) if parties <= COMPLETE else _ring(parties)


def _complete(parties: int) -> Topology:
    degree = parties - 1
    threshold = 2 * degree // 3 + 1
    quorum = 2 * parties // 3 + 1
    colluders = min(
        2 * threshold - degree - 1,
        2 * quorum - parties - 1,
        threshold - (parties - quorum) - 1,
    )
    # The holders of a survivor's shares are the other survivors.
    least = max(quorum, threshold + 1)
    return Topology(parties, degree, threshold, quorum, least, colluders, views_always=False)


def _ring(parties: int) -> Topology:
    colluders, missing = parties // 5, parties // 10
    degree, threshold = _where_a_cut_opens_nothing(parties, colluders, missing)
    for fewer in range(2, degree, 2):
        found = _where_none_is_cut(parties, fewer, colluders, missing)
        if found:
            degree, threshold = fewer, found
            break
    quorum = 2 * parties // 3 + 1  # above (N + c) / 2
    least = parties - missing
    return Topology(parties, degree, threshold, quorum, least, colluders, views_always=True)


def _where_none_is_cut(parties: int, degree: int, colluders: int, missing: int) -> int:
    """Return the least safe threshold; 0 where there is none that also loses few rounds."""
    allowed = FAILURE + GRINDING + 1  # each of the two chances is at most half
    apart = _log2_tail(parties, colluders, degree, degree - missing)
    if 2 * math.log2(parties) - 1 + apart > -allowed:
        return 0
    for threshold in range(degree // 4, degree):
        alone = _log2_tail(parties - 1, colluders, degree, threshold)
        if math.log2(parties) + alone <= -allowed:
            return threshold if _loses_few(parties, degree, missing, threshold) else 0
    return 0


def _where_a_cut_opens_nothing(parties: int, colluders: int, missing: int) -> tuple[int, int]:
    """Return the degree and threshold under the second rule; the complete graph if none is less."""
    most = 64
    while most < parties and not _uncut_threshold(parties, most, colluders, missing):
        most *= 2
    evens = range(2, min(most + 2, parties - 1), 2)
    place = bisect_left(
        evens, True, key=lambda degree: bool(_uncut_threshold(parties, degree, colluders, missing))
    )
    if place < len(evens):
        return evens[place], _uncut_threshold(parties, evens[place], colluders, missing)
    return parties - 1, 2 * (parties - 1) // 3 + 1


def _uncut_threshold(parties: int, degree: int, colluders: int, missing: int) -> int:
    """Return the greatest threshold that loses few rounds if it is above what a cut can open.

    Otherwise 0. There are two stretches at each party, and whoever is with the server fills one at
    least beyond t - k/2 if t of them are among all its neighbours.
    """
    half = degree // 2
    above = range(half + 1, degree + 1)
    lost = bisect_left(above, True, key=lambda t: not _loses_few(parties, degree, missing, t))
    if not lost:
        return 0
    threshold = above[lost - 1]
    filled = _log2_tail(parties - 1, colluders, half, threshold - half)
    return threshold if math.log2(2 * parties) + filled <= -(FAILURE + GRINDING) else 0


def _loses_few(parties: int, degree: int, missing: int, threshold: int) -> bool:
    """Return whether a round with as many missing as may be nearly always opens every secret."""
    lost = _log2_tail(parties - 1, missing, degree, degree - threshold + 1)
    return math.log2(parties) + lost <= -_LOST_ROUNDS


def _log2_tail(total: int, marked: int, drawn: int, least: int) -> float:
    """Return log2 of the chance that `drawn` of `total` hold at least `least` of the `marked`."""
    if least <= 0:
        return 0.0
    terms = [
        _log_choose(marked, k) + _log_choose(total - marked, drawn - k)
        for k in range(least, min(marked, drawn) + 1)
        if drawn - k <= total - marked
    ]
    if not terms:
        return -math.inf
    high = max(terms)
    log = high + math.log(sum(math.exp(term - high) for term in terms))
    return (log - _log_choose(total, drawn)) / math.log(2)


def _log_choose(total: int, some: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(some + 1) - math.lgamma(total - some + 1)


def ring_order(seed: bytes, parties: int) -> list[int]:
    """Return parties 1 to N in the order of a hash of `seed` and their number."""
    return sorted(
        range(1, parties + 1),
        key=lambda number: hashlib.sha256(seed + number.to_bytes(4, "big")).digest(),
    )


def neighbours(shape: Topology, seed: bytes) -> dict[int, tuple[int, ...]]:
    """Return each party's neighbours, sorted: symmetric, nobody its own, `degree` for each.

    Args:
        shape: The topology.
        seed: The roster's digest, which no single party chooses.
    """
    everybody = range(1, shape.parties + 1)
    if shape.degree == shape.parties - 1:
        return {one: tuple(other for other in everybody if other != one) for one in everybody}
    order = ring_order(seed, shape.parties)
    half = shape.degree // 2
    return {
        one: tuple(
            sorted(order[(place + step) % shape.parties] for step in range(-half, half + 1) if step)
        )
        for place, one in enumerate(order)
    }
