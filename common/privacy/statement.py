"""The privacy statement: what a release costs a shopper, in words that a merchant can pass on."""

from collections.abc import Mapping

from common.privacy.plan import PrivacyPlan
from common.release.manifest import MerchantPrivacy

UNIT = "one shopper at one merchant, added or removed"

_TRUST = {
    "local": (
        "Each merchant adds the noise to its own update before anything leaves its machine. "
        "The guarantee holds against the operator, the other merchants and everybody who sees "
        "the release; nobody but the merchant itself need be trusted."
    ),
    "central": (
        "Noise was added to a sum that somebody saw without it. This exists in simulations only, "
        "as a yardstick: it is no protection against whoever added up the sum."
    ),
    "none": "No noise was added. There is no privacy guarantee of any kind.",
}


def privacy_statement(
    plan: PrivacyPlan,
    merchants: Mapping[str, MerchantPrivacy],
    participants: int,
    seeded_noise: bool,
) -> str:
    """Return the statement as Markdown.

    Args:
        plan: The plan that was run.
        merchants: What each merchant's ledger says, by name.
        participants: How many merchants took part.
        seeded_noise: Whether noise came from a fixed seed, which voids the guarantee.
    """
    parts = [
        "# Privacy statement",
        (
            f"**Unit.** {UNIT}. All that a shopper did at a merchant counts as one contribution "
            f"of L2 norm at most {plan.max_grad_norm:g}, in each of {plan.steps} steps. A shopper "
            "of several merchants is a unit at each, and the costs add up."
        ),
        f"**Trust.** {_TRUST[plan.placement]}",
        _cost(plan, merchants),
        _mechanism(plan),
        (
            "**Public by declaration.** The catalogue and its text, the base model, the plan "
            f"above, the size bracket ({plan.declared_shoppers} shoppers a merchant) and that "
            f"these {participants} merchants took part."
        ),
        (
            "**Not covered.** That a merchant takes part; how long its steps take; what it shows "
            "or sells by itself; settings that were chosen by looking at results; that a node "
            "refused a model before its first round, which may depend on its data. Noise is drawn "
            "in double precision and rounded to a grid that the clipped sum shares; the part of a "
            "Gaussian beyond 12 standard deviations is not drawn."
        ),
    ]
    if seeded_noise:
        parts.insert(
            1,
            "> **This run drew its noise from a fixed seed. It is a test: whoever knows the seed "
            "can take the noise away, and nothing below protects anybody.**",
        )
    return "\n\n".join(parts) + "\n"


def _cost(plan: PrivacyPlan, merchants: Mapping[str, MerchantPrivacy]) -> str:
    if plan.placement == "none":
        return "**Cost.** Unbounded."
    rows = ["**Cost**, over everything each merchant's ledger holds:", ""]
    rows += [
        "| merchant | ε | δ | ε by PLD (dp_accounting) | ε by PRV (Opacus) | ε by RDP | audit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in merchants.items():
        counted = (one.accountants.pld, one.accountants.prv, one.accountants.rdp)
        values = " | ".join("" if value is None else f"{value:.3f}" for value in counted)
        audit = "none" if one.audit is None else f"≥ {one.audit.epsilon:.3f}"
        rows.append(f"| {name} | {one.epsilon:.3f} | {one.delta:.1e} | {values} | {audit} |")
    rows += [
        "",
        (
            "The audit is what canary lanes in this run prove, with 95% confidence, that its steps "
            "cost at least. It finds a guarantee that is broken; it does not prove one that holds."
        ),
    ]
    return "\n".join(rows)


def _mechanism(plan: PrivacyPlan) -> str:
    text = (
        f"**Mechanism.** Poisson sampling with q = {plan.sample_rate:g}; Gaussian noise of "
        f"standard deviation {plan.noise_multiplier:.4g} x {plan.max_grad_norm:g} on the sum of "
        f"clipped gradients; {plan.steps} steps."
    )
    if plan.placement == "none":
        return "**Mechanism.** Sums without noise."
    if plan.takes_histogram:
        text += (
            " Before them one histogram of item popularity, a shopper's row of L2 norm at most 1, "
            f"with noise of standard deviation {plan.popularity_noise_multiplier:.4g}."
        )
    return text
