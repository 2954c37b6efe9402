"""What results.json says beyond one table: the gate, held-out merchants, fairness, epsilon."""

from typing import Literal

from pydantic import Field, model_validator

from simulations.results.measures import (
    Difference,
    Interval,
    Intervals,
    MerchantResult,
    Metric,
    Number,
    Part,
    SpreadMetric,
)


class GateCheck(Part):
    """One demand on a release, judged on public shoppers."""

    metric: Metric = Field(description="Of which metric")
    demand: Literal["higher", "not lower"] = Field(
        description="`higher`: the whole interval above zero; `not lower`: not all of it below"
    )
    release: Number = Field(description="The release's mean")
    frozen: Number = Field(description="The frozen text model's, over the same shoppers")
    mean: Number = Field(description="Release minus frozen")
    low: Number = Field(description="Lower end of its paired interval")
    high: Number = Field(description="Upper end")
    met: bool = Field(description="Whether the demand is met")


class GateRecord(Part):
    """Whether the release beats the frozen model on public shoppers: else it is not published."""

    holdout: str = Field(description="The public data set it was judged on")
    cases: int = Field(ge=0, description="Public shoppers in its test period")
    passed: bool = Field(description="Whether the release may be published")
    reason: str = Field(description="What was found, in a line")
    checks: tuple[GateCheck, ...] = Field(description="Demand by demand")


class HeldOut(Part):
    """Merchants that never trained: the release is used as it is, at shops it has not seen."""

    merchants: tuple[MerchantResult, ...] = Field(min_length=1, description="Each of them")
    metrics: dict[str, dict[Metric, Number]] = Field(
        description="By model, then by metric; all but the adapter is the merchant's own"
    )
    intervals: Intervals = Field(description="How sure the numbers are")


class ModelSpread(Part):
    """How one model serves the merchants, each counted once whatever its size."""

    model: str = Field(description="Which model")
    metric: SpreadMetric = Field(description="Of which metric")
    mean: Number = Field(description="Mean over merchants")
    worst: Number = Field(description="The value of the merchant served worst")
    worst_merchant: str = Field(description="Who that is")


class MerchantGain(Part):
    """What a model brings over a baseline, merchant by merchant."""

    model: str = Field(description="Whose value is taken")
    baseline: str = Field(description="Whose value is subtracted")
    metric: SpreadMetric = Field(description="Of which metric")
    merchants: int = Field(ge=0, description="How many merchants have both values")
    ahead: int = Field(ge=0, description="For how many of them the difference is above zero")
    median: Number = Field(description="Of the merchants' differences")
    worst: Interval = Field(description="The smallest, with its own paired interval")
    worst_merchant: str = Field(description="Whose that is")


class OwnBest(Part):
    """The joined model against each merchant's own best baseline, chosen on its own test."""

    model: str = Field(description="Whose value is taken")
    metric: SpreadMetric = Field(description="Of which metric, by which the baseline is chosen too")
    min_cases: int = Field(ge=1, description="Merchants with fewer test shoppers are left out")
    merchants: int = Field(ge=0, description="How many merchants have so many")
    better: int = Field(ge=0, description="For how many the whole paired interval lies above zero")
    worse: int = Field(ge=0, description="For how many it lies below zero")
    worst: Interval | None = Field(description="The smallest difference, with its paired interval")
    worst_merchant: str = Field(description="Whose that is; empty without any")


class SizeGains(Part):
    """What joining brings to the merchants of about one size, all their test shoppers together."""

    size: int = Field(ge=1, description="About how many shoppers: 10, 30, 100, 300, 1,000, ...")
    merchants: int = Field(ge=1, description="How many merchants are nearest to it")
    smallest: int = Field(ge=0, description="Shoppers that the smallest of them had before")
    largest: int = Field(ge=0, description="The same of the largest")
    cases: int = Field(ge=0, description="Their test shoppers")
    alone: str = Field(description="Their best model without the others, by NDCG@10 on this test")
    metrics: dict[str, dict[SpreadMetric, Number]] = Field(
        description="Of that model and of the joined ones"
    )
    gains: tuple[Difference, ...] = Field(description="Joined models minus `alone`, paired")


class Fairness(Part):
    """How evenly merchants are served, and what each gains by joining."""

    spreads: tuple[ModelSpread, ...] = Field(description="By model and metric")
    gains: tuple[MerchantGain, ...] = Field(description="By model, baseline and metric")
    own_best: OwnBest | None = Field(
        default=None, description="Against each merchant's own best; null: not measured"
    )


class MembershipTest(Part):
    """How well a loss threshold tells shoppers of the training from others, given an adapter."""

    auc: float = Field(description="Chance that a member scores above a non-member; 0.5: a guess")
    low: float = Field(description="Lower end of its 95% interval")
    high: float = Field(description="Upper end")
    advantage: float = Field(description="Largest true minus false positive rate of a threshold")
    chance: float = Field(description="95th percentile of the same with shuffled membership")
    bound: float = Field(description="What epsilon and delta allow any attack at all")
    members: int = Field(ge=0, description="Shoppers that were trained on")
    others: int = Field(ge=0, description="Shoppers of the same merchants that were not")


class CurvePoint(Part):
    """One training of the curve."""

    epsilon: Number = Field(description="The run's budget; null: no noise")
    metrics: dict[str, dict[SpreadMetric, Number]] = Field(
        description="Of `adapter` and `fused`, over the test shoppers of all merchants"
    )
    membership: MembershipTest = Field(description="Membership inference on this adapter")


class EpsilonCurve(Part):
    """Accuracy and membership inference against epsilon, from trainings made for it."""

    held_back: float = Field(
        gt=0, lt=1, description="Share of each merchant's shoppers left out of its trainings"
    )
    frozen: dict[str, dict[SpreadMetric, Number]] = Field(
        description="The same of `frozen_text` and `fused_frozen`, which do not depend on epsilon"
    )
    points: tuple[CurvePoint, ...] = Field(min_length=1, description="Largest epsilon first")

    @model_validator(mode="after")
    def _points_descend(self) -> "EpsilonCurve":
        spent = [float("inf") if one.epsilon is None else one.epsilon for one in self.points]
        if sorted(set(spent), reverse=True) != spent:
            raise ValueError("points must have distinct epsilons, the largest first")
        return self
