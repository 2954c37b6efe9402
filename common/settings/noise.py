"""Where a run's noise is added, and how much, where nobody said: one rule for every way of running.

Five merchants or more share the noise, and the run costs a shopper epsilon 1. Fewer cannot, so each
adds its own, at epsilon 4: at 1 its noise would hide what there is to learn.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from common.privacy.accounting.plan import LEAST_SHARING
from common.settings.run import RunSettings

SHARED_EPSILON: Final = 1.0


@dataclass(frozen=True)
class NoiseChoice:
    """What the rule gives where nobody asked for it, and why.

    Attributes:
        settings: `noise` and `epsilon`, without what was asked for.
        reason: In a few words, for the screen; empty where the rule gave nothing.
    """

    settings: Mapping[str, Any]
    reason: str


def noise_for(asked: Mapping[str, Any], merchants: int) -> NoiseChoice:
    """Return where the noise goes and epsilon, as far as nobody asked for them.

    Args:
        asked: The settings that a person named; they stand. Names may have hyphens. One that
            shared noise cannot do, such as another aggregation, keeps the noise local.
        merchants: N of the run.
    """
    named = {name.replace("-", "_"): value for name, value in asked.items()}
    usual = RunSettings.model_fields
    apart = [
        name
        for name, only in (("aggregation", "mean"), ("steps_per_round", 1))
        if named.get(name, only) != only
    ]
    endless = math.isinf(float(named.get("epsilon", SHARED_EPSILON)))
    shared = merchants >= LEAST_SHARING and not apart and not endless
    noise = named.get("noise", "distributed" if shared else "local")
    epsilon = SHARED_EPSILON if noise == "distributed" else usual["epsilon"].default
    found = {
        name: value for name, value in (("noise", noise), ("epsilon", epsilon)) if name not in named
    }
    if not found:
        return NoiseChoice({}, "")
    if "noise" in named:
        why = f"noise is {noise}"
    elif shared:
        why = f"{merchants} merchants share the noise, and only their sum is seen"
    elif apart:
        why = f"{apart[0]} is not for shared noise: each merchant adds its own"
    elif endless:
        why = "no noise was asked for"
    else:
        why = f"{merchants} of the {LEAST_SHARING} merchants that sharing takes: each adds its own"
    told = ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in found.items()
    )
    return NoiseChoice(found, f"{told}: {why}")
