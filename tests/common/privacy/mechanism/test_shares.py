"""A merchant's share of noise: charged first, on the grid, and whole once the shares are summed."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.errors import PrivacyError, SettingsError
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.ledger import Ledger
from common.privacy.mechanism.canaries import start_record
from common.privacy.mechanism.clipping import clip_and_sum, grid
from common.privacy.mechanism.fixed_point import NoisyIntegers
from common.privacy.mechanism.noise import NoiseSource, protect
from common.privacy.mechanism.shares import ProtectedShare, protect_share, share_form

PLAN = PrivacyPlan(
    sample_rate=0.25,
    steps=1_000,
    noise_multiplier=2.0,
    max_grad_norm=0.5,
    size_bracket=100,
    delta=1e-5,
    dp_model="distributed",
    popularity_noise_multiplier=3.0,
    season_noise_multiplier=4.0,
    merchants=8,
    spared=2,
)
LOCAL = dataclasses.replace(PLAN, dp_model="local", merchants=1, spared=0)


def payer(folder):
    """Return what puts a charge on a ledger in that folder."""
    ledger = Ledger.open(folder / "ledger.sqlite", "shop", "data")

    def pay(plan=PLAN, kind="train", *, seeded_noise=True):
        return ledger.append(
            plan,
            run_id="run",
            round_number=1,
            kind=kind,
            admit=lambda entries: None,
            seeded_noise=seeded_noise,
        )

    return pay


@pytest.fixture
def charge(tmp_path):
    return payer(tmp_path)


def nothing(width=10_000, bound=0.5):
    return clip_and_sum(np.zeros((0, width)), bound)


@pytest.mark.parametrize("kind", ["train", "popularity", "season"])
def test_the_sum_of_all_shares_has_the_noise_that_the_plan_says(charge, kind):
    bound = PLAN.clip_norm(kind)
    form = share_form(PLAN, kind, 10_000).form
    shares = [
        protect_share(nothing(bound=bound), charge(kind=kind), NoiseSource.for_tests(party))
        for party in range(8)
    ]
    for few in (shares[:1], shares[:6], shares):
        total = np.sum([one.integers.view(np.uint64) for one in few], axis=0, dtype=np.uint64)
        deviation = PLAN.noise_std(kind) * math.sqrt(len(few))
        assert stats.kstest(form.decode(total) / deviation, "norm").pvalue > 0.01
    counted = PLAN.event(kind).noise_multiplier * bound
    assert counted < PLAN.noise_std(kind) * math.sqrt(6) < counted * 1.0003


@pytest.mark.parametrize("kind", ["train", "popularity", "season"])
def test_a_share_drawn_has_the_variance_that_the_plan_tells(kind):
    made = share_form(PLAN, kind, 1)
    told = PLAN.noise_std(kind) / grid(PLAN.clip_norm(kind))
    assert math.sqrt(made.noise.variance) == pytest.approx(told, rel=1e-15)
    assert made.noise.spared == 2


def test_there_is_no_share_without_an_unused_charge_of_such_a_plan(charge):
    paid = charge()
    protect_share(nothing(), paid, NoiseSource.for_tests(1))
    for bad, field in (
        (lambda: protect_share(nothing(), paid, NoiseSource.for_tests(1)), "charge"),
        (lambda: protect_share(nothing(), charge(LOCAL), NoiseSource.for_tests(1)), "dp_model"),
        (lambda: protect(nothing(), charge(), NoiseSource.for_tests(1)), "dp_model"),
        (
            lambda: protect_share(nothing(bound=1.0), charge(), NoiseSource.for_tests(1)),
            "max_grad_norm",
        ),
        (
            lambda: protect_share(nothing(), charge(seeded_noise=False), NoiseSource.for_tests(1)),
            "seeded_noise",
        ),
        (lambda: ProtectedShare(np.zeros(3, np.int64), "train", 1, PLAN.digest), "protected"),
    ):
        with pytest.raises(PrivacyError) as caught:
            bad()
        assert caught.value.field == field


def test_no_two_shares_have_noise_in_common(charge):
    """Two rounds of one node, less each other, have the noise of both."""
    one, other = (
        protect_share(nothing(), charge(seeded_noise=False), source).integers
        for source in (NoiseSource.secure(), NoiseSource.secure())
    )
    alone = PLAN.noise_std("train") / grid(0.5)
    for both in (one - other, one + other):
        assert stats.kstest(both / (alone * math.sqrt(2)), "norm").pvalue > 1e-6


def test_the_charge_is_used_before_any_noise_is_drawn(charge):
    source, paid = NoiseSource.for_tests(1), charge()
    monkey = pytest.MonkeyPatch()
    monkey.setattr(NoisyIntegers, "noised", lambda *_: (_ for _ in ()).throw(OSError()))
    with monkey.context(), pytest.raises(OSError):
        protect_share(nothing(), paid, source)
    monkey.undo()
    with pytest.raises(PrivacyError):
        protect_share(nothing(), paid, source)


def test_one_shopper_changes_a_share_by_its_clipped_row_and_no_more(charge):
    rows = np.random.default_rng(0).standard_normal((30, 50))
    shares = [
        protect_share(clip_and_sum(part, 0.5), charge(), NoiseSource.for_tests(3)).integers
        for part in (rows, rows[1:])
    ]
    moved = (shares[0] - shares[1]) * grid(0.5)
    assert np.array_equal(moved, clip_and_sum(rows[:1], 0.5).vector)


def test_canaries_lie_behind_the_adapters_numbers_whatever_their_order(charge):
    """And the noise met them in a secret order: the same draws lie elsewhere in the next round."""
    rows = np.random.default_rng(0).standard_normal((5, 40))
    record = start_record("shop", "1", PLAN, 8, NoiseSource.for_tests(1))
    virtual = clip_and_sum(record.included(np.ones(8, bool), 0.5), 0.5)
    whole = clip_and_sum(rows, 0.5)
    bare = np.concatenate([whole.vector, virtual.vector]) / grid(0.5)
    noises = [
        protect_share(
            whole.with_canaries(virtual, record.order(40, number)),
            charge(),
            NoiseSource.for_tests(4),
        ).integers
        - bare
        for number in (1, 2)
    ]
    assert not np.array_equal(*noises)
    assert np.array_equal(np.sort(noises[0]), np.sort(noises[1]))


@settings(deadline=None, max_examples=60)
@given(
    merchants=st.integers(5, 1_000),
    sigma=st.floats(0.3, 30),
    bound=st.floats(1e-6, 1e6),
    size=st.integers(-(2**52), 2**52),
    far=st.sampled_from([-1, 1]),
)
def test_no_sum_of_any_honest_numbers_wraps(merchants, sigma, bound, size, far):
    """All merchants at the largest sum of 2^21 shoppers, each with noise of 64 deviations."""
    plan = dataclasses.replace(
        PLAN,
        merchants=merchants,
        spared=merchants // 3,
        noise_multiplier=sigma,
        max_grad_norm=bound,
    )
    made = share_form(plan, "train", 1)
    value = int(made.form.encode(np.array([size * grid(bound)]))[0])
    assert value == size  # an honest sum is never cut
    noise = far * 64 * math.isqrt(made.noise.variance)
    assert abs(value + noise) <= made.form.limit
    assert merchants * made.form.limit < 2**63


def test_a_plan_without_room_is_refused_before_anything_is_masked():
    for changes, field in (
        ({"merchants": 100_000, "spared": 10}, "noise_multiplier"),
        ({"dp_model": "local", "merchants": 1, "spared": 0}, "dp_model"),
    ):
        with pytest.raises(SettingsError) as caught:
            share_form(dataclasses.replace(PLAN, **changes), "train", 10)
        assert caught.value.field == field


@pytest.mark.statistical
def test_over_a_thousand_rounds_the_noise_on_the_sum_is_the_plans(charge):
    """Eight merchants, 200 numbers, 1,000 rounds, nobody missing: N / (N - spared) of the plan's.

    The variance is within 2% of it (eleven standard errors: sqrt(2 / 200,000) is 0.3%), and the
    draws are normal by Kolmogorov and Smirnov. At rho = 1/3 the deviation is at most 1.25 times
    what noise added once to the sum would be.
    """
    form = share_form(PLAN, "train", 200).form
    sources = [NoiseSource.secure() for _ in range(8)]
    paid = dataclasses.replace(PLAN, steps=8_000)
    rounds = []
    for _ in range(1_000):
        shares = [
            protect_share(nothing(200), charge(paid, seeded_noise=False), one).integers
            for one in sources
        ]
        total = np.sum([one.view(np.uint64) for one in shares], axis=0, dtype=np.uint64)
        rounds.append(form.decode(total))
    draws = np.concatenate(rounds)
    planned = 8 * PLAN.noise_std("train") ** 2
    assert draws.var() == pytest.approx(planned, rel=0.02)
    assert abs(draws.mean()) < 5 * math.sqrt(planned / draws.size)
    assert stats.kstest(draws / math.sqrt(planned), "norm").pvalue > 1e-3
    central = PLAN.noise_multiplier * PLAN.max_grad_norm
    assert math.sqrt(planned) / central == pytest.approx(math.sqrt(8 / 6), rel=1e-3)
    assert draws.std() <= 1.25 * central


@pytest.mark.parametrize("merchants", range(5, 101))
def test_at_a_third_the_deviation_is_at_most_a_quarter_above_the_central_one(merchants):
    plan = dataclasses.replace(PLAN, merchants=merchants, spared=merchants // 3)
    central = PLAN.noise_multiplier * PLAN.max_grad_norm
    whole = plan.noise_std("train") * math.sqrt(merchants)
    assert central < whole < 1.25 * central
