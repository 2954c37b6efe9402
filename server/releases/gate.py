"""The release gate: on public data a release must beat the frozen model, or it is not published.

Pure: shoppers' metrics in, a decision out. Whoever calls it answers for the shoppers being public.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.evaluation.bootstrap import Interval, paired_bootstrap

Demand = Literal["higher", "not lower"]
PerShopper = Mapping[str, NDArray[np.float64]]

MIN_CASES: Final = 50  # with fewer, a bootstrap interval is too narrow to rest a release on
DEMANDS: Final[Mapping[str, Demand]] = {"ndcg@10": "higher", "tail_recall@10": "not lower"}

_FOUND: Final[Mapping[tuple[Demand, bool], str]] = {
    ("higher", True): "is higher",
    ("higher", False): "is not higher",
    ("not lower", True): "is not lower",
    ("not lower", False): "is lower",
}


@dataclass(frozen=True)
class GateCheck:
    """One demand on a release, and how it stands.

    Attributes:
        metric: Which metric, such as `ndcg@10`.
        demand: `higher`: the whole interval of the difference must lie above zero. `not lower`:
            it must not lie below zero as a whole.
        release: The release's mean.
        frozen: The frozen model's, over the same shoppers.
        difference: Release minus frozen, paired, with its 95% interval.
        met: Whether the demand is met.
    """

    metric: str
    demand: Demand
    release: float
    frozen: float
    difference: Interval
    met: bool

    def __str__(self) -> str:
        """Say it in a line: metric, both numbers, the difference with its interval."""
        found = _FOUND[self.demand, self.met]
        difference = self.difference
        return (
            f"{self.metric} {found}: release {self.release:.4f}, frozen "
            f"{self.frozen:.4f}, difference {difference.mean:+.4f} "
            f"({difference.low:+.4f} to {difference.high:+.4f})"
        )


@dataclass(frozen=True)
class GateDecision:
    """Whether a release may be published.

    Attributes:
        cases: Public shoppers it was judged on.
        checks: One for each of `DEMANDS`.
    """

    cases: int
    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every demand is met, by enough shoppers."""
        return self.cases >= MIN_CASES and all(check.met for check in self.checks)

    @property
    def reason(self) -> str:
        """Why it passed, or what stopped it."""
        if self.cases < MIN_CASES:
            return f"the public hold-out has {self.cases} test shoppers; {MIN_CASES} are needed"
        shown = self.checks if self.passed else [one for one in self.checks if not one.met]
        return "; ".join(str(check) for check in shown)


def decide_release(
    release: PerShopper, frozen: PerShopper, *, seed: int, resamples: int = 2000
) -> GateDecision:
    """Compare a release with the frozen model on the same public shoppers.

    Args:
        release: float64 [cases] for each metric of `DEMANDS`, NaN where it is undefined.
        frozen: The frozen model's, the same shoppers in the same order.
        seed: Of the bootstrap's resamples.
        resamples: How many.

    A metric that no shopper has (nobody bought an item of the tail) demands nothing, except
    `higher`, which has to be shown.

    Raises:
        InputError: if a metric is missing, or the two are not about the same number of shoppers.
    """
    for name, values in (("release", release), ("frozen", frozen)):
        missing = [metric for metric in DEMANDS if metric not in values]
        if missing:
            raise InputError(f"The {name}'s scorecard lacks {missing[0]}.", field=missing[0])
    checks = []
    for metric, demand in DEMANDS.items():
        ours, theirs = release[metric], frozen[metric]
        difference = paired_bootstrap(ours, theirs, seed=seed, resamples=resamples)
        both = ~np.isnan(ours) & ~np.isnan(theirs)
        # Not "at most": a comparison with NaN is false, so what is unknown is not shown.
        met = difference.low > 0 if demand == "higher" else not difference.high < 0
        ours, theirs = ours[both], theirs[both]
        checks.append(
            GateCheck(
                metric=metric,
                demand=demand,
                release=float(ours.mean()) if len(ours) else float("nan"),
                frozen=float(theirs.mean()) if len(theirs) else float("nan"),
                difference=difference,
                met=bool(met),
            )
        )
    return GateDecision(len(next(iter(release.values()))), tuple(checks))
