"""What a model achieved on a group of cases, pooled over merchants or compared between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from common.catalogue import Buckets
from common.errors import InputError
from common.evaluation.metrics import (
    Ranking,
    ScoreChunk,
    coverage,
    exposure,
    gini,
    ndcg,
    precision,
    rank_with_auc,
    recall,
    score_chunks,
    tail_share,
)


@dataclass(frozen=True, eq=False)
class Scorecard:
    """What one model achieved on a group of cases.

    Attributes:
        k: Places in a list.
        per_shopper: float64 [cases] by metric name, NaN where a metric is undefined.
        item_keys: uint64 [keys], sorted: what coverage and Gini count as one item. Equal keys of
            two merchants are one item.
        exposure: int64 [keys], in how many lists each was shown.
    """

    k: int
    per_shopper: Mapping[str, NDArray[np.float64]]
    item_keys: NDArray[np.uint64]
    exposure: NDArray[np.int64]

    def means(self) -> dict[str, float]:
        """Return each metric's mean over the shoppers for whom it is defined, NaN if for none."""
        means = {name: _defined_mean(values) for name, values in self.per_shopper.items()}
        aplt = means.pop(f"aplt@{self.k}")
        return means | {
            f"coverage@{self.k}": coverage(self.exposure),
            f"gini@{self.k}": gini(self.exposure),
            f"aplt@{self.k}": aplt,
        }


@dataclass(frozen=True)
class Spread:
    """How a model does across merchants, each counted once whatever its size.

    Attributes:
        by_merchant: Means by merchant, then metric.
        mean: Mean over the merchants for whom a metric is defined, by metric.
        worst: Name and value of the merchant served worst, by metric: the lowest value, for Gini
            the highest. A metric that no merchant has is missing.
    """

    by_merchant: Mapping[str, Mapping[str, float]]
    mean: Mapping[str, float]
    worst: Mapping[str, tuple[str, float]]


def evaluate_scores(
    score_chunk: ScoreChunk,
    seen: csr_matrix,
    relevant: csr_matrix,
    buckets: Buckets,
    *,
    k: int = 10,
    item_keys: NDArray[np.uint64] | None = None,
) -> Scorecard:
    """Rank and judge all cases, asking `score_chunk(rows)` for few rows at a time.

    Args:
        score_chunk: Takes a slice of cases; returns their scores, float [rows, items].
        seen: CSR [cases, items], excluded from ranking.
        relevant: CSR [cases, items], what is to be found.
        buckets: Head, tail and cold items.
        k: Places in a list.
        item_keys: uint64 [items], such as `Catalogue.text_keys`: items of one key count as one in
            coverage and Gini, also across merchants. Without it, an item's index is its key.

    Raises:
        InputError: if a score is not finite, shapes differ, a seen item is relevant, or k is
            below 1.
    """
    ranking, auc, tail_auc = rank_with_auc(score_chunk, seen, relevant, k, buckets.tail)
    return evaluate_ranking(
        ranking, relevant, buckets, auc=auc, tail_auc=tail_auc, item_keys=item_keys
    )


def evaluate_models(
    models: Mapping[str, ScoreChunk],
    seen: csr_matrix,
    relevant: csr_matrix,
    buckets: Buckets,
    *,
    k: int = 10,
    item_keys: NDArray[np.uint64] | None = None,
) -> dict[str, Scorecard]:
    """Return `evaluate_scores` of each model, all asked for the same few rows before the next.

    So what several models have in common need not be kept for more than these rows.

    Raises:
        InputError: as `evaluate_scores`.
    """
    judged: dict[str, list[tuple[Ranking, NDArray[np.float64], NDArray[np.float64]]]] = {
        name: [] for name in models
    }
    for rows in score_chunks(seen) or [slice(0, 0)]:
        for name, score_chunk in models.items():
            judged[name].append(
                rank_with_auc(
                    lambda _, of=score_chunk, rows=rows: of(rows),  # type: ignore[misc]  # it binds
                    seen[rows],
                    relevant[rows],
                    k,
                    buckets.tail,
                )
            )
    cards = {}
    for name, parts in judged.items():
        rankings, areas, of_tail = zip(*parts, strict=True)
        lists = np.concatenate([one.items for one in rankings])
        cards[name] = evaluate_ranking(
            Ranking(lists, seen.shape[1]),
            relevant,
            buckets,
            auc=np.concatenate(areas),
            tail_auc=np.concatenate(of_tail),
            item_keys=item_keys,
        )
    return cards


def evaluate_ranking(
    ranking: Ranking,
    relevant: csr_matrix,
    buckets: Buckets,
    *,
    auc: NDArray[np.float64],
    tail_auc: NDArray[np.float64],
    item_keys: NDArray[np.uint64] | None = None,
) -> Scorecard:
    """Judge finished lists; both AUCs [cases] come from `rank_with_auc`, NaN where not measured.

    Raises:
        InputError: if ranking, `relevant`, buckets or keys differ in cases or items.
    """
    items = ranking.item_count
    keys = np.arange(items, dtype=np.uint64) if item_keys is None else item_keys
    lengths = {len(auc), len(tail_auc), len(ranking.items)}
    if {len(keys), len(buckets.tail)} != {items} or len(lengths) > 1:
        raise InputError(
            f"Buckets, item keys and AUC must fit {items} items and {len(ranking.items)} cases.",
            field="buckets",
        )
    k = ranking.k
    found, exact = recall(ranking, relevant), precision(ranking, relevant)
    tail_found = recall(ranking, relevant, buckets.tail)
    tail_exact = precision(ranking, relevant, buckets.tail)
    per_shopper = {
        f"ndcg@{k}": ndcg(ranking, relevant),
        f"recall@{k}": found,
        f"precision@{k}": exact,
        f"f1@{k}": _f1(found, exact),
        "auc": auc,
        f"tail_recall@{k}": tail_found,
        f"tail_precision@{k}": tail_exact,
        f"tail_f1@{k}": _f1(tail_found, tail_exact),
        "tail_auc": tail_auc,
        f"head_recall@{k}": recall(ranking, relevant, buckets.head),
        f"cold_recall@{k}": recall(ranking, relevant, buckets.cold),
        f"tail_by_volume_recall@{k}": recall(ranking, relevant, buckets.tail_by_volume),
        f"aplt@{k}": tail_share(ranking, buckets.tail),
    }
    return Scorecard(k, per_shopper, *_sum_by_key(keys, exposure(ranking)))


def pool(scorecards: Sequence[Scorecard]) -> Scorecard:
    """Return one scorecard over the shoppers of all, in the order given.

    A larger merchant weighs more. Coverage and Gini are taken anew over the union of catalogues.

    Raises:
        InputError: if there is none, or their list lengths k differ.
    """
    if len({scorecard.k for scorecard in scorecards}) != 1:
        raise InputError("Pooling needs scorecards, all of one list length k.", field="k")
    per_shopper = {
        name: np.concatenate([scorecard.per_shopper[name] for scorecard in scorecards])
        for name in scorecards[0].per_shopper
    }
    keys = np.concatenate([scorecard.item_keys for scorecard in scorecards])
    counts = np.concatenate([scorecard.exposure for scorecard in scorecards])
    return Scorecard(scorecards[0].k, per_shopper, *_sum_by_key(keys, counts))


def spread(scorecards: Mapping[str, Scorecard]) -> Spread:
    """Return means by merchant, their mean, and the merchant served worst, by metric.

    Raises:
        InputError: if there is no scorecard.
    """
    if not scorecards:
        raise InputError("A spread needs at least one merchant's scorecard.", field="scorecards")
    by_merchant = {name: scorecard.means() for name, scorecard in scorecards.items()}
    mean: dict[str, float] = {}
    worst: dict[str, tuple[str, float]] = {}
    for metric in next(iter(by_merchant.values())):
        values = {name: means[metric] for name, means in by_merchant.items()}
        mean[metric] = _defined_mean(np.array(list(values.values())))
        defined = {name: value for name, value in values.items() if not np.isnan(value)}
        if defined:
            pick = max if metric.startswith("gini@") else min
            name = pick(defined, key=defined.__getitem__)
            worst[metric] = (name, defined[name])
    return Spread(by_merchant, mean, worst)


def _f1(found: NDArray[np.float64], exact: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the harmonic mean of recall and precision, 0 where both are, NaN where undefined."""
    both = found + exact
    return 2 * found * exact / np.where(both == 0, 1, both)


def _defined_mean(values: NDArray[np.float64]) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def _sum_by_key(
    keys: NDArray[np.uint64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct keys, sorted, and the sum of the counts of each."""
    distinct, place = np.unique(keys, return_inverse=True)
    total = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(total, place, counts)
    return distinct, total
