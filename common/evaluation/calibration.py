"""From a score to the chance of a click, and how far such chances can be trusted.

A click is rare (a few in a thousand pairs of shopper and item), so errors are measured in bins of
equal numbers and never in bins of equal width, in which all pairs would lie in the first.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from common.errors import InputError
from common.evaluation.metrics import auc_per_shopper

CLICKS_PER_STEP = 10  # a step of the curve rests on at least so many clicks: 1 of 1 is no certainty
BINS = 10

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ClickCurve:
    """Rising steps from score to chance.

    Attributes:
        starts: float64 [steps - 1], rising: the least score of each step but the lowest.
        chances: float64 [steps], in [0, 1], never falling.
    """

    starts: NDArray[np.float64]
    chances: NDArray[np.float64]

    def __call__(self, scores: Floats) -> NDArray[np.float64]:
        """Return the chance of each score, in their shape."""
        found: NDArray[np.float64] = self.chances[
            np.searchsorted(self.starts, scores, side="right")
        ]
        return found


def fit_click_curve(scores: Floats, clicked: Flags) -> ClickCurve:
    """Fit a curve by isotonic regression (Zadrozny and Elkan 2002) over steps of 10 clicks.

    Pairs are sorted by score and cut, from the top, into steps of at least CLICKS_PER_STEP clicks;
    the lowest takes what is left, and equal scores stay in one step. The steps' click rates are
    made to rise by pooling neighbours, so over all pairs the chances' mean is the click rate.

    Args:
        scores: [n], finite.
        clicked: bool [n].

    Raises:
        InputError: if there is no pair, lengths differ, or a score is not finite.
    """
    _check(scores, clicked)
    order = np.argsort(scores, kind="stable")
    sorted_scores, hits = scores[order].astype(np.float64), clicked[order]
    # scipy.optimize loads here: who only reads a curve waits for none of it.
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 -- see above

    starts = _step_starts(sorted_scores, hits)
    sizes = np.diff(np.append(starts, len(hits)))
    rates = np.add.reduceat(hits.astype(np.float64), starts) / sizes
    rising = isotonic_regression(rates, weights=sizes.astype(np.float64)).x
    return ClickCurve(sorted_scores[starts[1:]], np.clip(rising, 0, 1))


def _step_starts(scores: NDArray[np.float64], hits: Flags) -> NDArray[np.int64]:
    """Return the place where each step starts, the lowest first."""
    changes = np.flatnonzero(np.diff(scores)) + 1  # a step may start only where the score changes
    above = np.cumsum(hits[::-1], dtype=np.int64)[::-1]
    minus_clicks = -above[changes]  # at or above each of them, so rising
    starts, needed = [0], CLICKS_PER_STEP
    while (enough := int(np.searchsorted(minus_clicks, -needed, side="right"))) > 0:
        starts.append(int(changes[enough - 1]))
        needed = CLICKS_PER_STEP - int(minus_clicks[enough - 1])
    return np.array(sorted(starts), dtype=np.int64)


# ------------------------------------------------------------------ how good it is
@dataclass(frozen=True)
class Reliability:
    """How well chances agree with what happened.

    Attributes:
        pairs: How many pairs were looked at.
        rate: Share of them that were clicked.
        mean_chance: Mean of the chances; a calibrated model's equals `rate`.
        brier: Mean squared error of the chances (Brier 1950).
        skill: 1 - brier / (brier of always saying `rate`): above 0 is better than that.
        ece: Expected calibration error in bins of equal numbers (Nguyen and O'Connor 2015).
    """

    pairs: int
    rate: float
    mean_chance: float
    brier: float
    skill: float
    ece: float


def reliability(chances: Floats, clicked: Flags, bins: int = BINS) -> Reliability:
    """Compare chances [n] with clicks [n], in `bins` bins of equal numbers of pairs.

    Raises:
        InputError: as `fit_click_curve`, or if a chance lies outside [0, 1] or bins is below 1.
    """
    _check(chances, clicked)
    if not (chances.min() >= 0 and chances.max() <= 1):
        raise InputError("A chance lies outside 0 to 1.", field="chances")
    if bins < 1:
        raise InputError(f"bins is {bins}; at least 1 is needed.", field="bins")
    rate = float(clicked.mean())
    brier = float(np.mean((chances - clicked) ** 2))
    always = rate * (1 - rate)
    order = np.argsort(chances, kind="stable")
    gaps = chances[order] - clicked[order]
    ece = sum(abs(float(part.sum())) for part in np.array_split(gaps, bins)) / len(gaps)
    return Reliability(
        pairs=len(clicked),
        rate=rate,
        mean_chance=float(chances.mean()),
        brier=brier,
        skill=1 - brier / always if always else float("nan"),
        ece=ece,
    )


@dataclass(frozen=True)
class ClickMetrics:
    """A yes or no for each pair, judged: NaN where there is nothing to judge."""

    precision: float
    recall: float
    f1: float
    auc: float


def click_metrics(chances: Floats, clicked: Flags, threshold: float | Floats) -> ClickMetrics:
    """Judge "clicked if the chance is at least `threshold`", and the chances' order (AUC).

    A threshold of each pair [n] is for pairs whose models were fitted apart.

    Raises:
        InputError: as `fit_click_curve`.
    """
    _check(chances, clicked)
    said = chances >= threshold
    right, yes, clicks = (int(one.sum()) for one in (said & clicked, said, clicked))
    relevant = csr_matrix(clicked[None, :].astype(np.float32))
    area = auc_per_shopper(chances[None, :], csr_matrix(relevant.shape), relevant)
    return ClickMetrics(
        precision=right / yes if yes else float("nan"),
        recall=right / clicks if clicks else float("nan"),
        f1=2 * right / (yes + clicks) if clicks else float("nan"),
        auc=float(area[0]),
    )


def best_threshold(chances: Floats, clicked: Flags) -> float:
    """Return the least chance that must be called a click for the highest F1; ties go up.

    Raises:
        InputError: as `fit_click_curve`.
    """
    _check(chances, clicked)
    order = np.argsort(-chances, kind="stable")
    values, hits = chances[order], np.cumsum(clicked[order])
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # the end of equal ones
    f1 = 2 * hits[last] / (last + 1 + max(int(hits[-1]), 1))
    return float(values[last[int(np.argmax(f1))]])


def _check(numbers: Floats, clicked: Flags) -> None:
    if numbers.ndim != 1 or numbers.shape != clicked.shape or not len(numbers):
        raise InputError(
            f"Scores have shape {numbers.shape} and clicks {clicked.shape}; both must be one list "
            "of the same length, and not empty.",
            field="clicked",
        )
    if not np.isfinite(numbers).all():
        raise InputError("A score or chance is not a finite number.", field="scores")
