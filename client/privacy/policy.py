"""The merchant's own floor: what no run may go below, whatever its plan says.

The policy is a file of the merchant's, outside the app that the operator ships, and it is checked
on the node before anything is charged. The app checks it, all but `app_digests`: which app may run
is checked by `client.privacy.app_guard` in the node's own process, so that the app which enforces
the rest is the one the merchant has installed, or one it lists.
"""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import PolicyError, SettingsError
from common.privacy.accounting.accountants import ceiling_for, epsilon_pld
from common.privacy.accounting.plan import (
    ALLOWED_METRICS,
    DP_MODELS,
    SPARED_SHARE,
    PrivacyPlan,
    spared_of,
)
from common.privacy.accounting.shared_claim import check_shared
from common.settings.run import LEAST_TEMPERATURE, MOST_BASIS_NORM, MOST_POPULARITY_RATIO

POLICY_FILE = "policy.toml"  # in the shop's folder
_NUMBERS = (
    "max_epsilon",
    "max_run_epsilon",
    "delta",
    "min_noise_multiplier",
    "min_temperature",
    "max_basis_norm",
    "max_popularity_ratio",
    "min_spared_share",
)


@dataclass(frozen=True)
class Policy:
    """What a merchant allows.

    Attributes:
        max_epsilon: Ceiling over everything ever charged to the ledger: all rounds, runs,
            restarts and federations, gated by a Rényi filter (`budget_share`). The filter is 10 to
            15% above a plan's own PLD epsilon: a run planned at 4 needs a ceiling of about 4.6,
            two such runs about 6.5, three 8.1.
        max_run_epsilon: Ceiling of one plan's PLD epsilon at `delta`.
        budget_days: Over how many days on end the ceiling holds; 0 is for life. With D days it
            grows back: what was spent D days ago no longer counts, and what an observer learns
            over several spans adds up.
        delta: The delta of both; a plan with a larger one is refused.
        min_noise_multiplier: The least sigma of a training step; a refresh has none.
        dp_models: Noise DP models allowed. `distributed` trusts that enough of the others are no
            helpers of the operator, so it is allowed only where the file says so. `central` and
            `none` trust whoever sums or sees the updates and belong in simulations.
        min_spared_share: With `distributed`, the least part of a plan's merchants that may be
            missing or with the operator before its noise is short. At most 0.5.
        allow_seeded_noise: Whether noise from a fixed seed is allowed, which protects nobody.
        min_cohort: The fewest merchants a run may start with, by its own settings: nobody on the
            node can count them. An average over few tells each of them more about the others. With
            `distributed` the node counts them, in the roster and in each sum.
        min_temperature: The least temperature that a run's loss may divide similarities by.
        max_basis_norm: The largest norm that a tensor of a run's public basis may have.
        allow_season: Whether a run may take a season vector of the shoppers' purchases.
        allow_refresh: Whether the season may be taken by itself, between trainings. Each refresh
            counts against both ceilings as a run does.
        max_popularity_ratio: How many times as likely as the rarest item the most popular may be
            in a run's loss.
        metrics: Names of the numbers that may leave beside an update, out of `ALLOWED_METRICS`.
        app_digests: SHA-256 of each Flower app bundle that may run here beside the one of the
            merchant's installed version, 64 hex digits. Checked by `client.privacy.app_guard`,
            outside the bundle; see there.

    Raises:
        SettingsError: if a value is of the wrong kind or out of bounds.
    """

    max_epsilon: float = 8.0
    max_run_epsilon: float = 8.0
    budget_days: int = 0
    delta: float = 1e-5
    min_noise_multiplier: float = 0.3
    dp_models: tuple[str, ...] = ("local",)
    min_spared_share: float = SPARED_SHARE
    allow_seeded_noise: bool = False
    min_cohort: int = 1
    min_temperature: float = LEAST_TEMPERATURE
    max_basis_norm: float = MOST_BASIS_NORM
    max_popularity_ratio: float = MOST_POPULARITY_RATIO
    allow_season: bool = True
    allow_refresh: bool = True
    metrics: tuple[str, ...] = tuple(sorted(ALLOWED_METRICS))
    app_digests: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in _NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise SettingsError(
                    f"The policy's {name} must be a number, not {type(value).__name__}.",
                    field=name,
                )
            if not value >= 0:
                raise SettingsError(f"The policy's {name} must be at least 0.", field=name)
        if self.min_spared_share > 0.5:
            raise SettingsError(
                "The policy's min_spared_share must be at most 0.5.", field="min_spared_share"
            )
        if not 0 < self.delta < 1:
            raise SettingsError("The policy's delta must lie between 0 and 1.", field="delta")
        for name in ("allow_seeded_noise", "allow_season", "allow_refresh"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError(f"The policy's {name} must be true or false.", field=name)
        self._whole("min_cohort", 1)
        self._whole("budget_days", 0)
        self._list("dp_models", f"out of {', '.join(DP_MODELS)}", DP_MODELS.__contains__)
        known = ", ".join(sorted(ALLOWED_METRICS))
        self._list("metrics", f"out of {known}", ALLOWED_METRICS.__contains__)
        self._list("app_digests", "of SHA-256 digests in 64 lower-case hex digits", _is_digest)

    def _whole(self, name: str, least: int) -> None:
        """Refuse a setting that is not a whole number of at least `least`."""
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise SettingsError(
                f"The policy's {name} must be a whole number, not {type(value).__name__}.",
                field=name,
            )
        if value < least:
            raise SettingsError(f"The policy's {name} must be at least {least}.", field=name)

    def _list(self, name: str, what: str, allowed: Callable[[str], bool]) -> None:
        """Refuse a setting that is not a list of texts that are `allowed`."""
        values = getattr(self, name)
        if not isinstance(values, tuple) or not all(
            isinstance(value, str) and allowed(value) for value in values
        ):
            raise SettingsError(f"The policy's {name} must be a list {what}.", field=name)

    @classmethod
    def from_toml(cls, path: Path) -> "Policy":
        """Read a policy file; what it leaves out has its default.

        Raises:
            SettingsError: if it cannot be read, has an unknown name, or a value is out of bounds.
        """
        try:
            values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"The policy {path} cannot be read: {error}.", field="policy"
            ) from error
        known = {one.name for one in dataclasses.fields(cls)}
        unknown = sorted(values.keys() - known)
        if unknown:
            # A misspelt ceiling must not silently become the default.
            raise SettingsError(
                f"The policy {path} has an unknown setting {unknown[0]!r}; known are "
                f"{', '.join(sorted(known))}.",
                field="policy",
            )
        lists = {name: tuple(one) for name, one in values.items() if isinstance(one, list)}
        return cls(**values | lists)

    @classmethod
    def for_simulation(cls, plan: PrivacyPlan, *, seeded_noise: bool = False) -> "Policy":
        """Return the policy that lets exactly one run of `plan` through on a fresh ledger."""
        return cls(
            max_epsilon=ceiling_for(plan.events(), plan.delta),
            max_run_epsilon=epsilon_pld(plan.events(), plan.delta),
            delta=plan.delta,
            min_noise_multiplier=plan.noise_multiplier,
            dp_models=(plan.dp_model,),
            min_spared_share=0.0,
            allow_seeded_noise=seeded_noise,
        )

    def check(
        self, plan: PrivacyPlan, *, seeded_noise: bool = False, cohort: int | None = None
    ) -> None:
        """Refuse a plan that asks for less privacy than the policy.

        Args:
            plan: The run's.
            seeded_noise: Whether the run asks for noise from a fixed seed.
            cohort: The fewest merchants the run starts with; None where nobody has said.

        Raises:
            PolicyError: naming what is too weak and its bound.
            PrivacyError: as `check_shared`.
        """
        if plan.dp_model not in self.dp_models:
            raise PolicyError(
                f"The plan's DP model is {plan.dp_model}; the policy allows "
                f"{', '.join(self.dp_models) or 'none at all'}.",
                field="dp_model",
            )
        self.check_seeds(seeded_noise=seeded_noise)
        self._check_sharing(plan)
        starts = max(cohort or 1, plan.least_merchants)
        if starts < self.min_cohort:
            raise PolicyError(
                f"The run starts with {starts} merchant(s); the policy asks for at least "
                f"{self.min_cohort} (the run's setting min_merchants).",
                field="min_merchants",
            )
        if not plan.trains and not self.allow_refresh:
            raise PolicyError(
                "The run takes a season alone, between trainings; the policy does not allow it.",
                field="allow_refresh",
            )
        if plan.trains and plan.noise_multiplier < self.min_noise_multiplier:
            raise PolicyError(
                f"The plan's noise_multiplier is {plan.noise_multiplier:.4g}; the policy's "
                f"minimum is {self.min_noise_multiplier:.4g}.",
                field="noise_multiplier",
            )
        if plan.delta > self.delta:
            raise PolicyError(
                f"The plan's delta is {plan.delta:.3g}; the policy's is {self.delta:.3g}.",
                field="delta",
            )
        epsilon = epsilon_pld(plan.events(), self.delta)
        if epsilon > self.max_run_epsilon:
            raise PolicyError(
                f"The plan costs epsilon {epsilon:.4f} at delta {self.delta:.3g}; the policy "
                f"allows {self.max_run_epsilon:.4f} for one run.",
                field="epsilon",
            )

    def _check_sharing(self, plan: PrivacyPlan) -> None:
        if plan.dp_model != "distributed":
            return
        least = spared_of(plan.merchants, self.min_spared_share)
        if plan.spared < least:
            raise PolicyError(
                f"The plan's noise spares {plan.spared} of {plan.merchants} merchants; the policy "
                f"asks for at least {least}.",
                field="spared",
            )
        check_shared(plan)

    def check_seeds(self, *, seeded_noise: bool) -> None:
        """Refuse what repeats from a fixed seed, unless the merchant allows it.

        Raises:
            PolicyError: field `seeded_noise`.
        """
        if seeded_noise and not self.allow_seeded_noise:
            raise PolicyError(
                "The run asks for noise from a fixed seed; the policy does not allow it.",
                field="seeded_noise",
            )

    def check_public(self, temperature: float, basis_norm: float) -> None:
        """Refuse what an operator chose, and every gradient goes through, where it is too steep.

        Args:
            temperature: `RunSettings.temperature`.
            basis_norm: `PublicBasis.largest_norm`.

        Raises:
            PolicyError: field `temperature` or `basis`.
        """
        if not temperature >= self.min_temperature:
            raise PolicyError(
                f"The run's temperature is {temperature:.3g}; the policy's minimum is "
                f"{self.min_temperature:.3g}.",
                field="temperature",
            )
        if not basis_norm <= self.max_basis_norm:
            raise PolicyError(
                f"The run's basis has a norm of {basis_norm:.3g}; the policy's maximum is "
                f"{self.max_basis_norm:.3g}.",
                field="basis",
            )

    def check_popularity(self, popularity: NDArray[np.float32] | None) -> None:
        """Refuse item probabilities [items] that are none, or of a wider range than is allowed.

        Raises:
            PolicyError: field `popularity`.
        """
        if popularity is None or not popularity.size:
            return
        low, high = float(popularity.min()), float(popularity.max())
        if not (0 < low <= high <= 1 and high <= low * self.max_popularity_ratio):
            raise PolicyError(
                "The run's popularity must be probabilities above 0, the largest at most "
                f"{self.max_popularity_ratio:.3g} times the least.",
                field="popularity",
            )

    def check_season(self) -> None:
        """Refuse a season vector where the merchant gives none; the rest of a run may go on.

        Raises:
            PolicyError: field `allow_season`.
        """
        if not self.allow_season:
            raise PolicyError(
                "The run asks for a season vector; the policy does not allow it.",
                field="allow_season",
            )

    def check_metrics(self, metrics: Mapping[str, float]) -> None:
        """Refuse numbers that the policy does not let out.

        Raises:
            PolicyError: naming none of them: a name may be made from data.
        """
        if not set(self.metrics).issuperset(metrics):
            raise PolicyError(
                f"A metric would leave that the policy does not allow; it allows "
                f"{', '.join(self.metrics) or 'none at all'}.",
                field="metrics",
            )

    def check_app(self, digest: str, installed: str) -> None:
        """Refuse a Flower app bundle that is neither the merchant's own nor on the list.

        Args:
            digest: SHA-256 of the bundle's bytes.
            installed: That of the bundle of the merchant's installed version; empty if unknown.

        Raises:
            PolicyError: with its digest, so that a merchant can add it.
        """
        if digest == installed or digest in self.app_digests:
            return
        own = (
            f"the one of the installed version ({installed})"
            if installed
            else ("known to be that of the installed version, which has no pyproject.toml")
        )
        raise PolicyError(
            f"The app bundle {digest} is not {own}, and is not among the policy's app_digests.",
            field="app_digests",
        )


def read_policy(shop: Path) -> Policy:
    """Return the policy in a shop's folder; the default one where there is no file.

    Raises:
        SettingsError: as `Policy.from_toml`.
    """
    path = shop / POLICY_FILE
    return Policy.from_toml(path) if path.exists() else Policy()


def check_declared(*, declared: bool) -> None:
    """Refuse to federate with a catalogue that was learnt from purchases.

    Items, their digest and the keys of their texts leave the node uncharged, because a catalogue is
    public by declaration. One that was read out of purchases tells what somebody bought.

    Args:
        declared: `MerchantData.catalogue_declared`, itself a public fact.

    Raises:
        PolicyError: `catalogue_declared`.
    """
    if not declared:
        raise PolicyError(
            "The items were learnt from purchases; a federation needs an item list of its own. "
            "Import the shop again with one, its unsold items kept: see "
            "docs/how-to-import-your-shop.md. Until then it may rank on this machine.",
            field="catalogue_declared",
        )


def _is_digest(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}", text) is not None
