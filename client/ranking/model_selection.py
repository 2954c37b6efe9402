"""Choose among many candidates by a few shoppers, neither by luck nor timidly.

The best of many candidates on some hundred shoppers is mostly the luckiest. To ask for two or three
standard errors keeps luck out, and much that is true with it. Here each candidate is given the odds
of its Bayes factor: how much likelier its gains over the default are if it truly gains something
than if it gains nothing. A gain is taken in deviations of the paired difference, as normal with
mean 0 and deviation EFFECT, positive half (Rouder et al. 2009, "Bayesian t tests for accepting and
rejecting the null hypothesis"; Liang et al. 2008, "Mixtures of g priors", have it with a fixed g).
Few cases say little whatever they say, so the default weighs heaviest there.

If nothing gains, a Bayes factor has mean 1, and so has any average of them, however alike the
candidates are: it is an e-value (Vovk and Wang 2021), and exceeds DEFAULT_ODDS with a chance of at
most 1 / DEFAULT_ODDS, whatever is tried. In simulations it does in one to four of a hundred shops.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.shop.splitting import Cases
from common.evaluation.metrics import ndcg, rank_scores

STANDARD_ERRORS = 2.0
DEFAULT_ODDS = 3.0  # of the default against all other candidates together, before any evidence
EFFECTS = (0.05, 0.1, 0.2)  # deviations of true gains, in those of one case; each is as likely

Floats = NDArray[np.float64]


class Belief(NamedTuple):
    """How likely each is the one to use; together 1.

    Attributes:
        default: That nothing is better than the default.
        candidates: float64 [k], that this one is.
    """

    default: float
    candidates: Floats


def believe(
    gains: NDArray[np.floating], prior: NDArray[np.floating], default_odds: float = DEFAULT_ODDS
) -> Belief:
    """Return what paired gains over a default say.

    The order of the rows does not count.

    Args:
        gains: [cases, k], each candidate's worth minus the default's. Cases are independent.
        prior: [k], at least 0 and not all 0: shares of the odds against the default.
        default_odds: Of the default against all of them, above 0.
    """
    cases, count = gains.shape
    if not count or cases < 2:
        return Belief(1.0, np.zeros(count))
    with np.errstate(divide="ignore"):
        logs = np.append(np.log(prior) - np.log(prior.sum()) + _log_factors(gains), 0.0)
    logs[-1] = np.log(default_odds)
    likely = np.exp(logs - logs.max())  # a Bayes factor of a thousand cases is no number of its own
    likely /= likely.sum()
    return Belief(float(likely[-1]), likely[:-1])


def _log_factors(gains: NDArray[np.floating]) -> Floats:
    """Return the log of each candidate's Bayes factor [k], averaged over EFFECTS."""
    # scipy.special loads here: who only ranks with a model waits for none of it.
    from scipy.special import log_ndtr, logsumexp  # noqa: PLC0415 -- see above

    cases = len(gains)
    mean, deviation = gains.mean(axis=0), gains.std(axis=0, ddof=1)
    error = deviation / np.sqrt(cases)
    sure = np.where(mean > 0, np.inf, np.where(mean < 0, -np.inf, 0.0))
    t = np.divide(mean, error, out=sure, where=error > 1e-12)
    t = np.clip(t, -1e6, 1e6)
    freedom = cases - 1
    logs = []
    for effect in EFFECTS:
        spread = 1 + cases * effect**2
        shrink = 1 - 1 / spread
        # Student's t under either hypothesis, and how much of the posterior lies above 0.
        both = -0.5 * np.log(spread) + (cases / 2) * (
            np.log1p(t * t / freedom) - np.log1p(t * t / (freedom * spread))
        )
        logs.append(both + np.log(2) + log_ndtr(t * np.sqrt(shrink)))
    return np.asarray(logsumexp(logs, axis=0) - np.log(len(EFFECTS)))


def validation_ndcg(
    score: Callable[[csr_matrix], NDArray[np.float32]], valid: Cases
) -> NDArray[np.float64]:
    """Return NDCG@10 of each case: float64 [cases].

    Args:
        score: From what each case had bought, CSR [cases, items], to scores [cases, items].
        valid: The cases.
    """
    ranking = rank_scores(lambda rows: score(valid.seen[rows]), valid.seen, 10)
    return ndcg(ranking, valid.relevant)


def clearly_better(
    found: NDArray[np.floating],
    default: NDArray[np.floating],
    standard_errors: float = STANDARD_ERRORS,
) -> bool:
    """Return whether `found` is above `default`, case by case, beyond chance.

    For few candidates; `believe` is for many.

    Args:
        found: [cases].
        default: [cases].
        standard_errors: By how many.
    """
    if not len(found):
        return False
    gain = found - default
    return bool(gain.mean() > standard_errors * gain.std() / np.sqrt(len(gain)))
