"""The record of one simulated federation: what results.json holds, read and written strictly.

docs/ref-results-schema.md is made from these classes (`simulations/results/schema_page.py`).
"""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, JsonValue, ValidationError, model_validator

from common.catalogue import popularity_buckets
from common.encoder.device import chosen_device
from common.errors import InputError
from common.files import write_atomic
from common.processes import usable_cores
from common.record import Sha256, first_problem
from common.release.manifest import UtcTime
from common.release.statement import DpModel, MerchantPrivacy, NeighboursCost, check_claims
from simulations.results.earlier import renamed
from simulations.results.measures import (
    METRICS,
    Bucket,
    Intervals,
    MerchantResult,
    Metric,
    Number,
    Part,
)
from simulations.results.sections import EpsilonCurve, Fairness, GateRecord, HeldOut, SizeGains

SCHEMA_VERSION: Final = 3
_EARLIER: Final = (1, 2)  # schemas whose results are read, too
CURVE_POINTS: Final = 300


class SeasonCost(Part):
    """The run's season vector: when it was taken, by how many, with which noise, at which cost."""

    ends: tuple[str, ...] = Field(description="The moments it ends at, ISO, UTC")
    merchants: int = Field(ge=1, description="How many merchants gave a vector")
    noise_multiplier: float = Field(ge=0, description="Sigma at each merchant; 0: exact")
    noise_std: float = Field(ge=0, description="Deviation of the noise in each number of the sum")
    share: float | None = Field(
        ge=0, le=1, description="Of the run's cost, in mu squared; null: no guarantee"
    )
    epsilon: float | None = Field(
        ge=0, description="What it alone would cost at the run's delta, by PLD; null: no guarantee"
    )


class Privacy(Part):
    """What the run cost each merchant's shoppers."""

    unit: str = Field(description="Whom the guarantee is about")
    dp_model: DpModel = Field(description="Where noise was added; `none`: no guarantee")
    merchants: dict[str, MerchantPrivacy] = Field(description="By merchant")
    run: NeighboursCost | None = Field(
        default=None, description="What the plan alone costs, by PLD; null: no guarantee"
    )
    season: SeasonCost | None = Field(
        default=None, description="The run's season; null: it took none"
    )
    statement: str = Field(description="The privacy statement, as in the release")

    @model_validator(mode="after")
    def _claims_match_dp_model(self) -> Self:
        check_claims(self.dp_model, self.merchants)
        return self

    @property
    def worst_epsilon(self) -> float | None:
        """The largest epsilon of any merchant, None without a guarantee."""
        spent = [one.epsilon for one in self.merchants.values() if one.epsilon is not None]
        return max(spent) if spent else None


class Round(Part):
    """One round of the federation."""

    round: int = Field(ge=1, description="Counted from 1")
    epsilon: Number = Field(description="Largest epsilon of any merchant so far, null without DP")
    update_norm: Number = Field(description="L2 norm of the aggregated update")
    bytes_up: int = Field(ge=0, description="Merchants to server, all together")
    bytes_down: int = Field(ge=0, description="Server to merchants, all together")
    seconds: float = Field(ge=0, description="Wall time")
    participants: int = Field(ge=0, description="Merchants whose update arrived")
    ndcg: Number = Field(
        default=None, alias="ndcg@10", description="On validation; in simulation only"
    )
    tail_recall: Number = Field(
        default=None, alias="tail_recall@10", description="On validation; in simulation only"
    )


class PopularityCurve(Part):
    """How often items sold in the training period, sorted descending and thinned."""

    ranks: tuple[int, ...] = Field(description="Places in the order of sales, from 1, ascending")
    counts: tuple[int, ...] = Field(description="How often the item at each of these ranks sold")
    head_items: int = Field(ge=0, description="How many items are head: the first of the order")
    cold_items: int = Field(ge=0, description="How many items never sold in training")
    head_share: Number = Field(description="The head's share of all sales")

    @model_validator(mode="after")
    def _is_a_curve(self) -> Self:
        if len(self.ranks) != len(self.counts) or sorted(set(self.ranks)) != list(self.ranks):
            raise ValueError("ranks must ascend, with one count for each")
        if sorted(self.counts, reverse=True) != list(self.counts):
            raise ValueError("counts must descend")
        return self


class Dataset(Part):
    """What was learnt from and tested on."""

    name: str = Field(description="The data set")
    synthetic: bool = Field(description="Whether a program made it up")
    description: str = Field(default="", description="Where it comes from, in a sentence")
    shoppers: int = Field(
        ge=0, description="In all periods; who buys at two merchants is a shopper at each"
    )
    items: int = Field(ge=1, description="In the union of catalogues")
    interactions: int = Field(ge=0, description="Training interactions")
    cases: int = Field(ge=0, description="Shoppers in the test")
    split: str = Field(description="How the test was cut off, such as global in time at a date")
    partition: str = Field(description="How shoppers were given to merchants")
    popularity_curve: PopularityCurve = Field(description="The long tail in one line")


class Environment(Part):
    """What the run ran on."""

    fedtail: str = Field(description="Version")
    commit: str = Field(default="", description="Commit of the checkout, empty if unknown")
    python: str = Field(description="Version")
    torch: str = Field(description="Version")
    flwr: str = Field(description="Version")
    opacus: str = Field(description="Version")
    platform: str = Field(description="Operating system and processor")
    cores: int = Field(ge=1, description="Processor cores that the run could use")
    device: str = Field(default="cpu", description="Where the language model ran")


class Recommendation(Part):
    """One item of a list, and what its score is made of."""

    title: str = Field(description="The item's title")
    score: Number = Field(description="What the list is sorted by")
    parts: dict[str, Number] = Field(description="Addends of the score, by name")
    bucket: Bucket | None = Field(default=None, description="How often it sold in training")


class Example(Part):
    """A history and what is recommended for it."""

    merchant: str = Field(description="Whose catalogue was ranked")
    origin: Literal["synthetic", "typed", "shopper"] = Field(
        description="`synthetic`: a made-up shopper; `typed`: a history typed by the user; "
        "`shopper`: a real one, which needs `shows_shoppers`"
    )
    history: tuple[str, ...] = Field(description="Titles, oldest first")
    recommendations: tuple[Recommendation, ...] = Field(description="Best first")


class Timing(Part):
    """How long it took."""

    total_seconds: float = Field(ge=0, description="Wall time")
    phases: dict[str, float] = Field(description="Seconds by phase, in order")
    peak_memory_mb: Number = Field(
        default=None,
        description="Most memory of this process and all it started, what they share once",
    )


class ReleaseReference(Part):
    """Which signed release came of it."""

    version: str = Field(description="The release's version")
    digest: Sha256 = Field(description="SHA-256 of its manifest.json")
    signing_key: Sha256 = Field(description="Id of the key that signed it")
    adapter_digest: Sha256 = Field(description="`AdapterState.digest`: equal for equal seeds")


class Results(Part):
    """One simulated federation."""

    schema_version: Literal[3] = Field(default=SCHEMA_VERSION, description="Of this page")
    name: str = Field(description="What the run is called")
    created: UtcTime = Field(description="UTC, ISO 8601")
    command: str = Field(default="", description="The command that ran it")
    dataset: Dataset = Field(description="What was learnt from and tested on")
    metrics: dict[str, dict[Metric, Number]] = Field(
        min_length=1, description="By model, then by metric; each model has all metrics"
    )
    intervals: Intervals = Field(description="How sure the numbers are")
    merchants: tuple[MerchantResult, ...] = Field(description="Each merchant's share of the test")
    privacy: Privacy = Field(description="What it cost each merchant's shoppers")
    rounds: tuple[Round, ...] = Field(description="In order")
    settings: dict[str, JsonValue] = Field(description="The run's settings, as parsed")
    environment: Environment = Field(description="What it ran on")
    examples: tuple[Example, ...] = Field(default=(), description="A few recommendations")
    shows_shoppers: bool = Field(
        default=False, description="Whether the user asked for examples of real shoppers"
    )
    timing: Timing = Field(description="How long it took")
    release: ReleaseReference | None = Field(default=None, description="The signed release")
    fairness: Fairness | None = Field(default=None, description="How evenly merchants are served")
    gate: GateRecord | None = Field(default=None, description="The release gate; null: not gated")
    held_out: HeldOut | None = Field(default=None, description="Merchants that never trained")
    best_alone: str | None = Field(
        default=None,
        description="The model without the others that has the highest NDCG@10 on this test",
    )
    by_size: tuple[SizeGains, ...] = Field(
        default=(), description="Gain against size, the smallest merchants first"
    )
    epsilon_curve: EpsilonCurve | None = Field(
        default=None, description="Accuracy and membership inference against epsilon"
    )

    @model_validator(mode="after")
    def _every_model_has_every_metric(self) -> Self:
        for model, values in self.metrics.items():
            missing = [metric for metric in METRICS if metric not in values]
            if missing:
                raise ValueError(f"metrics.{model} lacks {missing[0]}; write null if undefined")
        return self

    @model_validator(mode="after")
    def _examples_show_no_shopper_unasked(self) -> Self:
        for example in self.examples:
            if example.origin == "synthetic" and not self.dataset.synthetic:
                raise ValueError("examples of origin synthetic need a synthetic data set")
            if example.origin == "shopper" and not self.shows_shoppers:
                raise ValueError(
                    "an example would show a real shopper's history; use a typed history, or set "
                    "shows_shoppers if the data is public"
                )
        return self


def popularity_curve(counts: NDArray[np.integer], points: int = CURVE_POINTS) -> PopularityCurve:
    """Return the curve of training `counts` [items], thinned to about `points` ranks.

    Ranks are spaced evenly in part and by powers in part, so both the steep head and the long
    tail keep their shape. The head is that of `common.catalogue.popularity_buckets`.
    """
    ordered = np.sort(counts)[::-1]
    evenly = np.linspace(1, len(ordered), points // 2)
    by_powers = np.geomspace(1, len(ordered), points // 2)
    ranks = np.unique(np.concatenate([evenly, by_powers]).round().astype(int))
    head = popularity_buckets(counts).head
    total = int(counts.sum())
    return PopularityCurve(
        ranks=tuple(ranks.tolist()),
        counts=tuple(ordered[ranks - 1].tolist()),
        head_items=int(head.sum()),
        cold_items=int((counts == 0).sum()),
        head_share=int(counts[head].sum()) / total if total else None,
    )


def read_environment(commit: str = "") -> Environment:
    """Return the versions and the machine this process runs on."""
    return Environment(
        fedtail=_version("fedtail"),
        commit=commit,
        python=platform.python_version(),
        torch=_version("torch"),
        flwr=_version("flwr"),
        opacus=_version("opacus"),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        cores=usable_cores(),
        device=str(chosen_device()),
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def write_results(results: Results, path: Path) -> None:
    """Write results.json, whole or not at all; what is not a number is null."""
    write_atomic(path, results.model_dump_json(indent=2).encode() + b"\n")


def load_results(path: Path) -> Results:
    """Read results.json, also one of an earlier schema.

    Raises:
        InputError: if it cannot be read, or has unknown, missing or mistyped fields.
    """
    try:
        content = path.read_bytes()
        fields = json.loads(content) if content.lstrip()[:1] == b"{" else None
        if isinstance(fields, dict) and fields.get("schema_version") in _EARLIER:
            content = json.dumps(renamed(fields) | {"schema_version": SCHEMA_VERSION}).encode()
        return Results.model_validate_json(content, strict=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).", field="results") from error
    except ValueError as error:  # JSON's own errors, and pydantic's
        problem = first_problem(error) if isinstance(error, ValidationError) else "not JSON"
        raise InputError(
            f"{path} is not results of schema {SCHEMA_VERSION}: {problem}.",
            field="results",
        ) from error
