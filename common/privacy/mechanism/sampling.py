"""Which shoppers take part in a step: independent coin flips, as the accountants assume."""

import numpy as np
from numpy.typing import NDArray

from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.noise import NoiseSource


def poisson_sample(
    plan: PrivacyPlan, shoppers: int, source: NoiseSource, canaries: int = 0
) -> NDArray[np.bool_]:
    """Flip one coin per shopper, and one per virtual shopper behind them.

    Args:
        plan: Its `sample_rate` q is the chance, whatever the number of shoppers.
        shoppers: n, how many the data has.
        source: Where the coins come from. Amplification by sampling holds only while nobody
            outside learns who was taken, so the stream must be as secret as the noise.
        canaries: m, how many virtual shoppers of the audit; their coins have a stream of their own.

    Returns:
        bool [n + m], true for those who take part; all may be false, and that is a step like any.

    Formal guarantee:
        Each shopper takes part with probability floor(2^64 q) / 2^64 <= q, independently of all
        others: adding a shopper changes nothing about the rest's chances.
    """
    if plan.sample_rate == 1:
        return np.ones(shoppers + canaries, dtype=bool)
    threshold = np.uint64(int(plan.sample_rate * 2.0**64))
    return np.concatenate([source.words(shoppers), source.canaries.words(canaries)]) < threshold
