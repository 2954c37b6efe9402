"""What `/v1/experiments` and `/v1/alerts` take and answer, as OpenAPI shows it."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from client.serving.experiments.alerts import Figure
from client.serving.experiments.arms import ARM_PATTERN, OWN, RELEASE
from client.serving.experiments.design import Design, GuardedMetric, GuardrailState, Metric, Reason
from client.serving.experiments.drift import Direction
from client.serving.experiments.running import Experiment
from client.serving.messages import Message

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
Arm = Annotated[str, StringConstraints(pattern=ARM_PATTERN)]
MostFall = Annotated[float, Field(gt=0, lt=1)]
_FIELDS = ("baseline", "challenger", "window_days", "level", "guardrails")


class ExperimentBody(Message):
    """Two arms, and what is asked of them."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"baseline": OWN, "challenger": RELEASE}]}
    )
    baseline: Arm = Field(description="`release`, `own`, `frozen` or `model:FOLDER`")
    challenger: Arm = Field(description="the same; takes over only if it is shown to be better")
    window_days: float = Field(
        default=7.0, ge=0.01, le=90, description="a shopper counts once, so long after they came"
    )
    level: float = Field(
        default=0.05, ge=0.001, le=0.2, description="how often it may end where both are equal"
    )
    guardrails: dict[GuardedMetric, MostFall] = Field(
        default={"conversion": 0.2, "tail_share": 0.2},
        description="what share of the baseline's rate the challenger may lose",
    )

    @model_validator(mode="after")
    def _two_arms(self) -> Self:
        if self.baseline == self.challenger:
            raise ValueError("challenger: name another arm than the baseline")
        return self

    def design(self) -> Design:
        """Return it as the store keeps it."""
        return Design.model_validate(self.model_dump())


class StopBody(Message):
    """How to end one by hand."""

    serve: Arm | None = Field(
        default=None, description="the arm that all get from now on; else the baseline"
    )


class RateOfArm(Message):
    """A rate for each item seen, and how many shoppers it rests on."""

    shoppers: int
    rate: float


class EffectAnswer(Message):
    """A difference with an interval for any time; null where too little is known."""

    difference: float
    low: float | None
    high: float | None


class GuardrailAnswer(EffectAnswer):
    """The challenger's rate minus what it must keep, and what follows."""

    most_fall: float
    state: GuardrailState


class FiguresAnswer(Message):
    """Of the shoppers whose window is over."""

    baseline: dict[Metric, RateOfArm]
    challenger: dict[Metric, RateOfArm]
    effect: EffectAnswer = Field(description="on click-through, challenger minus baseline")
    guardrails: dict[str, GuardrailAnswer]


class ExperimentAnswer(Message):
    """An experiment as it stands."""

    name: str
    state: Literal["running", "stopped"]
    baseline: str
    challenger: str
    window_days: float
    level: float
    guardrails: dict[str, float]
    started: datetime
    stopped: datetime | None
    winner: str | None = Field(description="the arm that all shoppers got from then on")
    reason: Reason | None
    figures: FiguresAnswer | None


class ExperimentsAnswer(Message):
    """All experiments, the running one first."""

    experiments: list[ExperimentAnswer]


class AlertAnswer(Message):
    """A figure of a day's lists that has drifted."""

    figure: Figure
    direction: Direction
    day: date = Field(description="the day that settled it")
    value: float
    usual: float = Field(description="the median of the days it was held against")
    days: int = Field(description="how many those were")
    active: bool = Field(description="whether it is of the last seven days")


class AlertsAnswer(Message):
    """All alerts, the latest first."""

    alerts: list[AlertAnswer]


def answer_of(one: Experiment, figures: dict[str, Any] | None) -> ExperimentAnswer:
    """Return what is told of an experiment.

    Args:
        one: How it stands.
        figures: As `running.as_json` gives them, of now or of its end.
    """
    return ExperimentAnswer.model_validate(
        {
            "name": one.name,
            "state": "running" if one.stopped is None else "stopped",
            **{name: one.design.model_dump()[name] for name in _FIELDS},
            "started": _clock(one.started),
            "stopped": None if one.stopped is None else _clock(one.stopped),
            "winner": one.winner,
            "reason": one.reason,
            "figures": None if figures is None else _told(figures),
        }
    )


def _told(figures: dict[str, Any]) -> dict[str, Any]:
    arms = {
        arm: {
            metric: {"shoppers": sums["shoppers"], "rate": sums["rate"]}
            for metric, sums in figures[arm].items()
        }
        for arm in ("baseline", "challenger")
    }
    guardrails = {
        metric: {"most_fall": one["most_fall"], "state": one["state"], **one["margin"]}
        for metric, one in figures["guardrails"].items()
    }
    return {**arms, "effect": figures["effect"], "guardrails": guardrails}


def _clock(time: int) -> datetime:
    return datetime.fromtimestamp(time / 10**6, UTC)
