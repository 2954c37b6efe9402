"""What canaries prove: bounds against independent sums, and runs of the real mechanism."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import binom, norm

from common.errors import PrivacyError
from common.privacy.accounting.accountants import gaussian_delta, gaussian_mu
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.canaries import start_record
from common.privacy.mechanism.empirical_bound import (
    BLOCKING_CONFIDENCE,
    CONFIDENCE,
    audit_canaries,
    canary_scores,
    gaussian_epsilon,
    mean_difference,
    one_run_epsilon,
)
from common.privacy.mechanism.noise import NoiseSource, protect
from tests.support.canary_runs import audited_run
from tests.support.shops import make_plan

CANARIES = 512


# -------------------------------------------------------------------- scores
@pytest.mark.parametrize(("rate", "sigma"), [(0.25, 2.16), (0.05, 1.0), (1.0, 3.0)])
def test_a_score_is_the_log_of_the_ratio_of_densities(rate, sigma):
    x = np.random.default_rng(1).normal(0.5, sigma, (6, 9))
    density_in = rate * norm.pdf(x, 1, sigma) + (1 - rate) * norm.pdf(x, 0, sigma)
    expected = np.log(density_in / norm.pdf(x, 0, sigma)).sum(axis=0)
    assert np.allclose(canary_scores(x.astype(np.float32), rate, sigma), expected, atol=1e-4)


def test_extreme_canaries_give_finite_scores():
    x = np.array([[1e6, -1e6]])
    assert np.isfinite(canary_scores(x, 0.25, 0.5)).all()


# ------------------------------------------------------------------- Gaussian
@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 1e-3), (1.0, 1e-5), (4.0, 1e-5), (9.0, 1e-6)])
def test_the_epsilon_of_mu_inverts_the_mu_of_epsilon(epsilon, delta):
    assert gaussian_epsilon(gaussian_mu(epsilon, delta), delta) == pytest.approx(epsilon, abs=1e-3)


def test_the_curve_is_the_hockey_stick_of_two_normals():
    epsilon, mu = 1.7, 0.9
    total, _ = quad(
        lambda x: max(norm.pdf(x, mu) - math.exp(epsilon) * norm.pdf(x), 0), -10, 12, points=[1, 2]
    )
    assert gaussian_delta(epsilon, mu) == pytest.approx(total, abs=1e-7)


def test_nothing_is_proved_by_no_difference_and_everything_by_no_noise():
    assert gaussian_epsilon(-1.0, 1e-5) == 0
    assert gaussian_epsilon(0.0, 1e-5) == 0
    assert gaussian_epsilon(1e-6, 1e-5) == 0
    assert gaussian_epsilon(math.inf, 1e-5) == 100
    bits = np.arange(40) % 2 == 0
    assert mean_difference(bits.astype(float), bits) == (math.inf, 0)
    assert mean_difference(np.zeros(40), bits) == (0, 0)
    assert mean_difference(np.arange(40.0), np.ones(40, bool)) == (0, 0)


@pytest.mark.parametrize("mu", [0.25, 1.2])
def test_the_lower_ends_of_mu_hold_as_often_as_they_say(mu):
    random = np.random.default_rng(3)
    low = []
    for _ in range(5000):
        bits = random.random(CANARIES) < 0.5
        found, error = mean_difference(random.normal(size=CANARIES) + mu * bits, bits)
        low.append([found - norm.ppf(one) * error for one in (CONFIDENCE, BLOCKING_CONFIDENCE)])
    covered = (np.array(low) <= mu).mean(axis=0)
    assert covered[0] == pytest.approx(CONFIDENCE, abs=0.01)
    assert covered[1] >= 0.9996  # two of 5000, where half a one is expected


# -------------------------------------------------------------------- one run
def guesses_of(right, wrong):
    """Scores and bits of which the one-run bound guesses so many right and wrong."""
    half = (right + wrong) // 2
    canaries = 8 * half
    scores = np.arange(canaries, dtype=float)
    bits = np.zeros(canaries, bool)
    bits[-half:] = True
    bits[:wrong] = True
    return scores, bits


@pytest.mark.parametrize(("right", "wrong"), [(128, 0), (120, 8), (100, 28), (80, 48)])
def test_the_one_run_bound_is_where_its_inequality_turns(right, wrong):
    scores, bits = guesses_of(right, wrong)
    delta = 1e-5
    found = one_run_epsilon(scores, bits, delta)

    def level(epsilon):
        chance = math.exp(epsilon) / (1 + math.exp(epsilon))

        def at_least(v):
            return sum(binom.pmf(k, right + wrong, chance) for k in range(max(v, 0), 129))

        beta = at_least(right)
        alpha = max((at_least(right - i) - beta) / i for i in range(1, right + 1))
        return beta + 2 * len(scores) * delta * alpha

    assert level(found) <= 0.05 + 1e-6
    if found > 0:
        assert level(found + 2e-3) > 0.05


def test_guesses_no_better_than_coins_prove_nothing():
    assert one_run_epsilon(*guesses_of(64, 64), 1e-5) == 0
    assert one_run_epsilon(*guesses_of(0, 128), 1e-5) == 0
    assert one_run_epsilon(np.zeros(4), np.zeros(4, bool), 1e-5) == 0


def test_more_right_guesses_prove_more():
    found = [one_run_epsilon(*guesses_of(right, 128 - right), 1e-5) for right in (90, 110, 128)]
    assert 0 < found[0] < found[1] < found[2]


# ------------------------------------------------------ records that cannot be
def test_only_an_revealed_record_of_local_noise_is_audited():
    record = start_record("ash", "1", make_plan(), 8, NoiseSource.for_tests(1))
    with pytest.raises(PrivacyError, match="revealed"):
        audit_canaries(record)
    central = make_plan(dp_model="central", merchants=2)
    with pytest.raises(PrivacyError, match="alone"):
        audit_canaries(start_record("ash", "1", central, 8, NoiseSource.for_tests(1)).open())


def test_a_record_without_steps_proves_nothing():
    record = start_record("ash", "1", make_plan(), 64, NoiseSource.for_tests(1)).open()
    bound = audit_canaries(record)
    assert (bound.epsilon, bound.blocking, bound.one_run) == (0, 0, 0)
    assert (bound.steps, bound.canaries) == (0, 64)


# --------------------------------------------------- runs of the real mechanism
def test_one_honest_run_proves_more_than_nothing_and_less_than_its_claim(tmp_path):
    bound = audited_run(tmp_path, 1, protect)
    assert 1.5 < bound.epsilon < 4
    assert 0.7 < bound.blocking < bound.epsilon - 0.5
    assert 0 < bound.one_run < bound.epsilon
    assert bound.steps == 50


@pytest.mark.statistical
@pytest.mark.timeout(7200)
def test_honest_runs_prove_2_6_of_4_in_the_mean_and_none_is_blocked(tmp_path):
    bounds = [audited_run(tmp_path, seed, protect) for seed in range(200)]
    epsilons = np.array([bound.epsilon for bound in bounds])
    print(f"mean of 20: {epsilons[:20].mean():.3f}; of 200: {epsilons.mean():.3f}")  # noqa: T201 - a measurement
    blocking = np.array([bound.blocking for bound in bounds])
    print(f"above the claim at 95%: {(epsilons > 4).mean():.3f}; blocking: {blocking.mean():.3f}")  # noqa: T201 - a measurement
    assert epsilons[:20].mean() >= 2.6
    assert (epsilons > 4).mean() <= 0.05
    assert blocking.max() <= 4
    assert max(bound.one_run for bound in bounds) <= 4


@pytest.mark.statistical
@pytest.mark.timeout(7200)
def test_halved_noise_is_blocked(tmp_path, monkeypatch):
    std = PrivacyPlan.noise_std
    monkeypatch.setattr(PrivacyPlan, "noise_std", lambda plan, kind: std(plan, kind) / 2)
    epsilons = np.array([audited_run(tmp_path, seed, protect).blocking for seed in range(200)])
    print(f"mean with half the noise: {epsilons.mean():.3f}, least {epsilons.min():.3f}")  # noqa: T201 - a measurement
    assert (epsilons > 4).mean() >= 0.99
