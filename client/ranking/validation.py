"""A shop's validation period: who is asked, what they had, what they bought next."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from client.shop.histories import Histories, histories
from client.shop.interactions import Interactions
from client.shop.splitting import PAST_SHARE, TRAIN_SHARE, Cases, evaluation_cases
from common.evaluation.metrics import ndcg, rank_scores

FloatMatrix = NDArray[np.float32]

PERIOD = (PAST_SHARE - TRAIN_SHARE) / TRAIN_SHARE  # of the purchases before: as long as validation
WINDOWS = 3  # the validation period and those before it
ENOUGH_CASES = 1500  # windows further back are left out once so many cases are there


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

    def take(self, rows: slice) -> "Validation":
        """Return some cases in a row."""
        return Validation(self.history.take(rows), self.seen[rows], self.relevant[rows])

    def ndcg(self, score: FloatMatrix) -> NDArray[np.float64]:
        """Return each case's NDCG@10 of given scores [cases, items]; 0 if it bought nothing."""
        ranking = rank_scores(lambda rows: score[rows], self.seen, 10)
        return np.nan_to_num(ndcg(ranking, self.relevant))


def validation_of(before: Interactions, cases: Cases) -> Validation:
    """Return `cases` as ranking's fits read them, with the histories they had `before`."""
    return Validation(histories(before, cases.shoppers), cases.seen, cases.relevant)


class PastWindow(NamedTuple):
    """A period to choose by, and what was known before it.

    Attributes:
        before: Purchases before it, to fit models on.
        cases: Who had bought before and bought something new in it.
    """

    before: Interactions
    cases: Cases

    def thinned(self, most: int) -> "PastWindow":
        """Return it with at most `most` cases, taken at even steps."""
        return PastWindow(self.before, self.cases.thinned(most))


def past_windows(
    train: Interactions, cases: Cases, judged: NDArray[np.integer] | None = None
) -> list[PastWindow]:
    """Return the validation period and, where there is a clock, periods before it, latest first.

    One period may be a sale or a summer: a rolling origin (Tashman 2000, "Out-of-sample tests of
    forecasting accuracy") asks several. An earlier one holds PERIOD of the purchases of `train`.
    Without a clock an earlier cut would let models see what others bought later twice over.

    Args:
        train: Purchases before the validation period.
        cases: Of that period.
        judged: Shoppers who are to be no case of an earlier period.
    """
    windows = [PastWindow(train, cases)]
    if not train.timed or not len(train):
        return windows
    times = np.sort(train.time)
    end = times[-1] + 1
    while len(windows) < WINDOWS and sum(len(one.cases) for one in windows) < ENOUGH_CASES:
        start = times[int(len(times) * (1 - PERIOD * len(windows)))]
        before = train.where(train.time < start)
        period = train.where((train.time >= start) & (train.time < end))
        earlier = evaluation_cases(before, period)
        if judged is not None:
            earlier = earlier.take(np.flatnonzero(~np.isin(earlier.shoppers, judged)))
        if not len(earlier):
            break
        windows.append(PastWindow(before, earlier))
        end = start
    return windows
