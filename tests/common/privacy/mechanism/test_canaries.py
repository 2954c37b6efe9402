"""Canaries: committed before, the same code as shoppers, and nothing of them in the adapter."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import PrivacyError
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.canaries import (
    CANARY_NORM,
    CanaryRecord,
    pack_records,
    start_record,
    unpack_records,
)
from common.privacy.mechanism.clipping import clip_and_sum
from common.privacy.mechanism.noise import NoiseSource, protect
from common.privacy.mechanism.sampling import poisson_sample
from tests.support.shops import make_plan


def make_record(seed=1, canaries=40, steps=3):
    record = start_record("ash", "7", make_plan(), canaries, NoiseSource.for_tests(seed))
    random = np.random.default_rng(seed)
    for number in range(1, steps + 1):
        record = record.observed(number, random.normal(size=canaries), 1.0)
    return record


@pytest.fixture
def charge(tmp_path):
    ledger = Ledger.open(tmp_path / "ledger.sqlite", "ash", "f" * 64)

    def make(plan):
        return ledger.append(
            plan,
            run_id="1",
            round_number=1,
            kind="train",
            admit=lambda entries: None,
            seeded_noise=True,
        )

    return make


# ------------------------------------------------------- the code they share
def test_canaries_move_no_bit_of_coins_or_noise_of_the_shoppers(charge):
    plan, rows = make_plan(), np.random.default_rng(0).normal(size=(5, 30))
    clipped = clip_and_sum(rows, 1.0)
    plain, beside = NoiseSource.for_tests(4), NoiseSource.for_tests(4)
    virtual = clip_and_sum(np.eye(8)[:3], 1.0)
    for _ in range(3):
        coins = poisson_sample(plan, 50, plain)
        assert np.array_equal(poisson_sample(plan, 50, beside, canaries=8)[:50], coins)
        without = protect(clipped, charge(plan), plain)
        with_canaries = protect(clipped.with_canaries(virtual), charge(plan), beside)
        assert np.array_equal(with_canaries.vector, without.vector)
        assert np.array_equal(with_canaries.averaged(), without.averaged())
        assert without.canaries.size == 0
        assert with_canaries.canaries.shape == (8,)


def test_a_canary_holds_its_virtual_shopper_cut_to_c_and_noise_of_the_plan(charge):
    plan = make_plan(noise_multiplier=2.0, max_grad_norm=0.5, steps_per_round=1)
    record = start_record("ash", "7", plan, 20_000, NoiseSource.for_tests(1))
    everybody = np.ones(20_000, dtype=bool)
    virtual = record.included(everybody, 0.5)
    assert np.allclose(virtual.max(axis=1).toarray(), CANARY_NORM * 0.5)
    clipped = clip_and_sum(np.zeros((0, 4)), 0.5).with_canaries(clip_and_sum(virtual, 0.5))
    canaries = protect(clipped, charge(plan), NoiseSource.for_tests(2)).canaries
    noise = canaries - 0.5 * record.bits
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert noise.std() == pytest.approx(1.0, rel=0.02)
    other = NoiseSource.for_tests(2).gaussians(20_000)
    assert abs(np.corrcoef(noise, other)[0, 1]) < 0.03  # not the stream of the shoppers' noise


def test_coins_of_canaries_have_the_plans_chance():
    taken = poisson_sample(make_plan(sample_rate=0.1), 7, NoiseSource.for_tests(1), canaries=50_000)
    assert taken[7:].mean() == pytest.approx(0.1, rel=0.05)


def test_a_shopper_changes_no_canary():
    rows, virtual = np.random.default_rng(0).normal(size=(5, 30)), clip_and_sum(np.eye(8), 1.0)
    whole = clip_and_sum(rows, 1.0).with_canaries(virtual).vector
    less = clip_and_sum(rows[1:], 1.0).with_canaries(virtual).vector
    assert np.array_equal(whole[30:], less[30:])
    assert np.linalg.norm(whole - less) <= 1


def test_canaries_are_appended_once_and_at_the_sums_own_bound():
    rows, virtual = clip_and_sum(np.eye(3), 1.0), clip_and_sum(np.eye(2), 1.0)
    both = rows.with_canaries(virtual)
    assert (both + both).canaries == 2
    for wrong in (lambda: both.with_canaries(virtual), lambda: rows.with_canaries(both)):
        with pytest.raises(PrivacyError):
            wrong()
    with pytest.raises(PrivacyError):
        rows.with_canaries(clip_and_sum(np.eye(2), 2.0))
    with pytest.raises(PrivacyError):  # as long, but not of the same kinds
        _ = both + clip_and_sum(np.eye(5), 1.0)


# ------------------------------------------------------------- the commitment
def test_a_commitment_is_to_all_that_is_fixed_before_training():
    record = make_record(steps=0)
    flipped = record.bits.copy()
    flipped[3] ^= True
    others = [
        dataclasses.replace(record, **change)
        for change in (
            {"merchant": "birch"},
            {"run_id": "8"},
            {"plan": make_plan(sample_rate=0.1).to_json()},
            {"nonce": "0" * 64},
            {"bits": flipped},
        )
    ]
    assert len({one.commitment for one in [record, *others]}) == 6
    later = record.observed(1, np.zeros(40), 1.0).open()
    assert later.commitment == record.commitment


def test_bits_are_fair_coins_and_secret_ones_differ():
    first, again = (
        start_record("ash", "7", make_plan(), 4000, NoiseSource.secure()) for _ in range(2)
    )
    assert first.bits.mean() == pytest.approx(0.5, abs=0.05)
    assert (first.bits == again.bits).mean() == pytest.approx(0.5, abs=0.05)
    assert first.nonce != again.nonce
    assert len(first.nonce) == 64


def test_nothing_is_added_after_opening():
    with pytest.raises(PrivacyError, match="revealed"):
        make_record().open().observed(4, np.zeros(40), 1.0)


# ------------------------------------------------------------------- the file
@given(seed=st.integers(0, 99), canaries=st.integers(1, 70), steps=st.integers(0, 4))
def test_a_record_reads_back_as_it_was_written(seed, canaries, steps):
    record = make_record(seed, canaries, steps)
    for one in (record, record.open()):
        again = CanaryRecord.from_bytes(one.to_bytes())
        assert again.to_bytes() == one.to_bytes()
        assert again.commitment == record.commitment
        assert again.revealed == one.revealed
        assert np.array_equal(again.canaries, record.canaries)
        assert np.array_equal(again.rounds, np.arange(1, steps + 1))


def test_a_step_is_kept_in_units_of_c_with_its_round():
    record = start_record("ash", "7", make_plan(), 2, NoiseSource.for_tests(1))
    record = record.observed(1, np.array([1.0, 3.0]), 0.5).observed(1, np.zeros(2), 0.5)
    assert record.canaries.tolist() == [[2.0, 6.0], [0.0, 0.0]]
    assert record.rounds.tolist() == [1, 1]


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_one_flipped_bit_is_unreadable_or_another_record(place, bit):
    content = bytearray(make_record().open().to_bytes())
    place %= len(content)
    content[place] ^= 1 << bit
    try:
        found = CanaryRecord.from_bytes(bytes(content))
    except PrivacyError:
        return
    assert found.to_bytes() == bytes(content)  # read as what it says, not as the first


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 40, make_record().to_bytes()[:-1]])
def test_what_is_no_record_is_refused(content):
    with pytest.raises(PrivacyError):
        CanaryRecord.from_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        {"canaries": np.zeros((2, 40), np.float32)},
        {"canaries": np.zeros((3, 39), np.float32)},
        {"canaries": np.full((3, 40), np.nan, np.float32)},
        {"bits": np.zeros(0, bool), "canaries": np.zeros((3, 0), np.float32)},
    ],
)
def test_a_record_that_does_not_fit_itself_cannot_be_made(change):
    with pytest.raises(PrivacyError):
        dataclasses.replace(make_record(), **change)


def test_several_records_are_one_file():
    records = [make_record(seed) for seed in (1, 2)]
    records[1] = dataclasses.replace(records[1], merchant="birch")
    found = unpack_records(pack_records(reversed(records)))
    assert list(found) == ["ash", "birch"]
    assert [one.to_bytes() for one in found.values()] == [one.to_bytes() for one in records]
    for wrong in (b"", pack_records(records).replace(b'"birch":', b'"elder":', 1)):
        with pytest.raises(PrivacyError):
            unpack_records(wrong)
