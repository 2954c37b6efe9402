"""One run's settings: parsed and checked once, frozen, and the same in every way of running.

They are flat so that Flower's run config, an experiment's TOML file and a command's options can
all hold them. None of them is learnt from a shopper.
"""

import json
import math
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from common.errors import InputError, SettingsError
from common.files import sha256_hex
from common.privacy.accounting.plan import SPARED_SHARE, PrivacyPlan
from common.privacy.accounting.plan_solver import check_shares, solve_plan
from common.settings.lora_targets import LoraTargets, LoraVariant

Scalar = bool | int | float | str
# What an operator chooses and every shopper's gradient goes through is bounded, here for all and in
# a merchant's policy for itself (docs/adr/0038-rows-independent-to-the-bit.md).
LEAST_TEMPERATURE = 0.01
MOST_BASIS_NORM = 1e6  # of each tensor of the basis
# Of one shopper's history, so that no shopper alone needs so much memory that a node breaks down.
MOST_HISTORY_TOKENS = 2**16
MOST_POPULARITY_RATIO = 1e6  # of the likeliest item's probability to the least likely one's
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MOST_SEASON_ENDS = 4  # a merchant sends one vector for each
Objective = Literal["softmax", "bce", "mse"]


class RunSettings(BaseModel):
    """What a run is made of. Every bound here is checked before anything starts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    # -- the federation
    rounds: int = Field(
        40, ge=0, le=100_000, description="Rounds of training; 0 in a refresh of the season alone."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seeds everything that is not private.")
    seeded_noise: bool = Field(
        False, description="Also seed noise and sampling. Protects nobody: for tests only."
    )
    quorum: float = Field(0.5, gt=0, le=1, description="Share of merchants that must answer.")
    min_merchants: int = Field(
        1, ge=1, le=100_000, description="Merchants needed to start; N of distributed noise."
    )
    wait_seconds: float = Field(600, gt=0, le=1e7, description="Wait for merchants at the start.")
    round_timeout: float = Field(600, gt=0, le=1e7, description="Seconds for one round.")
    prepare_timeout: float = Field(
        3600, gt=0, le=1e7, description="Seconds a node has to encode its catalogue."
    )
    grace_seconds: float = Field(
        60, ge=0, le=1e7, description="Wait for the rest, once enough merchants have answered."
    )

    # -- privacy
    epsilon: float = Field(4.0, gt=0, description="Whole run, one shopper at one merchant; or inf.")
    delta: float = Field(1e-5, gt=0, lt=0.1, description="Below 1 / (10 x shoppers).")
    noise: Literal["local", "distributed", "central", "none"] = Field(
        "local",
        description="Where noise is added; distributed takes 5 merchants, and their sum alone is "
        "seen; central and none exist in simulation only.",
    )
    spared_share: float = Field(
        SPARED_SHARE,
        ge=0,
        le=0.5,
        description="distributed: share of merchants that may be missing or with the server.",
    )
    sample_rate: float = Field(0.25, gt=0, le=1, description="q: a shopper's chance in a step.")
    max_grad_norm: float = Field(1.0, ge=1e-6, le=1e6, description="C: a shopper's L2 bound.")
    size_bracket: int = Field(400, ge=1, description="A merchant's declared size bracket.")
    popularity_share: float = Field(
        0.05, ge=0, lt=1, description="Share of the budget for the popularity histogram."
    )
    season_share: float = Field(
        0.25, ge=0, lt=1, description="Share of the budget for the season; 0: none is taken."
    )
    season_ends: str = Field(
        "", description="Days (UTC) at whose start the season is taken, comma between; empty: none."
    )
    refresh_of: str = Field(
        "",
        pattern=r"\A([0-9a-f]{64})?\z",
        description="Digest of the release whose season a run without rounds takes anew.",
    )
    audit_canaries: int = Field(
        512, ge=0, le=65_536, description="Canaries of the audit in each run; 0 turns it off."
    )
    steps_per_round: int = Field(1, ge=1, le=1000, description="Private steps in a round.")
    local_learning_rate: float = Field(
        0.01, gt=0, le=100, description="Step size between the private steps of one round."
    )

    # -- the model
    base_model: str = Field("all-MiniLM-L6-v2", min_length=1, description="Folder or hub name.")
    max_tokens: int = Field(64, ge=4, le=512, description="Longer item texts are cut.")
    whitening_power: float = Field(0.9, ge=0, le=1, description="1 whitens fully, 0 not at all.")
    sif_smoothing: float = Field(
        0.01, ge=0, le=1, description="In this share of texts a token counts half; 0: all alike."
    )
    lexical_weight: float = Field(
        0.7, ge=0, le=10, description="Length of the lexical part beside BERT's; 0: none."
    )
    lora: LoraVariant = Field("ffa-lora", description="ffa-lora averages exactly; lora does not.")
    lora_modules: str = Field("output.dense", description="Adapted weights, comma between.")
    last_layers: int = Field(1, ge=1, le=48, description="BERT layers that are adapted.")
    rank: int = Field(16, ge=1, le=768, description="r of each adapted weight.")
    output_rank: int = Field(
        96, ge=1, le=8192, description="Leading directions the last layer's B moves in."
    )

    # -- training
    objective: Objective = Field("softmax", description="Loss of one shopper.")
    temperature: float = Field(
        0.1, ge=LEAST_TEMPERATURE, le=10, description="Divides similarities in the loss."
    )
    popularity_strength: float = Field(
        1.2, ge=0, le=2, description="Logit adjustment: weight of log popularity in the loss."
    )
    negatives: int = Field(4096, ge=1, le=100_000, description="Catalogue items per loss.")
    history_decay: float = Field(1.0, gt=0, le=1, description="Weight per basket of age.")
    max_history: int = Field(100, ge=1, le=1000, description="History items of an example.")
    max_targets: int = Field(30, ge=1, le=1000, description="Target items of an example.")
    target_baskets: Literal["next", "all"] = Field(
        "all", description="Targets: the basket after the cut, or all baskets after it."
    )
    value_low: float = Field(0.0, ge=-1e6, le=1e6, description="Public lower end of ratings (mse).")
    value_high: float = Field(
        5.0, ge=-1e6, le=1e6, validate_default=True, description="Public upper end of ratings."
    )
    optimiser: Literal["adam_scalar", "sgd"] = Field("adam_scalar", description="Server's step.")
    learning_rate: float = Field(0.01, gt=0, le=100, description="Size of the server's step.")
    tau: float = Field(
        0.015, ge=1e-12, le=1e6, description="Adam: gradients below this size make shorter steps."
    )
    aggregation: Literal["mean", "trimmed_mean", "median", "capped_mean"] = Field(
        "mean",
        validate_default=True,
        description="From the merchants' updates to one step; with distributed and central noise "
        "it is the mean.",
    )
    trimmed_share: float = Field(
        0.25, gt=0, lt=0.5, description="trimmed_mean: share of updates left out at each end."
    )
    schedule: Literal["constant", "cosine"] = Field("constant", description="Of that size.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum, or Adam's first moment.")

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name != "seeded_noise":
            raise ValueError("true and false are no numbers or words")
        return value

    @field_validator("value_high")
    @classmethod
    def _above_low(cls, value: float, info: ValidationInfo) -> float:
        low = info.data.get("value_low", -math.inf)
        if value <= low:
            raise ValueError(f"it must be above value_low, {low:g}")
        return value

    @field_validator("aggregation")
    @classmethod
    def _sums_noise(cls, value: str, info: ValidationInfo) -> str:
        noise = info.data.get("noise")
        if value != "mean" and noise in {"distributed", "central"}:
            raise ValueError(f"with {noise} noise it must be mean: only a sum carries all noise")
        return value

    @field_validator("steps_per_round")
    @classmethod
    def _sums_each_step(cls, value: int, info: ValidationInfo) -> int:
        if value != 1 and info.data.get("noise") == "distributed":
            raise ValueError("with distributed noise it must be 1: each step is summed")
        return value

    @field_validator("max_history")
    @classmethod
    def _fits_memory(cls, value: int, info: ValidationInfo) -> int:
        most = MOST_HISTORY_TOKENS // info.data.get("max_tokens", 1)
        if value > most:
            raise ValueError(f"it must be at most {most}, as each item has max_tokens tokens")
        return value

    @field_validator("season_ends")
    @classmethod
    def _are_moments(cls, value: str) -> str:
        if len(_moments(value)) > MOST_SEASON_ENDS:
            raise ValueError(f"it must name at most {MOST_SEASON_ENDS} moments")
        return value

    @field_validator("lora_modules", "season_ends", mode="before")
    @classmethod
    def _join(cls, value: Any) -> Any:
        return ",".join(value) if isinstance(value, list | tuple) else value

    @property
    def lora_targets(self) -> LoraTargets:
        """Where the adapter sits.

        Raises:
            SettingsError: if it names an unknown module.
        """
        modules = tuple(part.strip() for part in self.lora_modules.split(",") if part.strip())
        return LoraTargets(modules, self.last_layers, self.rank, self.lora, self.output_rank)

    @property
    def season_moments(self) -> tuple[int, ...]:
        """When the season is taken, microseconds since 1970 UTC, ascending; empty: it is not."""
        return _moments(self.season_ends) if self.season_share > 0 else ()

    @property
    def budget_shares(self) -> tuple[float, float]:
        """The shares of the budget that are spent: the histogram's and the season's."""
        if not self.rounds:
            return 0.0, 1.0
        return (
            self.popularity_share if self.popularity_strength > 0 else 0.0,
            self.season_share if self.season_moments else 0.0,
        )

    @property
    def planned_merchants(self) -> int:
        """How many merchants share distributed noise; 1 where each has its own."""
        return self.min_merchants if self.noise == "distributed" else 1

    def plan(self, merchants: int | None = None) -> PrivacyPlan:
        """Return the privacy plan: the least noise for which the run's epsilon fits.

        Args:
            merchants: N, who share the noise; where it is None, `min_merchants` if the noise is
                distributed, so that whoever has the settings has the plan, and else 1.

        Raises:
            SettingsError: if no noise fits.
        """
        return solve_plan(
            epsilon=float("inf") if self.noise == "none" else self.epsilon,
            delta=self.delta,
            sample_rate=self.sample_rate,
            steps=self.rounds * self.steps_per_round,
            max_grad_norm=self.max_grad_norm,
            size_bracket=self.size_bracket,
            dp_model=self.noise,
            popularity_share=self.budget_shares[0],
            season_share=self.budget_shares[1],
            merchants=self.planned_merchants if merchants is None else merchants,
            steps_per_round=self.steps_per_round,
            spared_share=self.spared_share,
        )

    def to_flat(self) -> dict[str, Scalar]:
        """Return all settings as scalars, as they travel.

        Those of a season are left out where there is none: Flower carries no empty text, and so a
        run without a season has the digest that it had before there was one. So is `spared_share`
        where the noise is not distributed, and `refresh_of` where there are rounds.
        """
        flat = dict(self.model_dump())
        if not self.refresh_of:
            del flat["refresh_of"]
        if self.noise != "distributed":
            del flat["spared_share"]
        if not self.season_moments:
            del flat["season_share"], flat["season_ends"]
        return flat

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> "RunSettings":
        """Read settings; names may have hyphens, as in Flower's run config.

        Raises:
            SettingsError: names the setting, the kind of its value and the bound.
        """
        named = {name.replace("-", "_"): value for name, value in values.items()}
        try:
            settings = cls(**named)
        except ValidationError as error:
            raise _explain(error) from None
        _ = settings.lora_targets  # an unknown module is found here, not in the middle of a run
        if settings.rounds:
            check_shares(*settings.budget_shares)
        check_refresh(settings)
        return settings

    @classmethod
    def from_toml(cls, path: Path) -> "RunSettings":
        """Read an experiment file.

        Raises:
            InputError: if the file cannot be read or is not TOML.
            SettingsError: as `from_flat`.
        """
        return cls.from_flat(read_toml(path))


def check_refresh(settings: RunSettings) -> None:
    """Hold a run without rounds to the season that it takes; any other passes.

    Raises:
        SettingsError: if rounds are 0 and no release is named, or the other way about; or if a run
            without rounds takes no season, or asks for what only rounds have.
    """
    if bool(settings.rounds) == bool(settings.refresh_of):
        raise SettingsError(
            "A run without rounds refreshes the season of a release, and no other does: "
            "refresh_of names the release exactly where rounds is 0.",
            field="refresh_of",
        )
    if settings.rounds:
        return
    wrong = {
        "season_ends": not settings.season_moments,
        "audit_canaries": settings.audit_canaries != 0,
        "steps_per_round": settings.steps_per_round != 1,
    }
    for field in (field for field, is_wrong in wrong.items() if is_wrong):
        raise SettingsError(
            "A run without rounds takes a season: it names its ends, has a season_share above 0, "
            "no canaries and one step a round.",
            field=field,
        )


def run_digest(settings: Mapping[str, Scalar], basis: bytes) -> str:
    """Return the SHA-256 of a run's flat settings and frozen public tensors: which model it trains.

    600 and 600.0 are one setting: a TOML file may write either.
    """
    plain = {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in settings.items()
    }
    text = json.dumps(plain, sort_keys=True)
    return sha256_hex(f"{sha256_hex(basis)} {text}".encode())


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file's table.

    Raises:
        InputError: if the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path.name}: cannot be read ({error.strerror}).", field="experiment"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: not a TOML file: {error}.", field="experiment") from None


def _explain(error: ValidationError) -> SettingsError:
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "settings"
    if first["type"] == "extra_forbidden":
        return SettingsError(
            f"There is no setting {field!r}; `fedtail simulate --settings` lists all of them.",
            field=field,
        )
    kind = type(first["input"]).__name__
    message = _lower(first["msg"].removeprefix("Value error, "))
    return SettingsError(f"{field}: a {kind} was given; {message}.", field=field)


def _moments(text: str) -> tuple[int, ...]:
    """Return the moments in `text`, microseconds since 1970 UTC.

    Raises:
        ValueError: unless they are ISO days or times, ascending, with commas between.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            when = datetime.fromisoformat(part)
        except ValueError:
            raise ValueError(
                f"{part[:40]!r} must be a day such as 2026-11-30, or a time of one"
            ) from None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        found.append((when - _EPOCH) // timedelta(microseconds=1))
    if found != sorted(set(found)):
        raise ValueError("the moments must ascend, each once")
    return tuple(found)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")
