"""What was asked of a configuration before it was measured, and whether it was met."""

import math
import tomllib
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from common.errors import InputError
from common.record import first_problem
from common.release.statement import DpModel
from simulations.results.measures import METRICS, Interval, Metric, Part
from simulations.results_page.seeds import Group, SeedMean

Verdict = Literal["met", "missed", "not measured"]
SEEDS: Final = 3  # a target is about so many


class Target(Part):
    """One demand on the groups of a data set at a budget.

    `at_least`: the model's metric, or with `share_of` its share of a baseline's, or with `keeps`
    the share of what the model brings over frozen text that is left of what `keeps` brings.
    `above`: the whole interval of model minus baseline above zero. `not_below`: not all of it
    below. `best` as baseline is the one of those that need no training together which has the best
    NDCG@10.
    """

    dataset: str
    epsilon: float
    noise: DpModel = "local"
    model: str
    metric: Metric = "ndcg@10"
    held_out: bool = False
    at_least: float | None = None
    share_of: str | None = None
    keeps: str | None = None
    above: str | None = None
    not_below: str | None = None
    median_above: str | None = Field(default=None, description="Over merchants")
    worst_not_below: str | None = Field(default=None, description="Over merchants")

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        demands = (self.at_least, self.above, self.not_below)
        over_merchants = (self.median_above, self.worst_not_below)
        if sum(one is not None for one in (*demands, *over_merchants)) != 1:
            raise ValueError("a target asks exactly one thing")
        return self

    def fits(self, group: Group) -> bool:
        """Whether it is about this group."""
        one = group.first
        return (one.data.name, one.settings["epsilon"], one.dp_model) == (
            self.dataset,
            self.epsilon,
            self.noise,
        )


_BASELINES: Final = (
    "popularity",
    "local_ease",
    "own_alone",
    "ease_trend",
    "frozen_text",
    "fused_frozen",
)


def read_targets(path: Path) -> list[Target]:
    """Return the targets of a TOML file, none if there is no file.

    Raises:
        InputError: if one is not a target.
    """
    if not path.exists():
        return []
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return [Target.model_validate(one) for one in table.get("target", [])]
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        told = first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{path.name}: {told}.", field="target") from error


def judge(target: Target, group: Group) -> tuple[str, str, Verdict]:
    """Return what was asked, what was measured, and the verdict."""
    where = ", merchants that never trained" if target.held_out else ""
    asked = f"`{target.model}`, {METRICS[target.metric]}{where}"
    if target.at_least is not None:
        return _at_least(target, target.at_least, group, asked)
    if target.above is not None or target.not_below is not None:
        return _against(target, group, asked)
    return _over_merchants(target, group, asked)


def _at_least(target: Target, least: float, group: Group, asked: str) -> tuple[str, str, Verdict]:
    def value(model: str) -> float:
        mean = group.metric(model, target.metric, held_out=target.held_out).mean
        return math.nan if mean is None else mean

    if target.share_of is not None:
        asked += f" at least {least:.0%} of `{target.share_of}`'s"
        measured = value(target.model) / (value(target.share_of) or math.nan)
        text = f"{measured:.0%}"
    elif target.keeps is not None:
        asked += f": at least {least:.0%} of what `{target.keeps}` brings over frozen text"
        frozen = value("frozen_text")
        brought = value(target.keeps) - frozen
        measured = (value(target.model) - frozen) / brought if brought > 0 else math.nan
        text = f"{measured:.0%}"
    else:
        asked += f" at least {least:.4f}"
        measured = value(target.model)
        text = f"{measured:.4f}"
    if math.isnan(measured):
        return asked, "", "not measured"
    return asked, text, "met" if measured >= least else "missed"


def _against(target: Target, group: Group, asked: str) -> tuple[str, str, Verdict]:
    baseline = target.above or target.not_below or ""
    if baseline == "best":
        baseline = max(
            _BASELINES,
            key=lambda one: group.metric(one, "ndcg@10", held_out=target.held_out).mean or 0.0,
        )
    asked += f" {'above' if target.above else 'not below'} `{baseline}`"
    found = group.difference(target.model, baseline, target.metric, held_out=target.held_out)
    if found.mean is None or found.low is None or found.high is None:
        return asked, "", "not measured"
    met = found.low > 0 if target.above else found.high >= 0
    return asked, shown_difference(found), "met" if met else "missed"


def _over_merchants(target: Target, group: Group, asked: str) -> tuple[str, str, Verdict]:
    """Judge a gain over merchants: over seeds the mean of medians, or the mean of the worst."""
    baseline = target.median_above or target.worst_not_below or ""
    who = "the median" if target.median_above else "the worst"
    demand = "above" if target.median_above else "not below"
    asked += f" of {who} merchant {demand} `{baseline}`"
    gains = [
        one
        for run in group.runs
        if run.fairness is not None
        for one in run.fairness.gains
        if (one.model, one.baseline, one.metric) == (target.model, baseline, target.metric)
    ]
    values = [one.median if target.median_above else one.worst.mean for one in gains]
    known = [value for value in values if value is not None]
    if not known:
        return asked, "", "not measured"
    mean = sum(known) / len(known)
    met = mean > 0 if target.median_above else mean >= 0
    return asked, f"{mean:+.4f}", "met" if met else "missed"


def shown_difference(found: SeedMean | Interval) -> str:
    """Return a difference with its interval."""
    if found.mean is None:
        return "not measured"
    if found.low is None or found.high is None:
        return signed(found.mean)
    return f"{signed(found.mean)} ({signed(found.low)} to {signed(found.high)})"


def signed(value: float) -> str:
    """Return a number with four digits and its sign; what rounds to zero has a plus."""
    return f"{round(value, 4) + 0.0:+.4f}"
