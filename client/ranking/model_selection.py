"""Choose on a small validation period without chasing luck.

A small shop's validation period holds a hundred shoppers, too few to choose freely among many
candidates: the best of them is mostly the luckiest. So a default stands unless another candidate is
better by more than STANDARD_ERRORS of the paired difference. (Breiman et al. 1984, "Classification
and Regression Trees", section 3.4.3, keep the simplest tree within one standard error; here tens of
candidates compete, so two are asked for.)
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.shop.splitting import Cases
from common.evaluation.metrics import ndcg, rank_scores

STANDARD_ERRORS = 2.0


def validation_ndcg(
    score: Callable[[csr_matrix], NDArray[np.float32]], valid: Cases
) -> NDArray[np.float64]:
    """Return NDCG@10 of each case: float64 [cases].

    Args:
        score: From what each case had bought, CSR [cases, items], to scores [cases, items].
        valid: The cases.
    """
    ranking = rank_scores(lambda rows: score(valid.seen[rows]), valid.seen, 10)
    return ndcg(ranking, valid.relevant)


def clearly_better(
    found: NDArray[np.floating],
    default: NDArray[np.floating],
    standard_errors: float = STANDARD_ERRORS,
) -> bool:
    """Return whether `found` is above `default`, case by case, beyond chance.

    Args:
        found: [cases].
        default: [cases].
        standard_errors: By how many; more where `found` is the best of many.
    """
    if not len(found):
        return False
    gain = found - default
    return bool(gain.mean() > standard_errors * gain.std() / np.sqrt(len(gain)))
