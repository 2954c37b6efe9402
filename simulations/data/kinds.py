"""Kinds of goods: a catalogue's items, put together by what their public texts say."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from common.catalogue import Catalogue
from common.encoder.catalogue_encoder import encode_catalogue, fit_public_basis
from common.encoder.token_states import Progress
from common.errors import InputError
from common.settings.run import RunSettings

STARTS: Final = 5  # the best of so many
STEPS: Final = 100
# Settings that a text's frozen vector may need; whatever else a run tries out, its kinds stay.
_READ_BY: Final = ("base_model", "max_tokens")


def kinds_of_items(
    catalogue: Catalogue,
    kinds: int,
    seed: int,
    asked: dict[str, Any],
    *,
    cache: Path,
    progress: Progress | None = None,
) -> NDArray[np.int64]:
    """Return the kind of each item: int64 [items], 0 to kinds - 1, the largest kind first.

    Args:
        catalogue: Public. Nothing else is read, so kinds tell nothing of what was bought.
        kinds: How many.
        seed: Of the clustering.
        asked: The run's settings; which base model reads the texts is taken from them.
        cache: Folder of encodings.
        progress: Told of encoded texts.

    Raises:
        InputError: if there are fewer distinct texts than kinds.
    """
    settings = RunSettings.from_flat({name: asked[name] for name in _READ_BY if name in asked})
    basis = fit_public_basis(catalogue, settings, cache, progress)
    return cluster(encode_catalogue(catalogue, basis, settings, cache).vectors, kinds, seed)


def cluster(vectors: NDArray[np.float32], kinds: int, seed: int) -> NDArray[np.int64]:
    """Return each vector's cluster by k-means: int64 [n], the largest cluster first.

    Lloyd 1982 from starts by k-means++ (Arthur and Vassilvitskii 2007); of `STARTS` the one whose
    vectors lie nearest to their centres. Equal vectors are of one kind.

    Args:
        vectors: float32 [n, d].
        kinds: How many clusters, 1 or more.
        seed: 0 or more; the same gives the same clusters.

    Raises:
        InputError: if fewer than `kinds` vectors differ.
    """
    points = vectors.astype(np.float64)
    distinct = len(np.unique(vectors, axis=0))
    if distinct < kinds:
        raise InputError(
            f"{distinct} texts that differ cannot be put into {kinds} kinds.", field="kinds"
        )
    random = np.random.default_rng((seed, kinds))
    found = [_lloyd(points, _start(points, kinds, random)) for _ in range(STARTS)]
    labels = min(found, key=lambda one: one[1])[0]
    order = np.argsort(-np.bincount(labels, minlength=kinds), kind="stable")
    return np.argsort(order)[labels]


def _start(
    points: NDArray[np.float64], kinds: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return centres [kinds, d], each drawn by its squared distance to those before."""
    centres = [points[random.integers(len(points))]]
    nearest = _squares(points, np.array(centres))[:, 0]
    for _ in range(kinds - 1):
        centres.append(points[random.choice(len(points), p=nearest / nearest.sum())])
        nearest = np.minimum(nearest, _squares(points, centres[-1][None])[:, 0])
    return np.array(centres)


def _lloyd(
    points: NDArray[np.float64], centres: NDArray[np.float64]
) -> tuple[NDArray[np.int64], float]:
    """Return labels [n] and the sum of squared distances, moved until nothing changes."""
    labels = np.full(len(points), -1)
    for _ in range(STEPS):
        squares = _squares(points, centres)
        moved = squares.argmin(axis=1)
        nearest = squares[np.arange(len(points)), moved]
        for empty in np.flatnonzero(np.bincount(moved, minlength=len(centres)) == 0):
            furthest = int(nearest.argmax())  # no kind is left without an item
            moved[furthest], nearest[furthest] = empty, 0.0
        if np.array_equal(moved, labels):
            break
        labels = moved
        sums = np.zeros_like(centres)
        np.add.at(sums, labels, points)
        centres = sums / np.bincount(labels, minlength=len(centres))[:, None]
    return labels, float(nearest.sum())


def _squares(points: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return squared distances [n, centres], none below 0."""
    found = (points**2).sum(axis=1)[:, None] - 2 * points @ centres.T + (centres**2).sum(axis=1)
    near: NDArray[np.float64] = np.maximum(found, 0)
    return near
