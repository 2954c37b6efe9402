"""What is measured of a model, as results.json writes it: names, numbers, intervals, merchants."""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Annotated, Final, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MODELS: Final[Mapping[str, str]] = {
    "popularity": "Popularity",
    "local_ease": "Local EASE",
    "own_alone": "EASE with titles",
    "ease_trend": "EASE + trend",
    "frozen_text": "Frozen text",
    "fused_frozen": "Frozen text, fused",
    "fused_frozen_boosted": "Frozen, boost 1.3",
    "solo_adapter": "Solo adapters",
    "adapter": "Federated adapter",
    "fused_adapter": "Fused, no season",
    "fused_season": "Fused, no adapter",
    "fused": "Adapter, fused",
    "fused_boosted": "Adapter, boost 1.3",
    "adapter_no_noise": "Adapter, no noise",
    "adapter_central": "Adapter, central",
}
MODEL_NOTES: Final[Mapping[str, str]] = {
    "popularity": "the same list for everybody: what sells most",
    "local_ease": "each merchant's own item-to-item model, fitted on its own shoppers alone",
    "own_alone": "each merchant's own item-to-item model that also reads titles, and nothing else",
    "ease_trend": "local EASE and what sells more lately than it used to: all without titles",
    "frozen_text": "the language model as it came, whitened, with the history pooled by decay",
    "fused_frozen": "frozen text, the shop's own EASE that also reads titles, and its sales trend, "
    "fused by public default weights: all that a shop has without training together",
    "fused_frozen_boosted": "frozen text, fused, with the tail boost at 1.3: more of what is new",
    "solo_adapter": "each merchant trains its own adapter, with the same noise, and shares nothing",
    "adapter": "the adapter of the release, trained by all merchants together",
    "fused_adapter": "as `fused`, without the federation's season: what the adapter brings alone",
    "fused_season": "as `fused_frozen`, with the federation's season: what that brings alone",
    "fused": "the adapter in the place of frozen text, with the same EASE that also reads titles "
    "and the same sales trend, and the same default weights",
    "fused_boosted": "the adapter, fused, with the tail boost at 1.3: more of what is new",
    "adapter_no_noise": "trained together without noise: what privacy costs, not a private model",
    "adapter_central": "trained on all data in one place: a baseline, not a federation",
}
# What a merchant can do without the others: the best of them is what joining is held against.
ALONE: Final = (
    "popularity",
    "local_ease",
    "own_alone",
    "ease_trend",
    "frozen_text",
    "fused_frozen",
    "solo_adapter",
)
# What needs the others: adapter, season of all, and both; a merchant serves the last.
JOINED: Final = ("adapter", "fused_adapter", "fused_season", "fused")
METRICS: Final[Mapping[str, str]] = {
    "ndcg@10": "NDCG@10",
    "recall@10": "Recall@10",
    "precision@10": "Precision@10",
    "f1@10": "F1@10",
    "auc": "AUC",
    "tail_recall@10": "Tail recall@10",
    "tail_precision@10": "Tail precision@10",
    "tail_f1@10": "Tail F1@10",
    "tail_auc": "Tail AUC",
    "head_recall@10": "Head recall@10",
    "cold_recall@10": "Cold recall@10",
    "tail_by_volume_recall@10": "Tail-by-volume recall@10",
    "coverage@10": "Coverage@10",
    "gini@10": "Gini@10",
    "aplt@10": "APLT@10",
}
LOWER_IS_BETTER: Final = frozenset({"gini@10"})


def _null_for_nan(value: object) -> object:
    """Turn NaN (undefined, in numpy) into null (the same, in JSON); take numpy floats as floats."""
    if isinstance(value, Real) and not isinstance(value, (bool, int)):
        number = float(value)
        return None if math.isnan(number) else number
    return value


Number = Annotated[float | None, BeforeValidator(_null_for_nan)]
Metric = Literal[
    "ndcg@10",
    "recall@10",
    "precision@10",
    "f1@10",
    "auc",
    "tail_recall@10",
    "tail_precision@10",
    "tail_f1@10",
    "tail_auc",
    "head_recall@10",
    "cold_recall@10",
    "tail_by_volume_recall@10",
    "coverage@10",
    "gini@10",
    "aplt@10",
]
SpreadMetric = Literal["ndcg@10", "tail_recall@10"]
SPREAD_METRICS: Final[tuple[SpreadMetric, ...]] = get_args(SpreadMetric)
Bucket = Literal["head", "tail", "cold"]


class Part(BaseModel):
    """Base of the record's parts: unknown keys and infinite numbers are errors, all frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class Interval(Part):
    """A mean over shoppers and its interval; null where a metric has no per-shopper value."""

    mean: Number = Field(description="Mean over shoppers")
    low: Number = Field(description="Lower end")
    high: Number = Field(description="Upper end")


class Difference(Interval):
    """A model's value minus a baseline's on the same shoppers, with the paired interval."""

    model: str = Field(description="Whose value is taken")
    baseline: str = Field(description="Whose value is subtracted")
    metric: Metric = Field(description="Of which metric")

    @property
    def verdict(self) -> Literal["higher", "lower", "unclear"]:
        """Which side of zero the whole interval lies on, `unclear` if on both or unknown."""
        if self.low is None or self.high is None:
            return "unclear"
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "unclear"


def best_alone(metrics: Mapping[str, Mapping[Metric, Number]]) -> str | None:
    """Return which way of staying alone has the highest NDCG@10; None if none was measured.

    It is chosen on the test itself, so that a gain over it is not flattered.
    """
    there = [model for model in ALONE if metrics.get(model, {}).get("ndcg@10") is not None]
    return max(there, key=lambda model: metrics[model]["ndcg@10"] or 0.0) if there else None


class Intervals(Part):
    """How sure the numbers are."""

    confidence: float = Field(gt=0, lt=1, description="Such as 0.95")
    method: str = Field(description="Such as paired bootstrap over test cases, 2000 resamples")
    metrics: dict[str, dict[Metric, Interval]] = Field(description="By model, then by metric")
    differences: tuple[Difference, ...] = Field(description="Models minus baselines, paired")


class MerchantResult(Part):
    """One merchant's share of the test."""

    name: str = Field(description="The merchant")
    shoppers: int = Field(ge=0, description="The declared size; public by declaration")
    cases: int = Field(ge=0, description="Shoppers in the test")
    past_shoppers: int | None = Field(
        default=None, ge=0, description="Shoppers that it had before the test, counted"
    )
    metrics: dict[str, dict[SpreadMetric, Number]] = Field(
        description="By model, then `ndcg@10` and `tail_recall@10`"
    )
