"""A merchant's integers for a secure sum: its clipped sum with its share of the plan's noise.

A share protects nothing alone. It leaves the node under a mask, and the sum over k merchants has
the noise of k shares: of at least `plan.least_merchants`, or nobody may see it. Shares are discrete
Gaussian, from an exact sampler, on the grid of the clipped sum, which is exact too.

**No overflow.** Each merchant's number is at most (2^63 - 1) / N units, N the plan's merchants, so
sums over at most N of them stay below 2^63 whatever they are made of. A value without noise is cut
to what noise of 64 deviations leaves room for, which moves no two values apart. An honest value is
never cut: at most 2^21 shoppers of 2^31 units are 2^52, and a plan whose grid has no room for that
is refused. Noise beyond 64 deviations is cut with a chance below 2 exp(-2048) a number.
"""

from dataclasses import InitVar, dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivacyError, SettingsError
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.ledger.ledger import Charge
from common.privacy.mechanism.clipping import MOST_SHOPPERS, ClippedSum
from common.privacy.mechanism.fixed_point import NoisyIntegers
from common.privacy.mechanism.noise import NoiseSource, use_charge

_MADE_HERE = object()
_MOST_UNITS = 2**31  # of the grid in the bound of a row: see `grid`


@dataclass(frozen=True, eq=False)
class ProtectedShare:
    """A clipped sum with its merchant's share of noise: what may be masked, and nothing else may.

    Only `protect_share` makes one.

    Attributes:
        integers: int64 [width], in units of the grid: the adapter's numbers, then the canaries.
        kind: What was summed.
        round_number: Of the charge it was made under.
        plan_digest: The plan that fixed clip and noise.
    """

    integers: NDArray[np.int64]
    kind: EventKind
    round_number: int
    plan_digest: str
    made_by: InitVar[object] = None

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MADE_HERE:
            raise PrivacyError(
                "A ProtectedShare comes from protect_share only: nothing else adds its noise.",
                field="protected",
            )


def share_form(plan: PrivacyPlan, kind: EventKind, width: int) -> NoisyIntegers:
    """Return how each merchant makes its integers for one sum, and how their sum is read.

    Args:
        plan: Of a run with distributed noise.
        kind: What is summed.
        width: How many numbers, canaries too.

    Raises:
        SettingsError: if the plan shares no noise, or its noise leaves no room for the sums of
            2^21 shoppers.
    """
    if plan.dp_model != "distributed":
        raise SettingsError("The plan's noise is not shared.", field="dp_model")
    form = NoisyIntegers.of(
        noise_multiplier=plan.shared_multiplier(kind),
        max_grad_norm=plan.clip_norm(kind),
        parties=plan.merchants,
        spared=plan.spared,
        width=width,
    )
    if form.form.value_limit < MOST_SHOPPERS * _MOST_UNITS:
        raise SettingsError(
            f"The sum over {plan.merchants} merchants with so much noise has no room in 63 bits.",
            field="noise_multiplier",
        )
    return form


def protect_share(clipped: ClippedSum, charge: Charge, noise: NoiseSource) -> ProtectedShare:
    """Add this merchant's share of the plan's noise, using up one step of its charge.

    An empty sum gets its share like any other.

    Raises:
        PrivacyError: as `protect`; or if the plan's noise is not shared.
        SettingsError: as `share_form`.

    Formal guarantee:
        With secure sources and rows taken by `poisson_sample`, the sum modulo 2^64 over k merchants
        who each called this for the same round is, decoded, the sum of their clipped sums and of k
        independent discrete Gaussians. With k - a of these unknown to whoever sees it, it costs
        what `common.privacy.accounting.shared_claim` says for N - (k - a) absent: for at least
        `plan.least_merchants` unknown ones, at most `charge.plan.event(charge.entry.kind)`. One
        share alone, or a sum that is not under masks, has no such guarantee.

        The order of the canaries is as in `protect`: it rounds nothing and depends on no data.
    """
    plan, kind = charge.plan, use_charge(clipped, charge, noise, dp_models=("distributed",))
    made = share_form(plan, kind, clipped.vector.size)
    # One draw over one vector: nothing here knows which numbers are canaries.
    own, canaries = clipped.separate(made.noised(clipped, noise))
    return ProtectedShare(
        integers=np.concatenate([own, canaries]),
        kind=kind,
        round_number=charge.entry.round_number,
        plan_digest=charge.entry.plan_digest,
        made_by=_MADE_HERE,
    )
