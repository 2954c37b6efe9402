"""A shop's validation period: who is asked, what they had, what they bought next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.shop.histories import Histories, histories
from client.shop.interactions import Interactions
from client.shop.splitting import Cases
from common.evaluation.metrics import ndcg, rank_scores

FloatMatrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Validation:
    """The merchant's validation period: who is asked, what they had, what they bought next."""

    history: Histories
    seen: csr_matrix
    relevant: csr_matrix

    def thinned(self, most: int) -> "Validation":
        """Return at most `most` cases, taken at even steps."""
        if len(self.history) <= most:
            return self
        rows = np.arange(most) * len(self.history) // most
        return Validation(self.history.only(rows), self.seen[rows], self.relevant[rows])

    def ndcg(self, score: FloatMatrix) -> NDArray[np.float64]:
        """Return each case's NDCG@10 of given scores [cases, items]; 0 if it bought nothing."""
        ranking = rank_scores(lambda rows: score[rows], self.seen, 10)
        return np.nan_to_num(ndcg(ranking, self.relevant))


def validation_of(before: Interactions, cases: Cases) -> Validation:
    """Return `cases` as ranking's fits read them, with the histories they had `before`."""
    return Validation(histories(before, cases.shoppers), cases.seen, cases.relevant)
