"""The masked sum is the plain one, bit for bit, whoever answers when, and whoever is missing."""

import dataclasses

import numpy as np
import pytest

from common.errors import QuorumError, SecureSumError
from common.privacy.secagg.keys import expand
from common.privacy.secagg.topology import Topology, topology
from tests.support.secure_sums import SumTown, plain_sum

FAST, WHOLE = 100, 2_000


def small_ring(parties):
    """Return a ring that is too thin to be safe, so that rings of few parties are tried too."""
    degree = 8
    least = parties - 2
    return Topology(parties, degree, 5, 2 * parties // 3 + 1, least, 1, views_always=True)


def one_case(seed, *, large=False):
    """Run one random case and hold its sum against the plain one."""
    chance = np.random.default_rng(seed)
    ring = seed % 16 == 3
    # Most cases are small: a case's work grows with the square of how many parties it has.
    most = 128 if large else 8
    parties = int(
        chance.integers(10, max(most, 10), endpoint=True)
        if ring
        else chance.integers(2, most, endpoint=True)
    )
    shape_of = small_ring if ring else topology
    town = SumTown(
        parties, rounds=2, length=int(chance.integers(1, 9)), shape_of=shape_of, setup=False
    )
    names = list(town.names)
    chance.shuffle(names)
    town.set_up(names)
    shape = shape_of(parties)
    for number in (2,) if seed % 3 else (1, 2):
        spare = parties - shape.least_survivors
        absent = int(chance.integers(0, spare, endpoint=True))
        before = int(chance.integers(0, absent, endpoint=True))
        chance.shuffle(names)
        vectors = town.vectors(chance)
        found = town.run_round(
            vectors,
            number,
            gone_before=names[:before],
            gone_after=names[before:absent] if not ring else (),
            chance=chance,
        )
        assert found.survivors == tuple(sorted(names[before:]))
        assert found.dropouts == tuple(sorted(names[:before]))
        np.testing.assert_array_equal(found.vector, plain_sum(vectors, found.survivors))


def test_a_masked_sum_is_the_plain_sum_to_the_bit():
    for seed in range(FAST):
        one_case(seed)


@pytest.mark.slow
def test_two_thousand_masked_sums_are_the_plain_sums_to_the_bit():
    for seed in range(FAST, WHOLE):
        one_case(seed, large=seed % 32 in {0, 3})


@pytest.mark.parametrize("parties", [2, 3, 5, 8, 20, pytest.param(64, marks=pytest.mark.slow)])
def test_as_many_may_be_missing_as_the_threshold_spares_and_no_more(parties):
    least = topology(parties).least_survivors
    town, chance = SumTown(parties, rounds=2), np.random.default_rng(parties)
    vectors = town.vectors(chance)
    gone = town.names[least:]
    found = town.run_round(vectors, 1, gone_before=gone)
    np.testing.assert_array_equal(found.vector, plain_sum(vectors, town.names[:least]))
    with pytest.raises(QuorumError) as refused:
        town.run_round(vectors, 2, gone_before=town.names[least - 1 :])
    assert refused.value.public() == "quorum:cohort"


def test_what_a_party_sends_tells_nothing_of_its_vector():
    """Two vectors under fresh masks look alike: uniform bits, and no number like the one masked."""
    town = SumTown(3, length=4_000)
    vectors = {name: np.zeros(4_000, np.int64) for name in town.names}
    for message in town.mask_all(vectors).values():
        ones = np.unpackbits(message.vector.view(np.uint8)).mean()
        assert abs(ones - 0.5) < 5 * 0.5 / np.sqrt(64 * 4_000)
        assert not (message.vector == 0).any()


def test_without_its_self_mask_a_vector_is_still_under_those_with_the_others():
    """The server takes everybody's self mask off. Without the others' masks each lay bare then,
    and the sum would be none the worse.
    """
    town = SumTown(3, length=4_000)
    vectors = {name: np.zeros(4_000, np.int64) for name in town.names}
    sent = town.mask_all(vectors)
    total = np.zeros(4_000, np.uint64)
    for name, message in sent.items():
        secrets = town.clients[name].opened.secrets
        mask = expand(secrets.own_self.self_key(town.roster.digest, 1), 4_000)
        left = message.vector - mask
        assert not (left == 0).any()
        total += left
    assert not total.any()


def test_no_secret_is_of_two_rounds_or_two_parties():
    """Else what is opened of one round would take a mask off another."""
    town = SumTown(3, rounds=4)
    numbers = [
        secret.number
        for client in town.clients.values()
        for one in client.member.rounds.values()
        for secret in (one.own_self, one.own_key)
    ]
    assert len(set(numbers)) == len(numbers) == 3 * 4 * 2


def test_a_round_has_masks_of_its_own():
    town = SumTown(3, rounds=2)
    vectors = {name: np.zeros(5, np.int64) for name in town.names}
    first, second = town.mask_all(vectors, 1), town.mask_all(vectors, 2)
    for name in town.names:
        assert not (first[name].vector == second[name].vector).any()


def test_a_round_that_the_server_left_is_over_and_the_next_one_works():
    town, chance = SumTown(4, rounds=3), np.random.default_rng(0)
    vectors = town.vectors(chance)
    town.mask_all(vectors, 1)
    found = town.run_round(vectors, 3)
    np.testing.assert_array_equal(found.vector, plain_sum(vectors, town.names))
    with pytest.raises(SecureSumError) as refused:
        town.clients[town.names[0]].unmask(town.unmask_request(number=1))
    assert refused.value.public() == "secure_sum:round"


def test_secrets_of_a_round_that_is_over_are_gone():
    town = SumTown(4, rounds=3)
    vectors = town.vectors(np.random.default_rng(0))
    town.run_round(vectors, 2)
    client = town.clients[town.names[0]]
    assert set(client.member.rounds) == {3}
    assert client.opened is None


def test_a_party_shows_no_secret_when_printed():
    town = SumTown(3)
    member = town.clients[town.names[0]].member
    number = str(member.rounds[1].own_self.number)
    assert number not in repr(member)
    assert number not in repr(member.rounds[1])
    assert "key" not in {
        field.name for field in dataclasses.fields(town.party("m000")) if field.repr
    }
