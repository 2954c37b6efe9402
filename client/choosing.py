"""Choose on a small validation period without chasing luck.

A small shop's validation period holds a hundred shoppers, too few to choose freely among many
candidates: the best of them is mostly the luckiest. So a default stands unless another candidate is
better by more than STANDARD_ERRORS of the paired difference. (Breiman et al. 1984, "Classification
and Regression Trees", section 3.4.3, keep the simplest tree within one standard error; here tens of
candidates compete, so two are asked for.)
"""

import numpy as np
from numpy.typing import NDArray

STANDARD_ERRORS = 2.0


def clearly_better(found: NDArray[np.floating], default: NDArray[np.floating]) -> bool:
    """Return whether `found` [cases] is above `default` [cases], case by case, beyond chance."""
    if not len(found):
        return False
    gain = found - default
    return bool(gain.mean() > STANDARD_ERRORS * gain.std() / np.sqrt(len(gain)))
