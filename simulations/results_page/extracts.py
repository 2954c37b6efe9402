"""What of a run's results.json is kept with the project: numbers, settings, environment.

An extract is small, and holds no path, no title and no command: nothing of the machine or the shop.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import Field, JsonValue, ValidationError

from common.errors import InputError
from common.files import sha256_hex, write_atomic
from common.record import first_problem
from common.release.manifest import UtcTime
from common.release.statement import DpModel
from simulations.results.earlier import renamed
from simulations.results.measures import SPREAD_METRICS, Difference, Interval, Metric, Number, Part
from simulations.results.schema import Environment, Results
from simulations.results.sections import EpsilonCurve, Fairness, GateRecord, SizeGains

T = TypeVar("T")
P = TypeVar("P", bound=Part)

DIGITS: Final = 6
SHOWN: Final[tuple[Metric, ...]] = (  # on the page; no other is kept
    "ndcg@10",
    "tail_recall@10",
    "head_recall@10",
    "cold_recall@10",
    "coverage@10",
    "auc",
)
# What may differ between the runs of one group: a seed deals shoppers, and so sizes, anew.
_NOT_A_VARIANT: Final = ("seed", "size_bracket", "delta")


class Data(Part):
    """What was learnt from and tested on."""

    name: str
    synthetic: bool
    shoppers: int
    items: int
    interactions: int
    cases: int
    split: str
    partition: str


class SpreadExtract(Part):
    """How one model serves the merchants, who are not named."""

    model: str
    metric: Metric
    mean: Number
    worst: Number


class GainExtract(Part):
    """What a model brings over a baseline, merchant by merchant."""

    model: str
    baseline: str
    metric: Metric
    merchants: int = Field(ge=0)
    ahead: int = Field(ge=0)
    median: Number
    worst: Interval


class OwnBestExtract(Part):
    """The joined model against each merchant's own best."""

    min_cases: int = Field(ge=1)
    merchants: int = Field(ge=0)
    better: int = Field(ge=0)
    worse: int = Field(ge=0)
    worst: Interval | None


class FairnessExtract(Part):
    """How evenly merchants are served."""

    spreads: tuple[SpreadExtract, ...]
    gains: tuple[GainExtract, ...]
    own_best: OwnBestExtract | None = None


class HeldOutExtract(Part):
    """Merchants that never trained, taken together."""

    merchants: int = Field(ge=1)
    cases: int = Field(ge=0)
    metrics: dict[str, dict[Metric, Number]]
    differences: tuple[Difference, ...]


class Extract(Part):
    """One run in numbers."""

    created: UtcTime
    data: Data
    settings: dict[str, JsonValue]
    metrics: dict[str, dict[Metric, Number]]
    intervals: dict[str, dict[Metric, Interval]]
    differences: tuple[Difference, ...]
    dp_model: DpModel
    epsilon: Number
    audit: Number
    environment: Environment
    seconds: float
    fairness: FairnessExtract | None = None
    held_out: HeldOutExtract | None = None
    gate: GateRecord | None = None
    epsilon_curve: EpsilonCurve | None = None
    by_size: tuple[SizeGains, ...] = ()

    @property
    def seed(self) -> int:
        """The run's."""
        return int(str(self.settings["seed"]))

    @property
    def group(self) -> tuple[str, ...]:
        """What runs that differ by their seed alone have in common."""
        held = 0 if self.held_out is None else self.held_out.merchants
        settings = {n: v for n, v in self.settings.items() if n not in _NOT_A_VARIANT}
        told = json.dumps(settings, sort_keys=True)
        return (self.data.name, self.data.partition, str(held), told)

    @property
    def file_name(self) -> str:
        """A name that says what was run, the same for a run that is made again."""
        variant = sha256_hex(repr(self.group).encode())[:6]
        epsilon = "no-noise" if self.dp_model == "none" else f"eps{self.settings['epsilon']:g}"
        name = "".join(one if one.isalnum() or one == "_" else "-" for one in self.data.name)
        return f"{name}-{self.dp_model}-{epsilon}-{variant}-seed{self.seed}.json"


def extract(results: Results) -> Extract:
    """Return what is kept of a run."""
    audits = [one.audit.epsilon for one in results.privacy.merchants.values() if one.audit]
    held = results.held_out
    return Extract(
        created=results.created,
        data=_kept(Data, results.dataset),
        settings={**results.settings, "base_model": _last_part(results.settings)},
        metrics=_shown(results.metrics),
        intervals=_shown(results.intervals.metrics),
        differences=_told(results.intervals.differences),
        dp_model=results.privacy.dp_model,
        epsilon=results.privacy.worst_epsilon,
        audit=max(audits, default=None),
        environment=results.environment.model_copy(
            update={"platform": results.environment.platform.split()[0]}
        ),
        seconds=results.timing.total_seconds,
        fairness=None if results.fairness is None else _unnamed(results.fairness),
        held_out=None
        if held is None
        else HeldOutExtract(
            merchants=len(held.merchants),
            cases=sum(one.cases for one in held.merchants),
            metrics=_shown(held.metrics),
            differences=_told(held.intervals.differences),
        ),
        gate=results.gate,
        epsilon_curve=results.epsilon_curve,
        by_size=results.by_size,
    )


def _shown(metrics: Mapping[str, Mapping[Metric, T]]) -> dict[str, dict[Metric, T]]:
    """Return each model's values in the metrics that the page shows."""
    return {
        model: {metric: of_model[metric] for metric in SHOWN if metric in of_model}
        for model, of_model in metrics.items()
    }


def _told(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    """Return the differences in the metrics that the page and the targets compare models by."""
    return tuple(one for one in differences if one.metric in SPREAD_METRICS)


def _unnamed(fairness: Fairness) -> FairnessExtract:
    return FairnessExtract(
        spreads=tuple(_kept(SpreadExtract, one) for one in fairness.spreads),
        gains=tuple(_kept(GainExtract, one) for one in fairness.gains),
        own_best=None if fairness.own_best is None else _kept(OwnBestExtract, fairness.own_best),
    )


def _kept(kind: type[P], whole: Part) -> P:
    """Return the fields of `whole` that `kind` has."""
    return kind(**{name: getattr(whole, name) for name in kind.model_fields})


def _last_part(settings: dict[str, JsonValue]) -> str:
    """Return the base model's name; of a folder its last part, since a path is the machine's."""
    return Path(str(settings.get("base_model", ""))).name


def write_extract(one: Extract, folder: Path) -> Path:
    """Write an extract under its own name, in the place of one of the same run."""
    path = folder / one.file_name
    fields = one.model_dump(mode="json")
    fields = {**_rounded(fields), "settings": fields["settings"]}  # a delta may be small
    write_atomic(path, json.dumps(fields, separators=(",", ":"), sort_keys=True).encode() + b"\n")
    return path


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list) else value


def read_extracts(folder: Path) -> list[Extract]:
    """Return all extracts of a folder, by file name.

    Raises:
        InputError: if one cannot be read.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            fields = json.dumps(renamed(json.loads(path.read_bytes())))
            found.append(Extract.model_validate_json(fields, strict=True))
        except ValidationError as error:
            raise InputError(
                f"{path.name} is not an extract of this version: {first_problem(error)}.",
                field="extract",
            ) from error
    return found
