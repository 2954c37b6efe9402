"""What `fedtail simulate` was asked to do, and what it declares for the merchants it simulates."""

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from client.shop.splitting import SplitRule
from common.errors import InputError, SettingsError
from common.release.manifest import MeasuredOn
from common.settings.run import RunSettings, read_toml
from simulations.data.partition import PartitionKind, Sizes

PARTITIONS: tuple[PartitionKind, ...] = ("column", "dirichlet", "kinds", "random")
SIZES: tuple[Sizes, ...] = ("equal", "zipf")
NO_HOLDOUT = "none"
MOST_MERCHANTS = 10_000
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - read as UTC, and shorter to write without it
_BRACKETS = (1, 1.5, 2, 3, 5, 7)  # per power of ten


@dataclass(frozen=True)
class SimulationOptions:
    """One simulation.

    Attributes:
        out: Folder for all that it writes.
        data: Folder or file of a real data set; None is the synthetic marketplace.
        public_data: Whether `data` is declared public: only then may its shoppers' metrics stand in
            the release.
        mapping: Name or file of the data's mapping; None detects it.
        merchants: How many train.
        held_out_merchants: How many more there are that never train and only use the release.
        public_holdout: Folder or file of public data that the release must beat the frozen model
            on, or `none`. None is `none`, and with the marketplace further made-up shoppers.
        epsilon_curve: Budgets at which training is repeated, for accuracy against epsilon; inf is
            without noise. Empty draws no curve.
        partition: How shoppers are given to merchants; None takes the column where there is one.
        alpha: Dirichlet's concentration.
        kinds: Kinds of goods that `kinds` puts the items into, by their texts.
        sizes: Of merchants that `random` or `kinds` makes; None is `zipf` for the marketplace,
            whose shops are as unequal as real ones, and `equal` for data.
        partition_seed: Of the deal, apart from the training's seed.
        baselines: Also train without noise and on everybody's data in one place.
        solo: Also train each merchant alone.
        processes: How many of these trainings go on at once; None is one a core, at most 4.
        validation_only: Judge on the validation period and throw the test period away, to choose
            settings before the test is looked at.
        overwrite: Empty `out` first, but for what its ledgers say.
        tensorboard: Also write TensorBoard's event files.
        history: Item titles or ids that a person typed, for the example recommendations.
        refresh_of: Folder of an earlier simulation of the same merchants: its season is taken anew,
            on their ledgers, and nothing is trained. None trains.
        auto: Choose what is not set from declared facts, by `common.settings.auto`.
        settings: What was set for the run; the rest has defaults or is declared by size.

    Raises:
        SettingsError: if one of these or of `settings` is unknown or out of bounds.
    """

    out: Path
    data: Path | None = None
    public_data: bool = False
    mapping: str | None = None
    merchants: int = 4
    held_out_merchants: int = 0
    public_holdout: str | None = None
    epsilon_curve: tuple[float, ...] = ()
    partition: PartitionKind | None = None
    alpha: float = 0.5
    kinds: int = 8
    sizes: Sizes | None = None
    partition_seed: int = 0
    baselines: bool = True
    solo: bool = True
    processes: int | None = None
    validation_only: bool = False
    overwrite: bool = False
    tensorboard: bool = False
    history: tuple[str, ...] = ()
    refresh_of: Path | None = None
    auto: bool = False
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.partition is not None and self.partition not in PARTITIONS:
            raise SettingsError(
                f"partition must be one of {', '.join(PARTITIONS)}.", field="partition"
            )
        if self.sizes is not None and self.sizes not in SIZES:
            raise SettingsError(f"sizes must be one of {', '.join(SIZES)}.", field="sizes")
        if not 1 <= self.kinds <= 1000:
            raise SettingsError(f"kinds is {self.kinds}; it must be 1 to 1000.", field="kinds")
        if not 1 <= self.merchants <= MOST_MERCHANTS:
            raise SettingsError(
                f"merchants is {self.merchants}; it must be 1 to {MOST_MERCHANTS}.",
                field="merchants",
            )
        if self.processes is not None and not 1 <= self.processes <= 1000:
            raise SettingsError(
                f"processes is {self.processes}; it must be 1 to 1000.", field="processes"
            )
        if not 0 <= self.held_out_merchants <= 1000:
            raise SettingsError(
                f"held_out_merchants is {self.held_out_merchants}; it must be 0 to 1000.",
                field="held_out_merchants",
            )
        if len(set(self.epsilon_curve)) != len(self.epsilon_curve) or not all(
            epsilon > 0 for epsilon in self.epsilon_curve
        ):
            raise SettingsError(
                "epsilon_curve must be distinct numbers above 0, or inf.", field="epsilon_curve"
            )
        if self.refresh_of is not None and (self.baselines or self.solo or self.epsilon_curve):
            raise SettingsError(
                "A refresh trains nothing: no baselines, solo adapters or epsilon_curve.",
                field="refresh_of",
            )
        RunSettings.from_flat(self.settings)  # a wrong one is found before the data is read

    @property
    def measured_on(self) -> MeasuredOn:
        """On whose shoppers metrics are measured, as far as a release may tell."""
        if self.data is None:
            return "simulated"
        return "public" if self.public_data else "nothing"

    def sizes_of(self, how: PartitionKind) -> Sizes:
        """Return the sizes of merchants under the partition that is used."""
        if self.sizes is not None:
            return self.sizes
        return "zipf" if self.data is None and how == "random" else "equal"


def experiment_options(path: Path) -> dict[str, Any]:
    """Return an experiment file's values by option name, its `[settings]` table under `settings`.

    Raises:
        InputError: if the file cannot be read, names an option that does not exist, or gives one
            a value of the wrong kind.
    """
    table = read_toml(path)
    known = set(SimulationOptions.__dataclass_fields__) - {"out", "overwrite"}
    for name in list(table):
        if name not in known:
            raise InputError(
                f"{path.name}: there is no option {name!r}; known are {', '.join(sorted(known))}.",
                field=name,
            )
        table[name] = _typed(path, name, table[name])
    if "data" in table:
        table["data"] = (path.parent / table["data"]).resolve()
    if "refresh_of" in table:
        table["refresh_of"] = (path.parent / table["refresh_of"]).resolve()
    if table.get("public_holdout", NO_HOLDOUT) != NO_HOLDOUT:
        table["public_holdout"] = str((path.parent / table["public_holdout"]).resolve())
    return table


def _typed(path: Path, name: str, value: Any) -> Any:
    """Return an option's value as `SimulationOptions` has it: a text as a path, a list as tuple."""
    try:
        return TypeAdapter(get_type_hints(SimulationOptions)[name]).validate_python(value)
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
        raise InputError(
            f"{path.name}: {name}: a {type(value).__name__} was given; {problem.lower()}.",
            field=name,
        ) from None


def sizes_declared(asked: dict[str, Any]) -> bool:
    """Return whether both size bracket and delta were asked for, so that no count is told."""
    return {"size_bracket", "delta"} <= asked.keys()


def declared_settings(
    asked: dict[str, Any], shoppers: int, merchants: int, rule: SplitRule | None = None
) -> RunSettings:
    """Return the run's settings, sizes and season declared where they were not asked for.

    A merchant declares a bracket, not a count. Here the simulator declares it for all: the mean
    size rounded down to a bracket. delta is the power of ten below 1 / (10 x all shoppers). The
    season is taken when the test begins by the data's public `rule`; there is none without a clock.
    """
    bracket = size_bracket(shoppers / merchants)
    declared: dict[str, Any] = {
        "size_bracket": bracket,
        "delta": 10.0 ** -math.ceil(math.log10(10 * max(shoppers, 1000))),
    }
    if rule is not None and rule.kind == "time":
        declared["season_ends"] = (_EPOCH + timedelta(microseconds=rule.test_from)).isoformat()
    return RunSettings.from_flat({**declared, **asked})


def size_bracket(shoppers: float) -> int:
    """Return the largest of 10, 15, 20, 30, 50, 70, 100, ... that is at most `shoppers`."""
    power = 10 ** (len(str(int(max(shoppers, 10)))) - 1)  # a logarithm rounds up below a power
    return int(max(step * power for step in _BRACKETS if step * power <= max(shoppers, 10)))
