"""Lists and all metrics of 5,000 shoppers over 12,000 items, against NumPy and ir-measures."""

from collections.abc import Iterator

import ir_measures
import numpy as np
from ir_measures import P, Qrel, R, ScoredDoc, nDCG
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from common.catalogue import popularity_buckets
from common.evaluation.metrics import rank_scores
from common.evaluation.scorecard import evaluate_scores
from simulations.benchmarks.clocks import by_turns, processor
from simulations.benchmarks.rows import Row, ratio_row

CASES, ITEMS, SEEN, RELEVANT, TOP = 5000, 12_000, 20, 4, 10
CHUNK = 250  # cases that a peer takes at a time: it would need a gigabyte for all
FULL_LISTS = 200  # cases whose whole lists ir-measures is given: 12,000 objects each
REPEATS = 3
TIMES_LIMIT, FASTER_LIMIT = 1.5, 100.0

Scores = NDArray[np.float32]


def rows() -> Iterator[Row]:
    """Yield what lists cost, what all metrics cost, and how much more ir-measures takes."""
    scores, seen, relevant = _task()
    buckets = popularity_buckets(np.random.default_rng(1).zipf(1.3, ITEMS))
    tail = buckets.tail

    def lists() -> None:
        rank_scores(scores.__getitem__, seen, TOP)

    def metrics() -> None:
        evaluate_scores(scores.__getitem__, seen, relevant, buckets, k=TOP)

    def partitioned() -> None:
        for part in _parts():
            _top(scores[part], seen[part])

    def same_metrics() -> None:
        for part in _parts():
            top, _ = _top(scores[part], seen[part])
            _judge(top, relevant[part], tail)

    def same_with_auc() -> None:
        for part in _parts():
            top, masked = _top(scores[part], seen[part])
            _judge(top, relevant[part], tail)
            _areas(masked, relevant[part], tail)

    what = f"{CASES:,} x {ITEMS:,} scores: "
    ways = [processor(one) for one in (lists, metrics, partitioned, same_metrics, same_with_auc)]
    seconds = by_turns(ways, REPEATS)
    for told, peer, columns in (
        ("lists of 10, ties by id", "NumPy's argpartition", [0, 2]),
        ("lists, metrics, AUC and the tail's", "argpartition, the metrics, no AUC", [1, 3]),
        ("lists, metrics, AUC and the tail's", "argpartition, the metrics, AUC by argsort", [1, 4]),
    ):
        yield ratio_row(what + told, peer, seconds[:, columns], target=TIMES_LIMIT)
    yield from _against_ir_measures(scores, seen, relevant)


def _against_ir_measures(scores: Scores, seen: csr_matrix, relevant: csr_matrix) -> Iterator[Row]:
    """Yield the rows of whole lists: made from the same scores, and when they lie ready."""
    scores, seen, relevant = scores[:FULL_LISTS], seen[:FULL_LISTS], relevant[:FULL_LISTS]
    buckets = popularity_buckets(np.random.default_rng(1).zipf(1.3, ITEMS))
    names = [f"{item}" for item in range(ITEMS)]
    measures = [nDCG @ TOP, R @ TOP, P @ TOP]
    wanted = [
        Qrel(f"{case}", names[item], 1)
        for case in range(FULL_LISTS)
        for item in relevant[case].indices
    ]

    def made() -> list[ScoredDoc]:
        return [
            ScoredDoc(f"{case}", names[item], score)
            for case in range(FULL_LISTS)
            for item, score in enumerate(scores[case].tolist())
            if not_seen[case, item]
        ]

    not_seen = seen.toarray() == 0
    ready = made()

    def ours() -> None:
        evaluate_scores(scores.__getitem__, seen, relevant, buckets, k=TOP)

    def theirs() -> None:
        ir_measures.calc_aggregate(measures, wanted, made())

    def theirs_ready() -> None:
        ir_measures.calc_aggregate(measures, wanted, ready)

    seconds = by_turns([processor(one) for one in (ours, theirs, theirs_ready)], REPEATS)
    what = f"{FULL_LISTS} x {ITEMS:,} scores: lists, metrics, AUC and the tail's"
    peer = "ir-measures: NDCG, recall, precision of full lists"
    for told, place, target in (("", 1, FASTER_LIMIT), (" that lie ready", 2, None)):
        yield ratio_row(what, peer + told, seconds[:, [0, place]], target=target, faster=True)


def _task() -> tuple[Scores, csr_matrix, csr_matrix]:
    random = np.random.default_rng(0)
    scores = random.standard_normal((CASES, ITEMS), dtype=np.float32)
    size = SEEN + RELEVANT
    both = np.stack([random.choice(ITEMS, size, replace=False) for _ in range(CASES)])
    return scores, _matrix(both[:, :SEEN]), _matrix(both[:, SEEN:])


def _matrix(items: NDArray[np.int64]) -> csr_matrix:
    cases, width = items.shape
    places = (np.repeat(np.arange(cases), width), items.ravel())
    return csr_matrix((np.ones(items.size, np.float32), places), shape=(cases, ITEMS))


# ------------------------------------------------- the same by hand, ties as they happen to fall


def _parts() -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, CASES, CHUNK))


def _top(scores: Scores, seen: csr_matrix) -> tuple[NDArray[np.int64], Scores]:
    masked = scores.copy()
    masked[np.repeat(np.arange(len(masked)), np.diff(seen.indptr)), seen.indices] = -np.inf
    top = np.argpartition(-masked, TOP, axis=1)[:, :TOP]
    order = np.argsort(-np.take_along_axis(masked, top, axis=1), axis=1)
    return np.take_along_axis(top, order, axis=1), masked


def _judge(top: NDArray[np.int64], relevant: csr_matrix, tail: NDArray[np.bool_]) -> None:
    wanted = relevant.toarray() > 0
    hits = np.take_along_axis(wanted, top, axis=1)
    discount = 1 / np.log2(np.arange(2, TOP + 2))
    count = np.minimum(wanted.sum(axis=1), TOP)
    _ = (hits @ discount) / np.cumsum(discount)[count - 1]
    recall, precision = hits.sum(axis=1) / count, hits.mean(axis=1)
    _ = 2 * recall * precision / np.maximum(recall + precision, 1e-9)
    _ = (hits & tail[top]).sum(axis=1) / np.maximum((wanted & tail).sum(axis=1), 1)
    _ = tail[top].mean(axis=1), np.bincount(top.ravel(), minlength=ITEMS)


def _areas(masked: Scores, relevant: csr_matrix, tail: NDArray[np.bool_]) -> None:
    for kept in (np.arange(ITEMS), np.flatnonzero(tail)):
        part, own = masked[:, kept], relevant[:, kept]
        places = np.empty(part.shape, np.int64)
        order = np.argsort(part, axis=1)
        np.put_along_axis(places, order, np.arange(part.shape[1])[None, :], axis=1)
        rows = np.repeat(np.arange(len(part)), np.diff(own.indptr))
        _ = np.bincount(rows, weights=places[rows, own.indices], minlength=len(part))
