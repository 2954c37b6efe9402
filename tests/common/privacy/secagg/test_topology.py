"""Who masks with whom, and thresholds that a server with colluders cannot get around."""

import math
from itertools import product

import numpy as np
import pytest

from common.privacy.secagg.topology import (
    COMPLETE,
    FAILURE,
    GRINDING,
    _log2_tail,
    neighbours,
    ring_order,
    topology,
)

SIZES = range(2, COMPLETE + 1)


@pytest.mark.parametrize("parties", SIZES)
def test_a_third_of_a_complete_graph_may_be_with_the_server(parties):
    shape = topology(parties)
    assert shape.colluders >= (parties - 1) // 3
    assert shape.threshold <= shape.degree == parties - 1
    assert shape.threshold > 2 * (parties - 1) / 3
    assert shape.quorum > 2 * parties / 3


@pytest.mark.parametrize("parties", [*range(2, 13), 31, 64])
def test_no_split_of_honest_parties_opens_both_secrets_of_one(parties):
    """All ways to divide honest parties: who unmasks at once, who under one view, or another."""
    shape = topology(parties)
    bad = shape.colluders
    honest = parties - bad
    for early, first in product(range(honest + 1), repeat=2):
        second = honest - early - first
        if second < 0:
            continue
        opens = [count + bad >= shape.quorum for count in (first, second)]
        assert not all(opens)
        if any(opens):
            # The victim may be any honest party, and holds no share of its own.
            dead = (first if opens[0] else second) + bad
            alive = early + bad
            assert not (alive >= shape.threshold and dead >= shape.threshold)


@pytest.mark.parametrize("parties", [65, 128, 300, 1000, 1800])
def test_a_ring_fails_with_the_chance_that_is_stated(parties):
    """The two chances again, from scipy's hypergeometric distribution."""
    from scipy.stats import hypergeom

    shape = topology(parties)
    missing = parties - shape.least_survivors
    assert shape.colluders == parties // 5
    alone = hypergeom.logsf(shape.threshold - 1, parties - 1, shape.colluders, shape.degree)
    apart = hypergeom.logsf(shape.degree - missing - 1, parties, shape.colluders, shape.degree)
    for log, times in ((alone, parties), (apart, parties**2 / 2)):
        assert log / math.log(2) + math.log2(times) <= -(FAILURE + GRINDING + 1) + 1e-6


@pytest.mark.parametrize("parties", [2500, 3500, 10_000, 100_000])
def test_a_large_ring_has_few_neighbours_and_fails_with_the_chance_that_is_stated(parties):
    from scipy.stats import hypergeom

    shape = topology(parties)
    half, missing = shape.degree // 2, parties - shape.least_survivors
    assert shape.degree < 50 * math.log(parties)
    filled = hypergeom.logsf(shape.threshold - half - 1, parties - 1, shape.colluders, half)
    assert (filled + math.log(2 * parties)) / math.log(2) <= -(FAILURE + GRINDING) + 1e-6
    lost = hypergeom.logsf(shape.degree - shape.threshold, parties - 1, missing, shape.degree)
    assert lost / math.log(2) + math.log2(parties) <= -20


def test_a_cut_ring_opens_no_piece_with_a_threshold_above_what_a_cut_can_open():
    """A server names missing whom it likes, in two stretches and elsewhere: no piece opens.

    One share less, and it does somewhere: the bound is the least.
    """
    random = np.random.default_rng(0)
    parties, degree = 36, 8
    half, opened = degree // 2, 0
    for _ in range(60):
        bad = {int(one) for one in random.choice(parties, 7, replace=False)}
        stretches = [{(place + step) % parties for step in range(half)} for place in range(parties)]
        fullest = max(stretches, key=lambda one: len(bad & one))
        bound = half + len(bad & fullest) + 1
        for place in random.choice(parties, 12, replace=False):
            more = {int(one) for one in random.choice(parties, random.integers(4), replace=False)}
            missing = (fullest | stretches[place] | more) - bad
            assert _pieces_opened(parties, half, bad, missing, bound) <= 1
            opened += _pieces_opened(parties, half, bad, missing, bound - 1) > 1
    assert opened


def _pieces_opened(parties, half, bad, missing, threshold):
    """Return how many pieces of honest survivors have all their self masks opened."""
    around = {
        one: [(one + step) % parties for step in range(-half, half + 1) if step]
        for one in range(parties)
    }
    honest = set(range(parties)) - bad - missing
    opens = {one for one in honest if len(set(around[one]) - missing) >= threshold}
    pieces, found = set(honest), 0
    while pieces:
        piece = _reached(around, min(pieces), missing | bad)
        pieces -= piece
        found += piece <= opens
    return found


def test_a_tail_is_the_hypergeometric_one():
    from scipy.stats import hypergeom

    for total, marked, drawn in ((20, 5, 8), (100, 30, 40), (999, 200, 216)):
        for least in range(1, min(marked, drawn) + 1, 3):
            expected = hypergeom.logsf(least - 1, total, marked, drawn) / math.log(2)
            assert _log2_tail(total, marked, drawn, least) == pytest.approx(expected, abs=1e-6)
    assert _log2_tail(20, 5, 8, 0) == 0
    assert _log2_tail(20, 5, 8, 6) == -math.inf


@pytest.mark.parametrize("parties", [2, 7, 64, 65, 128, 1000])
def test_neighbours_are_mutual_and_as_many_as_stated(parties):
    shape = topology(parties)
    around = neighbours(shape, b"seed")
    assert set(around) == set(range(1, parties + 1))
    for one, others in around.items():
        assert len(set(others)) == len(others) == shape.degree
        assert one not in others
        assert all(one in around[other] for other in others)


def test_a_ring_in_pieces_takes_two_whole_stretches():
    """Half a degree in a row, less one, missing anywhere leaves survivors connected."""
    shape = topology(1000)
    around, order = neighbours(shape, b"seed"), ring_order(b"seed", 1000)
    half = shape.degree // 2
    for gap, whole in ((half - 1, True), (half, False)):
        gone = {*order[100 : 100 + gap], *order[600 : 600 + gap]}
        assert (len(_reached(around, order[0], gone)) == 1000 - len(gone)) == whole


def _reached(around, start, gone):
    seen, edge = {start}, [start]
    while edge:
        for other in around[edge.pop()]:
            if other not in seen and other not in gone:
                seen.add(other)
                edge.append(other)
    return seen


def test_an_order_depends_on_the_seed_and_on_nothing_else():
    first, other = ring_order(b"a", 200), ring_order(b"b", 200)
    assert first == ring_order(b"a", 200) != other
    assert sorted(first) == list(range(1, 201))
    places = np.array([ring_order(str(seed).encode(), 70).index(1) for seed in range(700)])
    assert np.bincount(places, minlength=70).max() < 35  # 10 expected; uniform to far beyond chance


def test_one_party_has_no_topology():
    with pytest.raises(ValueError, match="two"):
        topology(1)
