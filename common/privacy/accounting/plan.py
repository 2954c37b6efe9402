"""The frozen plan of a private run: sampler, clip, noise and accounting all read it.

Nothing in it comes from the data: it is fixed before the data is looked at, and it is public.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from common.errors import SettingsError
from common.files import sha256_hex
from common.privacy.accounting.accountants import MechanismEvent

DpModel = Literal["local", "distributed", "central", "none"]
EventKind = Literal["popularity", "season", "train"]

DP_MODELS: tuple[str, ...] = get_args(DpModel)
# Numbers that may leave a node beside an update: both follow from the plans charged so far, which
# are public, and from no shopper's row.
ALLOWED_METRICS = frozenset({"epsilon", "delta"})
EVENT_KINDS: tuple[str, ...] = get_args(EventKind)
MAX_NOISE = 1e4  # the largest noise multiplier
# With fewer a secure sum could spare nobody: see `common.privacy.secagg.topology`.
LEAST_SHARING = 5
SPARED_SHARE = 1 / 3
# Shares are for a noise multiplier that is larger by this part than the one that is counted. It
# pays for what a sum of discrete shares is not a Gaussian: see
# `common.privacy.accounting.shared_claim`.
KEPT_FOR_SHARES = 2.0**-12
# No earlier version had it: left out of a plan's JSON where it is 0, so that an older plan keeps
# its digest.
_LATER = ("season_noise_multiplier", "spared")


@dataclass(frozen=True)
class PrivacyPlan:
    """All that decides how private a run is.

    Attributes:
        sample_rate: q in (0, 1]: each shopper's chance to take part in a step, by independent
            coin flips (Poisson sampling).
        steps: T, private steps over the whole run. 0 is a refresh: the season is all that it takes,
            so `noise_multiplier` and `popularity_noise_multiplier` are 0 too.
        noise_multiplier: sigma of one step: the noise's standard deviation over `max_grad_norm`.
        max_grad_norm: C, the L2 bound of one shopper's gradient.
        size_bracket: The merchant's size bracket. Public because it is declared: it is not
            counted from the data, and being wrong costs accuracy, not privacy.
        delta: In (0, 1); below one over the number of shoppers to mean anything.
        dp_model: Where noise is added. `local`: by each merchant, to its own update.
            `distributed`: each merchant adds a share, and only the securely computed sum over
            `merchants` is seen. `central`: on a trusted sum over `merchants`, in simulation only.
            `none`: nowhere, a baseline without privacy, in simulation only; all noise multipliers
            are then 0.
        popularity_noise_multiplier: sigma of the one histogram of item popularity, whose L2
            sensitivity is 1. 0: no histogram is taken, and popularity is uniform.
        merchants: N, how many merchants share the noise when `dp_model` is `central`, or
            `distributed`, where there are at least 5.
        steps_per_round: Private steps in one round; divides `steps`. 1 with `distributed`: a
            merchant's second step would stand on a first with a share of the noise alone.
        season_noise_multiplier: sigma of the one season vector, to which a shopper adds a row of
            L2 norm at most 1. 0: none is taken, unless `dp_model` is `none`, where the run's
            settings say whether an exact one is.
        spared: How many of the merchants may be missing from a sum, or with the server, together:
            the noise multipliers are those of the other N - `spared`. At most half of them; 0
            unless `dp_model` is `distributed`.

    Raises:
        SettingsError: if a value is of the wrong kind or out of bounds.
    """

    sample_rate: float
    steps: int
    noise_multiplier: float
    max_grad_norm: float
    size_bracket: int
    delta: float
    dp_model: DpModel
    popularity_noise_multiplier: float = 0.0
    merchants: int = 1
    steps_per_round: int = 1
    season_noise_multiplier: float = 0.0
    spared: int = 0

    def __post_init__(self) -> None:
        self._number("sample_rate", 0, 1, low_open=True)
        self._number("noise_multiplier", 0, MAX_NOISE)
        self._number("popularity_noise_multiplier", 0, MAX_NOISE)
        self._number("season_noise_multiplier", 0, MAX_NOISE)
        self._number("max_grad_norm", 1e-9, 1e9)
        self._number("delta", 0, 0.1, low_open=True)
        self._count("steps", 10_000_000, least=0)
        self._count("size_bracket", 1_000_000_000)
        self._count("merchants", 100_000)
        self._count("steps_per_round", max(self.steps, 1))
        self._count("spared", self.merchants // 2, least=0)
        if self.dp_model not in DP_MODELS:
            raise SettingsError(
                f"dp_model must be one of {', '.join(DP_MODELS)}.", field="dp_model"
            )
        if self.steps % self.steps_per_round:
            raise SettingsError(
                f"steps_per_round must divide steps ({self.steps}), so that each round has as "
                "many.",
                field="steps_per_round",
            )
        self._check_noise()
        self._check_refresh()
        self._check_sharing()

    def _number(self, name: str, low: float, high: float, *, low_open: bool = False) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise SettingsError(f"{name} must be a number, not {type(value).__name__}.", field=name)
        inside = (low < value if low_open else low <= value) and value <= high
        if not inside:  # also when it is not a number
            bracket = "(" if low_open else "["
            raise SettingsError(
                f"{name} is {value:g}; it must be in {bracket}{low:g}, {high:g}].", field=name
            )
        object.__setattr__(self, name, float(value))  # 1 and 1.0 are one plan with one digest

    def _count(self, name: str, high: int, *, least: int = 1) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise SettingsError(
                f"{name} must be a whole number, not {type(value).__name__}.", field=name
            )
        if not least <= value <= high:
            raise SettingsError(f"{name} is {value}; it must be {least} to {high}.", field=name)

    def _check_noise(self) -> None:
        if self.dp_model == "none":
            beside = (self.popularity_noise_multiplier, self.season_noise_multiplier)
            if self.noise_multiplier or any(beside):
                raise SettingsError(
                    "noise_multiplier must be 0 where DP model is none.", field="noise_multiplier"
                )
        elif self.noise_multiplier == 0 and self.steps:
            raise SettingsError(
                "noise_multiplier must be above 0 unless DP model is none.",
                field="noise_multiplier",
            )

    def _check_refresh(self) -> None:
        """Hold a plan without steps to what it takes: one season, and no noise of anything else."""
        if self.steps:
            return
        for name in ("noise_multiplier", "popularity_noise_multiplier"):
            if getattr(self, name):
                raise SettingsError(f"Without steps {name} must be 0.", field=name)
        if self.dp_model != "none" and not self.takes_season:
            raise SettingsError(
                "A plan without steps takes a season: season_noise_multiplier must be above 0.",
                field="season_noise_multiplier",
            )

    def _check_sharing(self) -> None:
        shared = self.dp_model == "distributed"
        if self.spared and not shared:
            raise SettingsError("spared must be 0 unless DP model is distributed.", field="spared")
        if shared and self.merchants < LEAST_SHARING:
            raise SettingsError(
                f"Distributed noise needs at least {LEAST_SHARING} merchants; the plan has "
                f"{self.merchants}.",
                field="merchants",
            )
        if shared and self.steps_per_round != 1:
            raise SettingsError(
                "With distributed noise steps_per_round must be 1.", field="steps_per_round"
            )

    @property
    def least_merchants(self) -> int:
        """How many merchants' shares carry the plan's noise: a sum over fewer must not be seen."""
        return self.merchants - self.spared if self.dp_model == "distributed" else 1

    @property
    def divisor(self) -> float:
        """What a noised sum is divided by: q times the declared shoppers, never a count of data."""
        return self.sample_rate * self.size_bracket

    @property
    def large_delta(self) -> bool:
        """Whether delta is above 1 / (10 x the declared size).

        A release that showed each shopper whole with chance delta would then be expected to show a
        tenth of one, or more.
        """
        return self.delta * 10 * self.size_bracket > 1 + 1e-9

    @property
    def delta_warning(self) -> str:
        """What to say of a delta that is large for the declared size; empty where it is not."""
        if not self.large_delta or self.dp_model == "none":
            return ""
        return (
            f"delta {self.delta:.1e} is above 1 / (10 x {self.size_bracket:,}), a tenth of one "
            "over the declared size: with so large a failure epsilon says little."
        )

    @property
    def rounds(self) -> int:
        """How many rounds the run has."""
        return self.steps // self.steps_per_round

    @property
    def trains(self) -> bool:
        """Whether the run has rounds; one that has none takes the season anew, and no more."""
        return self.steps > 0

    @property
    def takes_histogram(self) -> bool:
        """Whether the run opens with the popularity histogram (exact where DP model is none)."""
        exact = self.dp_model == "none" and self.trains
        return exact or self.popularity_noise_multiplier > 0

    @property
    def takes_season(self) -> bool:
        """Whether the run takes a noised season vector, once, before its rounds."""
        return self.season_noise_multiplier > 0

    def event(self, kind: EventKind) -> MechanismEvent:
        """Return what one round (`train`), the histogram (`popularity`) or the `season` costs.

        Raises:
            SettingsError: if the plan takes no such histogram or season, or has no round.
        """
        if kind == "train":
            if not self.trains:
                raise SettingsError("The plan has no round: it takes a season.", field="steps")
            return MechanismEvent(self.sample_rate, self.noise_multiplier, self.steps_per_round)
        if kind == "season":
            if not self.takes_season and self.dp_model != "none":
                raise SettingsError(
                    "The plan takes no season: season_noise_multiplier is 0.",
                    field="season_noise_multiplier",
                )
            return MechanismEvent(1.0, self.season_noise_multiplier, 1)
        if not self.takes_histogram:
            raise SettingsError(
                "The plan takes no popularity histogram: popularity_noise_multiplier is 0.",
                field="popularity_noise_multiplier",
            )
        return MechanismEvent(1.0, self.popularity_noise_multiplier, 1)

    def events(self, rounds: int | None = None) -> tuple[MechanismEvent, ...]:
        """Return what the accountants compose: histogram, season, and steps of `rounds` rounds.

        Args:
            rounds: How many rounds are counted; all of them where it is None.
        """
        count = self.steps if rounds is None else rounds * self.steps_per_round
        training = MechanismEvent(self.sample_rate, self.noise_multiplier, count)
        histogram = (self.event("popularity"),) if self.takes_histogram else ()
        season = (self.event("season"),) if self.takes_season else ()
        return (*histogram, *season, *((training,) if self.trains else ()))

    def clip_norm(self, kind: EventKind) -> float:
        """Return the L2 bound of a shopper's row: C in training, 1 in histogram and season."""
        return self.max_grad_norm if kind == "train" else 1.0

    def noise_std(self, kind: EventKind) -> float:
        """Return the standard deviation of the noise one merchant adds to one sum.

        With `central` each of N merchants adds 1/N of the variance, so that the sum over
        merchants carries exactly sigma times the bound. With `distributed` each adds a share of
        1/(N - spared) of it, and of `KEPT_FOR_SHARES`: that of the integers it draws, to a part in
        2^50, see `common.privacy.mechanism.shares`. k merchants together add sqrt(k) times this.
        """
        if self.dp_model == "none":
            return 0.0
        full = self.shared_multiplier(kind) * self.clip_norm(kind)
        if self.dp_model == "distributed":
            return full / math.sqrt(self.least_merchants)
        return full / math.sqrt(self.merchants) if self.dp_model == "central" else full

    def shared_multiplier(self, kind: EventKind) -> float:
        """Return the noise over the bound that the fewest merchants of a sum add together."""
        counted = self.event(kind).noise_multiplier
        return counted * (1 + KEPT_FOR_SHARES) if self.dp_model == "distributed" else counted

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `to_json`: equal exactly when every value is equal."""
        return sha256_hex(self.to_json().encode())

    def to_json(self) -> str:
        """Return the plan as canonical JSON (sorted keys, no spaces)."""
        return json.dumps(self.told(), sort_keys=True, separators=(",", ":"))

    def told(self) -> dict[str, Any]:
        """Return the fields as they are told, without those that an older plan lacks and has as 0.

        So a plan without a season has the JSON and the digest that it had before there was one.
        """
        fields = dataclasses.asdict(self)
        return {name: one for name, one in fields.items() if one or name not in _LATER}

    @classmethod
    def from_json(cls, text: str) -> "PrivacyPlan":
        """Read `to_json`'s text: every field present but those of later versions, none unknown.

        Raises:
            SettingsError: if it is not such text, or a value is out of bounds.
        """
        try:
            fields: Any = json.loads(text)
        except ValueError as error:
            raise SettingsError("The plan is not JSON.", field="plan") from error
        if not isinstance(fields, Mapping):
            raise SettingsError("The plan must be a JSON object.", field="plan")
        names = {one.name for one in dataclasses.fields(cls)}
        for name in sorted(names - fields.keys() - set(_LATER)):
            raise SettingsError(f"The plan lacks {name}.", field=name)
        if fields.keys() - names:
            raise SettingsError("The plan has a field this version does not know.", field="plan")
        return cls(**fields)


def spared_of(merchants: int, share: float) -> int:
    """Return floor(rho N), how many of N merchants a plan spares; 0.29 of 100 is 29.

    Raises:
        SettingsError: field `spared_share`, unless it is in [0, 0.5].
    """
    if not 0 <= share <= 0.5:
        raise SettingsError("spared_share must be in [0, 0.5].", field="spared_share")
    return math.floor(share * merchants + 1e-9)
