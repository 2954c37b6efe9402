"""What an experiment asks, and what its figures answer.

The challenger takes over only when its click-through is shown to be higher and each guardrail is
shown to hold; the baseline stays when it is shown to be better, or a guardrail to be broken. A rule
of this shape keeps the level: Schultzberg, Ankargren, Frånberg, "Risk-aware product decisions in
A/B tests with multiple metrics" (2024, arXiv 2402.11609).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import Field

from client.serving.experiments.arms import ARM_PATTERN
from client.serving.experiments.sequential import Counts, Effect, Sums, effect
from common.record import FrozenMap, Record

Metric = Literal["ctr", "conversion", "tail_share"]
GuardedMetric = Literal["conversion", "tail_share"]
GuardrailState = Literal["open", "holds", "broken"]
Reason = Literal["better", "worse", "guardrail", "asked", "arm_gone"]
DAY = 86_400 * 10**6  # in microseconds


class Design(Record):
    """What is compared, and how.

    Attributes:
        baseline: The arm that stays unless the other is shown to be better.
        challenger: The other arm.
        window_days: A shopper's lists and events count for so long after their first list, and
            then once.
        level: How often the test may ever end on an arm where both are equal.
        guardrails: How much of the baseline's rate the challenger may lose, by metric.
    """

    baseline: str = Field(pattern=ARM_PATTERN)
    challenger: str = Field(pattern=ARM_PATTERN)
    window_days: float
    level: float
    guardrails: FrozenMap[float]

    @property
    def window(self) -> int:
        """The window in microseconds."""
        return round(self.window_days * DAY)


@dataclass(frozen=True, eq=False)
class ShopperCounts:
    """What came of each shopper's lists, for the shoppers of one arm: int64 [shoppers] each.

    Attributes:
        seen: Items of lists that were seen.
        ctr: Of them, how many were clicked.
        conversion: How many were bought and not given back.
        tail_share: How many were outside the head.
    """

    seen: Counts
    ctr: Counts
    conversion: Counts
    tail_share: Counts

    def rate(self, metric: Metric) -> Sums:
        """Return a metric per item seen."""
        counts: Counts = getattr(self, metric)
        return Sums.of(counts, self.seen)


@dataclass(frozen=True)
class Guardrail:
    """Whether the challenger keeps enough of a metric.

    Attributes:
        most_fall: How much of the baseline's rate it may lose.
        margin: Its rate minus what it must keep.
        state: What the margin's interval says.
    """

    most_fall: float
    margin: Effect
    state: GuardrailState


@dataclass(frozen=True)
class Figures:
    """All that is known of an experiment just now.

    Attributes:
        baseline: Rates by metric.
        challenger: Rates by metric.
        effect: On click-through, challenger minus baseline.
        guardrails: By metric.
    """

    baseline: Mapping[Metric, Sums]
    challenger: Mapping[Metric, Sums]
    effect: Effect
    guardrails: Mapping[str, Guardrail]


@dataclass(frozen=True)
class Decision:
    """The arm that all get from now on, and why."""

    winner: str
    reason: Reason


def figures_of(design: Design, baseline: ShopperCounts, challenger: ShopperCounts) -> Figures:
    """Return the figures of shoppers whose window is over."""
    rates = [
        {metric: counts.rate(metric) for metric in get_args(Metric)}
        for counts in (baseline, challenger)
    ]
    first, second = rates
    found = {
        metric: _guardrail(design, most_fall, first[metric], second[metric])
        for metric, most_fall in design.guardrails.items()
        if metric in first
    }
    return Figures(first, second, effect(first["ctr"], second["ctr"], level=design.level), found)


def decide(design: Design, figures: Figures) -> Decision | None:
    """Return what the figures decide; None if they leave it open."""
    states = {one.state for one in figures.guardrails.values()}
    if "broken" in states:
        return Decision(design.baseline, "guardrail")
    if figures.effect.is_below:
        return Decision(design.baseline, "worse")
    if figures.effect.is_above and states <= {"holds"}:
        return Decision(design.challenger, "better")
    return None


def _guardrail(design: Design, most_fall: float, baseline: Sums, challenger: Sums) -> Guardrail:
    margin = effect(baseline, challenger, level=design.level, share=1 - most_fall)
    state: GuardrailState = "open"
    if margin.is_above:
        state = "holds"
    elif margin.is_below:
        state = "broken"
    return Guardrail(most_fall, margin, state)
