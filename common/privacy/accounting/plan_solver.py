"""Find the plan with the least noise for a budget.

Noise of training is searched for by PLD; histogram and season take their shares of the budget in mu
squared of Gaussian differential privacy. A plan without steps gives all of it to the season.
"""

import dataclasses
import math

from common.errors import SettingsError
from common.privacy.accounting.accountants import MechanismEvent, gaussian_mu, sigma_for_epsilon
from common.privacy.accounting.plan import SPARED_SHARE, DpModel, PrivacyPlan, spared_of


def solve_plan(
    *,
    epsilon: float,
    delta: float,
    sample_rate: float,
    steps: int,
    max_grad_norm: float,
    size_bracket: int,
    dp_model: DpModel = "local",
    popularity_share: float = 0.05,
    season_share: float = 0.0,
    merchants: int = 1,
    steps_per_round: int = 1,
    spared_share: float = SPARED_SHARE,
) -> PrivacyPlan:
    """Return the plan with the least noise for which the PLD epsilon of all events fits.

    Args:
        epsilon: What the whole run may cost one shopper at one merchant; infinite gives the
            plan without noise (DP model `none`).
        delta: The delta beside it.
        sample_rate: As in the plan, like all arguments not named here.
        steps: T of the whole run; 0: all of the budget is the season's, whatever the shares are.
        max_grad_norm: C.
        size_bracket: The size bracket.
        dp_model: `local`, `distributed` or `central`.
        popularity_share: The share in [0, 1) of the budget, in mu squared of Gaussian
            differential privacy, that the histogram takes; 0 leaves it out.
        season_share: The same of the season vector; both together below 1.
        merchants: Of the run.
        steps_per_round: Of the run.
        spared_share: rho, with `distributed`: the plan spares floor(rho N) merchants.

    Raises:
        SettingsError: if a value is out of bounds or no noise fits.
    """
    if not 0 <= popularity_share < 1:
        raise SettingsError("popularity_share must be in [0, 1).", field="popularity_share")
    if steps:
        check_shares(popularity_share, season_share)
    if math.isnan(epsilon) or epsilon <= 0:
        raise SettingsError("epsilon must be above 0.", field="epsilon")
    silent = PrivacyPlan(  # checks all other values before the search starts
        sample_rate=sample_rate,
        steps=steps,
        noise_multiplier=0.0,
        max_grad_norm=max_grad_norm,
        size_bracket=size_bracket,
        delta=delta,
        dp_model="none",
        merchants=merchants,
        steps_per_round=steps_per_round,
    )
    if math.isinf(epsilon) or dp_model == "none":
        if math.isfinite(epsilon):
            raise SettingsError(
                "dp_model none has no noise: epsilon must be infinite.", field="dp_model"
            )
        return silent
    spared = spared_of(merchants, spared_share) if dp_model == "distributed" else 0
    if not steps:
        sigma = sigma_for_epsilon(epsilon=epsilon, delta=delta, sample_rate=1.0, steps=1)
        return dataclasses.replace(
            silent, season_noise_multiplier=sigma, dp_model=dp_model, spared=spared
        )
    mu = gaussian_mu(epsilon, delta)
    popularity, season = (
        1 / (mu * math.sqrt(share)) if share > 0 else 0.0
        for share in (popularity_share, season_share)
    )
    beside = tuple(MechanismEvent(1.0, sigma, 1) for sigma in (popularity, season) if sigma)
    sigma = sigma_for_epsilon(
        epsilon=epsilon, delta=delta, sample_rate=sample_rate, steps=steps, beside=beside
    )
    return dataclasses.replace(
        silent,
        noise_multiplier=sigma,
        popularity_noise_multiplier=popularity,
        season_noise_multiplier=season,
        dp_model=dp_model,
        spared=spared,
    )


def check_shares(popularity_share: float, season_share: float) -> None:
    """Refuse shares of the budget that leave nothing for training.

    Raises:
        SettingsError: field `season_share`.
    """
    if not (season_share >= 0 and popularity_share + season_share < 1):
        raise SettingsError(
            f"season_share is {season_share:g}: at least 0, and with popularity_share "
            f"({popularity_share:g}) below 1, as the rest pays for training.",
            field="season_share",
        )
