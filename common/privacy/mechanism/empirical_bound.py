"""What canaries prove: a lower bound on epsilon, to be held against what is claimed.

Two bounds from the same canaries. The Gaussian test takes scores for normal, which sums over many
steps are, and is sharp; it is the one that blocks a release, where it exceeds the claim with more
confidence than the one it is shown with. The one-run bound (Steinke, Nasr, Jagielski 2023) assumes
nothing about scores, is weak at a few hundred canaries, and stands beside it. The noise itself is
measured too, which refutes a claim long before a bound on epsilon does.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from common.errors import PrivacyError
from common.privacy.accounting.accountants import gaussian_delta
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.canaries import CanaryRecord
from common.privacy.mechanism.measured_noise import MeasuredNoise, measure_noise
from common.privacy.mechanism.sum_canaries import CanarySums

CONFIDENCE = 0.95
# A run has many merchants, an operator many runs: at 95% too many honest ones would be blocked.
BLOCKING_CONFIDENCE = 0.9999
_GUESSED = 0.25  # the share of canaries that the one-run bound guesses, half of them in, half out
_MOST_EPSILON = 100.0


@dataclass(frozen=True, slots=True)
class LowerBound:
    """What an audit proves, with confidence 95% where nothing else is said.

    Attributes:
        epsilon: By the Gaussian test: the steps cost at least this much at `delta`.
        blocking: The same with confidence 99.99%: a claim below it is refused.
        one_run: The same by the bound that assumes nothing about the scores.
        delta: Of both.
        canaries: m, how many virtual shoppers.
        included: How many of them were in the data.
        steps: How many noised steps they were watched for.
        mean_difference: mu, the distance between the mean scores in and out, in their deviations.
        noise: How much noise the canaries hold that are out.
    """

    epsilon: float
    blocking: float
    one_run: float
    delta: float
    canaries: int
    included: int
    steps: int
    mean_difference: float
    noise: MeasuredNoise


def audit_canaries(record: CanaryRecord, delta: float | None = None) -> LowerBound:
    """Return the lower bound that an revealed record proves; use the plan's delta where None.

    Raises:
        PrivacyError: if the record is not revealed, or its plan has no noise to audit.
        SettingsError: if its plan is not one.
    """
    plan = PrivacyPlan.from_json(record.plan)
    if not record.revealed:
        raise PrivacyError("The record of canaries is not revealed.", field="canaries")
    if plan.dp_model != "local":
        raise PrivacyError("Only noise that a merchant adds alone is audited.", field="dp_model")
    return _bound(
        scores=canary_scores(record.canaries, plan.sample_rate, plan.noise_multiplier),
        bits=record.bits,
        delta=plan.delta if delta is None else delta,
        steps=len(record.rounds),
        noise=measure_noise(record.distinct_steps(), record.bits, plan.noise_multiplier),
    )


def audit_sums(
    sums: CanarySums, records: Mapping[str, CanaryRecord], delta: float | None = None
) -> LowerBound:
    """Return the lower bound that the sums of a run with distributed noise prove.

    It is for a shopper of any merchant, against whoever sees the sums. The noise is held to what
    is counted, that of `plan.least_merchants` shares: so a run in which as many as are spared
    added none is not refused. `noise_of_all` holds it to everybody's.

    Args:
        sums: What the sums showed.
        records: The revealed records by merchant; a column whose owner revealed none is left out.
        delta: The plan's where None.

    Raises:
        PrivacyError: if the plan shares no noise, a sum is of fewer merchants than carry the
            plan's noise, or a record does not belong to the run.
        SettingsError: if its plan is not one.
    """
    plan, told, inside = _shared(sums, records)
    shown = sums.columns[:, told]
    return _bound(
        scores=canary_scores(shown, plan.sample_rate, _sigma_of_all(plan, sums)[:, None]),
        bits=inside[told],
        delta=plan.delta if delta is None else delta,
        steps=len(sums.rounds),
        noise=measure_noise(shown, inside[told], plan.noise_multiplier),
    )


def noise_of_all(sums: CanarySums, records: Mapping[str, CanaryRecord]) -> MeasuredNoise:
    """Measure the noise against what all survivors of each sum add together, as `audit_sums`.

    Less than that refutes epsilon where nobody is missing or with the server, and not the claim,
    which spares some: somebody added less than its share.
    """
    plan, told, inside = _shared(sums, records)
    parts = sums.columns[:, told] / _sigma_of_all(plan, sums)[:, None]
    return measure_noise(parts.astype(np.float32), inside[told], 1.0)


def _shared(
    sums: CanarySums, records: Mapping[str, CanaryRecord]
) -> tuple[PrivacyPlan, NDArray[np.bool_], NDArray[np.bool_]]:
    plan = PrivacyPlan.from_json(sums.plan)
    if plan.dp_model != "distributed":
        raise PrivacyError("Only noise that merchants share is in their sums.", field="dp_model")
    if (sums.survivors.sum(axis=1) < plan.least_merchants).any():
        raise PrivacyError(
            f"A sum is of fewer than the {plan.least_merchants} merchants who carry the plan's "
            "noise.",
            field="survivors",
        )
    return plan, *sums.known(records)


def _sigma_of_all(plan: PrivacyPlan, sums: CanarySums) -> NDArray[np.float64]:
    """Return the noise of each sum's survivors, in units of C: float64 [T]."""
    share = plan.noise_std("train") / plan.max_grad_norm
    return np.asarray(share * np.sqrt(sums.survivors.sum(axis=1)))


def _bound(
    *,
    scores: NDArray[np.float64],
    bits: NDArray[np.bool_],
    delta: float,
    steps: int,
    noise: MeasuredNoise,
) -> LowerBound:
    difference, error = mean_difference(scores, bits)

    def proved(confidence: float) -> float:
        return gaussian_epsilon(difference - float(norm.ppf(confidence)) * error, delta)

    return LowerBound(
        epsilon=proved(CONFIDENCE),
        blocking=proved(BLOCKING_CONFIDENCE),
        one_run=one_run_epsilon(scores, bits, delta),
        delta=delta,
        canaries=len(bits),
        included=int(bits.sum()),
        steps=steps,
        mean_difference=difference,
        noise=noise,
    )


def canary_scores(
    canaries: NDArray[np.floating],
    sample_rate: float,
    noise_multiplier: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return each virtual shopper's log-likelihood ratio of being in: float64 [m].

    Args:
        canaries: [T, m], in units of C.
        sample_rate: q.
        noise_multiplier: sigma, as claimed; or [T, 1], each step's.

    s_j = sum over steps of log(1 - q + q exp((2 x - 1) / (2 sigma^2))), the most powerful test
    where noise and sampling are as claimed (Neyman, Pearson).
    """
    x = canaries.astype(np.float64)
    taken = math.log(sample_rate) + (2 * x - 1) / (2 * noise_multiplier**2)
    if sample_rate == 1:
        return np.asarray(taken.sum(axis=0))
    return np.asarray(np.logaddexp(math.log1p(-sample_rate), taken).sum(axis=0))


def mean_difference(scores: NDArray[np.float64], bits: NDArray[np.bool_]) -> tuple[float, float]:
    """Return mu, the standardised difference of the mean scores, and its standard error.

    SE^2 = 1/n_in + 1/n_out + mu^2 / (2 m), the large-sample error of a standardised difference
    (Hedges, Olkin 1985). (0, 0) where one side has fewer than two canaries or nothing was observed;
    mu is infinite, without an error, where scores differ and do not vary: no noise at all.
    """
    inside, outside = scores[bits], scores[~bits]
    if min(len(inside), len(outside)) < 2:
        return 0.0, 0.0
    gap = float(inside.mean() - outside.mean())
    squares = ((inside - inside.mean()) ** 2).sum() + ((outside - outside.mean()) ** 2).sum()
    deviation = math.sqrt(float(squares) / (len(scores) - 2))
    if deviation <= 1e-12 * max(abs(gap), 1e-300):
        return (math.copysign(math.inf, gap), 0.0) if gap else (0.0, 0.0)
    mu = gap / deviation
    return mu, math.sqrt(1 / len(inside) + 1 / len(outside) + mu**2 / (2 * len(scores)))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return epsilon at `delta` of a Gaussian mechanism of parameter mu, at most 100, at least 0.

    Solves Phi(-eps/mu + mu/2) - e^eps Phi(-eps/mu - mu/2) = delta (Balle, Wang 2018).
    """
    if mu <= 0 or gaussian_delta(0.0, mu) <= delta:
        return 0.0
    if mu > 30 or gaussian_delta(_MOST_EPSILON, mu) >= delta:
        return _MOST_EPSILON
    low, high = 0.0, _MOST_EPSILON
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(middle, mu) > delta else (low, middle)
    return low


def one_run_epsilon(scores: NDArray[np.float64], bits: NDArray[np.bool_], delta: float) -> float:
    """Return the largest epsilon that the guesses of one run refute with confidence 95%.

    The highest eighth of the scores is guessed in, the lowest eighth out; r guesses, v right.
    Method: Steinke, Nasr, Jagielski 2023, theorem 5.2. (epsilon, delta) is refuted when
    beta + 2 m delta alpha <= 0.05, with beta = P[B >= v], B binomial of r guesses at chance
    e^eps / (1 + e^eps), and alpha = max_i (P[B >= v - i] - beta) / i.
    """
    half = int(len(scores) * _GUESSED / 2)
    order = np.argsort(scores, kind="stable")
    right = int(bits[order[len(order) - half :]].sum() + (~bits[order[:half]]).sum())
    guesses = 2 * half
    if not right:
        return 0.0

    def refuted(epsilon: float) -> bool:
        chance = 1 / (1 + math.exp(-epsilon))
        beta = float(binom.sf(right - 1, guesses, chance))
        fewer = np.arange(1, right + 1)
        alpha = float(((binom.sf(right - fewer - 1, guesses, chance) - beta) / fewer).max())
        return beta + 2 * len(scores) * delta * max(alpha, 0.0) <= 1 - CONFIDENCE

    low, high = 0.0, 40.0
    if not refuted(low):
        return 0.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low
