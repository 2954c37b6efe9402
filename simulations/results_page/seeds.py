"""Runs that differ by their seed alone, taken together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from simulations.report.terminal import ordered_models
from simulations.results.measures import Difference, Interval, Metric
from simulations.results_page.extracts import Extract


@dataclass(frozen=True)
class SeedMean:
    """A number over seeds.

    Attributes:
        mean: Mean of the seeds' means.
        low: Mean of the lower ends of their intervals.
        high: Mean of the upper ends.
        seeds: How many have it.
        clear: In how many of them the whole interval lies on the side of the mean.

    The ends answer for new shoppers and these seeds. The runs share their test shoppers, so their
    errors go together; were they independent, the interval would be too wide, and it is never too
    narrow: the deviation of a mean is at most the mean of the deviations.
    """

    mean: float | None
    low: float | None = None
    high: float | None = None
    seeds: int = 0
    clear: int = 0


@dataclass(frozen=True)
class Group:
    """Runs of one data set under one set of settings, in order of their seeds."""

    runs: tuple[Extract, ...]

    @property
    def first(self) -> Extract:
        """Speaks for what all have in common."""
        return self.runs[0]

    @property
    def models(self) -> list[str]:
        """Models that every run has, in order."""
        shared = set.intersection(*(set(one.metrics) for one in self.runs))
        return [model for model in ordered_models(self.first.metrics) if model in shared]

    def metric(self, model: str, metric: Metric, *, held_out: bool = False) -> SeedMean:
        """Return a model's metric; without an interval where none was kept."""
        values = [
            of_model.get(model, {}).get(metric)
            for run in self.runs
            if (of_model := _metrics(run, held_out=held_out)) is not None
        ]
        intervals = [
            None if held_out else run.intervals.get(model, {}).get(metric) for run in self.runs
        ]
        means = [value for value in values if value is not None]
        ends = [one for one in intervals if one is not None]
        return SeedMean(
            mean=fmean(means) if means else None,
            low=_mean_end(ends, lambda one: one.low),
            high=_mean_end(ends, lambda one: one.high),
            seeds=len(means),
        )

    def difference(
        self, model: str, baseline: str, metric: Metric, *, held_out: bool = False
    ) -> SeedMean:
        """Return a model minus a baseline."""
        found = [
            one
            for run in self.runs
            for one in _differences(run, held_out=held_out)
            if (one.model, one.baseline, one.metric) == (model, baseline, metric)
            and one.mean is not None
        ]
        means = [one.mean for one in found if one.mean is not None]
        if not means:
            return SeedMean(None)
        mean = fmean(means)
        side = "higher" if mean > 0 else "lower"
        return SeedMean(
            mean=mean,
            low=_mean_end(found, lambda one: one.low),
            high=_mean_end(found, lambda one: one.high),
            seeds=len(means),
            clear=sum(one.verdict == side for one in found),
        )

    def pairs(self, *, held_out: bool = False) -> list[tuple[str, str]]:
        """Return the (model, baseline) pairs of the first run, in order."""
        found = _differences(self.first, held_out=held_out)
        return list(dict.fromkeys((one.model, one.baseline) for one in found))


def grouped(extracts: Sequence[Extract]) -> list[Group]:
    """Return groups by data set, noise, falling epsilon and settings; each by seed."""
    groups: dict[tuple[str, ...], list[Extract]] = {}
    for one in sorted(extracts, key=lambda one: one.seed):
        groups.setdefault(one.group, []).append(one)
    return sorted((Group(tuple(runs)) for runs in groups.values()), key=_order)


def _order(group: Group) -> tuple[str, int, float, tuple[str, ...]]:
    one = group.first
    noise = ("local", "distributed", "central", "none").index(one.dp_model)
    return (one.data.name, noise, -float(str(one.settings["epsilon"])), one.group)


def _metrics(run: Extract, *, held_out: bool) -> dict[str, dict[Metric, float | None]] | None:
    if not held_out:
        return run.metrics
    return None if run.held_out is None else run.held_out.metrics


def _differences(run: Extract, *, held_out: bool) -> tuple[Difference, ...]:
    if not held_out:
        return run.differences
    return () if run.held_out is None else run.held_out.differences


def _mean_end(
    intervals: Sequence[Interval], end: Callable[[Interval], float | None]
) -> float | None:
    ends = [value for one in intervals if (value := end(one)) is not None]
    return fmean(ends) if ends and len(ends) == len(intervals) else None
