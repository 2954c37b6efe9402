"""Canaries: committed before, the same code as shoppers, and nothing of them in the adapter."""

import dataclasses
import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, ks_2samp, kstest

from common.errors import PrivacyError
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.canaries import (
    CANARY_NORM,
    CanaryRecord,
    pack_records,
    start_record,
    unpack_records,
)
from common.privacy.mechanism.clipping import clip_and_sum, grid
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
def test_canaries_move_no_bit_of_the_coins_or_the_sum_of_the_shoppers(charge):
    plan, rows = make_plan(), np.random.default_rng(0).normal(size=(5, 30))
    silent = make_plan(dp_model="none", noise_multiplier=0.0, popularity_noise_multiplier=0.0)
    clipped = clip_and_sum(rows, 1.0)
    virtual = clip_and_sum(np.eye(8)[:3], 1.0)
    plain, beside = NoiseSource.for_tests(4), NoiseSource.for_tests(4)
    record = make_record(canaries=8)
    for _ in range(3):
        coins = poisson_sample(plan, 50, plain)
        assert np.array_equal(poisson_sample(plan, 50, beside, canaries=8)[:50], coins)
    for _ in range(3):
        mixed = clipped.with_canaries(virtual, record.order(30, 1))
        protected = protect(mixed, charge(silent), beside)
        assert np.array_equal(protected.vector, clipped.vector)
        assert np.array_equal(protected.canaries, virtual.vector)
        record = record.observed(1, protected.canaries, 1.0)
    assert protect(clipped, charge(plan), plain).canaries.size == 0


def test_noise_is_drawn_once_over_both_and_taken_apart_by_the_order(charge):
    plan, source = make_plan(noise_multiplier=2.0, steps_per_round=1), NoiseSource.for_tests(2)
    rows = np.random.default_rng(0).normal(size=(5, 30))
    order = make_record(canaries=8).order(30, 1)
    mixed = clip_and_sum(rows, 1.0).with_canaries(clip_and_sum(np.eye(8), 1.0), order)
    protected = protect(mixed, charge(plan), source)
    noise = np.rint(NoiseSource.for_tests(2).gaussians(38) * 2.0 / grid(1.0)) * grid(1.0)
    assert np.array_equal(protected.vector, clip_and_sum(rows, 1.0).vector + noise[order[:30]])
    assert np.array_equal(
        protected.canaries, clip_and_sum(np.eye(8), 1.0).vector + noise[order[30:]]
    )


def test_a_canary_holds_its_virtual_shopper_cut_to_c_and_noise_of_the_plan(charge):
    plan = make_plan(noise_multiplier=2.0, max_grad_norm=0.5, steps_per_round=1)
    record = start_record("ash", "7", plan, 20_000, NoiseSource.for_tests(1))
    everybody = np.ones(20_000, dtype=bool)
    virtual = record.included(everybody, 0.5)
    assert np.allclose(virtual.max(axis=1).toarray(), CANARY_NORM * 0.5)
    own = clip_and_sum(np.zeros((0, 4)), 0.5)
    clipped = own.with_canaries(clip_and_sum(virtual, 0.5), record.order(4, 1))
    noise = protect(clipped, charge(plan), NoiseSource.for_tests(2)).canaries - 0.5 * record.bits
    assert noise.mean() == pytest.approx(0, abs=0.03)
    assert noise.std() == pytest.approx(1.0, rel=0.02)


def test_the_adapters_noise_is_of_the_same_kind_with_canaries_and_without(charge):
    plan, own = (
        make_plan(noise_multiplier=2.0, steps_per_round=1),
        clip_and_sum(np.zeros((0, 9000)), 1.0),
    )
    record = make_record(canaries=512)
    mixed = own.with_canaries(clip_and_sum(np.eye(512), 1.0), record.order(9000, 1))
    noise = [
        protect(one, charge(plan), NoiseSource.for_tests(seed)).vector / 2.0
        for seed, one in enumerate([own, mixed])
    ]
    assert ks_2samp(*noise).pvalue > 0.01
    assert kstest(noise[1], "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[1][1:], noise[1][:-1])[0, 1]) < 0.03


# ------------------------------------------------------------------ the order
@given(seed=st.integers(0, 99), size=st.integers(1, 300))
def test_an_order_is_a_permutation_and_repeats(seed, size):
    record = make_record(seed, canaries=1)
    assert np.array_equal(np.sort(record.order(size, 1)), np.arange(size + 1))
    again = CanaryRecord.from_bytes(record.to_bytes())
    assert np.array_equal(again.order(size, 1), record.order(size, 1))


def test_orders_are_new_in_each_step_round_and_run_and_are_committed_to():
    record = make_record(canaries=4, steps=0)
    later = record.observed(1, np.zeros(4), 1.0)
    other = dataclasses.replace(record, order_key="0" * 64)
    orders = [record.order(1000, 1), record.order(1000, 2), later.order(1000, 1)]
    orders += [other.order(1000, 1), make_record(2, canaries=4, steps=0).order(1000, 1)]
    for first, second in itertools.combinations(orders, 2):
        assert (first == second).mean() < 0.02
    assert other.commitment != record.commitment


def test_a_round_that_is_repeated_has_its_orders_again():
    record, update = make_record(canaries=4, steps=0), np.ones(3, np.float32)
    first = [record.order(50, 1), record.observed(1, np.zeros(4), 1.0).order(50, 1)]
    record = record.observed(1, np.zeros(4), 1.0).observed(1, np.zeros(4), 1.0).bound_to(update)
    again = [record.order(50, 1), record.observed(1, np.zeros(4), 1.0).order(50, 1)]
    assert np.array_equal(first, again)
    assert not np.array_equal(*first)


def test_every_place_holds_a_canary_as_often_as_any_other():
    record, held = make_record(canaries=20, steps=0), np.zeros(100)
    for _ in range(2000):
        held[record.order(80, 1)[80:]] += 1
        key = hashlib.sha256(record.order_key.encode()).hexdigest()
        record = dataclasses.replace(record, order_key=key)
    assert chi2.sf(((held - 400) ** 2 / (400 * 0.8)).sum() * 99 / 100, 99) > 1e-3


@pytest.mark.parametrize(
    "order", [np.arange(4), np.array([0, 1, 1, 3, 4]), np.arange(5) + 1, np.arange(5)[None]]
)
def test_what_is_no_order_is_refused(order):
    with pytest.raises(PrivacyError) as caught:
        clip_and_sum(np.eye(3), 1.0).with_canaries(clip_and_sum(np.eye(2), 1.0), order)
    assert caught.value.field == "order"


def test_coins_of_canaries_have_the_plans_chance():
    taken = poisson_sample(make_plan(sample_rate=0.1), 7, NoiseSource.for_tests(1), canaries=50_000)
    assert taken[7:].mean() == pytest.approx(0.1, rel=0.05)


def test_a_shopper_changes_no_canary_and_the_sum_by_as_much_as_without():
    rows, virtual = np.random.default_rng(0).normal(size=(5, 30)), clip_and_sum(np.eye(8), 1.0)
    order = make_record(canaries=8).order(30, 1)
    sums = [clip_and_sum(part, 1.0) for part in (rows, rows[1:])]
    whole, less = (one.with_canaries(virtual, order) for one in sums)
    assert np.array_equal(whole.separate(whole.vector)[1], less.separate(less.vector)[1])
    changed = whole.vector - less.vector
    assert np.array_equal(np.sort(changed[changed != 0]), np.sort(clip_and_sum(rows[:1], 1).vector))
    assert np.linalg.norm(changed) <= 1


def test_canaries_come_once_last_and_at_the_sums_own_bound():
    rows, virtual, order = clip_and_sum(np.eye(3), 1.0), clip_and_sum(np.eye(2), 1.0), np.arange(5)
    both = rows.with_canaries(virtual, order)
    for wrong in (
        lambda: both.with_canaries(virtual, np.arange(7)),
        lambda: rows.with_canaries(both, np.arange(8)),
        lambda: rows.with_canaries(clip_and_sum(np.eye(2), 2.0), order),
        lambda: both + both,
        lambda: both + clip_and_sum(np.eye(5), 1.0),
        lambda: clip_and_sum(np.eye(5), 1.0) + both,
    ):
        with pytest.raises(PrivacyError):
            wrong()


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
            {"order_key": "0" * 64},
            {"bits": flipped},
        )
    ]
    assert len({one.commitment for one in [record, *others]}) == 7
    later = record.observed(1, np.zeros(40), 1.0).open()
    assert later.commitment == record.commitment


def test_bits_are_fair_coins_and_secret_ones_differ():
    first, again = (
        start_record("ash", "7", make_plan(), 4000, NoiseSource.secure()) for _ in range(2)
    )
    assert first.bits.mean() == pytest.approx(0.5, abs=0.05)
    assert (first.bits == again.bits).mean() == pytest.approx(0.5, abs=0.05)
    assert len({first.nonce, again.nonce, first.order_key, again.order_key}) == 4
    assert len(first.nonce) == len(first.order_key) == 64


def test_nothing_is_added_after_opening():
    with pytest.raises(PrivacyError, match="revealed"):
        make_record().open().observed(4, np.zeros(40), 1.0)


# --------------------------------------------------------- bound to the updates
def test_a_seal_is_over_the_update_and_what_its_steps_showed():
    record, updates = make_record(steps=0), [np.full(5, n, np.float32) for n in range(3)]
    random = np.random.default_rng(1)
    for number, update in enumerate(updates):
        for _ in range(2):  # two steps a round
            record = record.observed(number + 1, random.normal(size=40), 1.0)
        record = record.bound_to(update)
    seals = [record.seal(update) for update in updates]
    assert len(set(seals)) == 3
    for number, update in enumerate(updates):
        for step in range(6):
            canaries, rounds = record.canaries.copy(), record.rounds.copy()
            canaries[step, 7] += 1
            rounds[step] += 1
            own = step // 2 == number
            for change in ({"canaries": canaries}, {"rounds": rounds}):
                assert (dataclasses.replace(record, **change).seal(update) != seals[number]) == own
        for change in ({"nonce": "0" * 64}, {"bits": ~record.bits}, {"merchant": "birch"}):
            assert dataclasses.replace(record, **change).seal(update) != seals[number]
    assert CanaryRecord.from_bytes(record.open().to_bytes()).seal(updates[1]) == seals[1]


def test_a_step_that_is_repeated_to_the_bit_counts_once_and_no_other_does():
    record, update = make_record(steps=0), np.ones(3, np.float32)
    rows = np.random.default_rng(1).normal(size=(3, 40))
    for number, row in ((1, rows[0]), (1, rows[0]), (2, rows[1]), (2, rows[2])):
        record = record.observed(number, row, 1.0).bound_to(update)
    assert np.array_equal(record.distinct_steps(), rows.astype(np.float32))
    again = record.observed(1, rows[0], 1.0).bound_to(update)
    assert again.seal(update) == record.seal(update)
    for number, sent in ((2, update), (1, 2 * update)):
        more = record.observed(number, rows[0], 1.0).bound_to(sent)
        assert len(more.distinct_steps()) == 4


def test_a_seal_of_another_update_is_refused():
    record = make_record().bound_to(np.ones(5, np.float32))
    for other in (np.zeros(5), np.ones(4), np.array([1, 1, 1, 1, np.nextafter(1, 2, dtype="f4")])):
        with pytest.raises(PrivacyError) as caught:
            record.seal(other.astype(np.float32))
        assert caught.value.field == "updates"


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
        {"updates": np.zeros((2, 32), np.uint8)},
        {"updates": np.zeros((3, 31), np.uint8)},
        {"updates": np.zeros((3, 32), np.int64)},
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
