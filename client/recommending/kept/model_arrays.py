"""The arrays of a shop's model: there, of one shape with the catalogue, finite and within bounds.

A digest says that a file is the one its manifest names, and not that whoever wrote both meant well.
An index outside an array reads another's memory or ends the service at its first list, so all is
looked at once, when a model is read.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError

PAIRS, CSR = "pairs.", ("data", "indices", "indptr")  # of a sparse matrix, as SciPy takes them
_TINY = float(np.finfo(np.float32).tiny)
_WORDS = {"f": "floats", "i": "whole numbers", "b": "truth values"}


class ModelArrays:
    """The arrays of one file, each looked at before it is given.

    Args:
        file: The file's name, for messages.
        arrays: What it holds.
    """

    def __init__(self, file: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._file, self._arrays = file, arrays

    def require(self, *, items: int, shoppers: int, curves: int) -> None:
        """Look at all arrays of a model of so many items, shoppers and pairs of click curves.

        Raises:
            InputError: naming the file, the first array that is not what it must be, and why.
        """
        width = self._array("history_vectors", "f", items, None).shape[1]
        self._array("candidate_vectors", "f", items, width)
        self._array("factors", "f", items, None)
        self._array("diagonal", "f", items, least=_TINY)  # it divides
        self._array("sales", "i", items, least=0)
        self._array("trend", "f", items)
        self._array("tail", "b", items)
        if "recent" in self._arrays:  # not in a file of before there was a season
            self._array("recent", "f", items)
            for name in ("season.own", "season.federated"):
                self._array(f"{name}.direction", "f", width)
                self._array(f"{name}.offset", "f", 1)
                self._array(f"{name}.scores", "f", items)
                if f"{name}.reliability" in self._arrays:  # nor in one of before it was told
                    self._array(f"{name}.reliability", "f", 1, least=0, most=1)
        if f"{PAIRS}indptr" in self._arrays:
            self._require_pairs(items)
        self._require_purchases(items, shoppers)
        for place in range(curves):
            for bucket in ("head", "tail"):
                self._require_curve(f"chances.{place}.{bucket}")

    def _require_pairs(self, items: int) -> None:
        starts = self._array(f"{PAIRS}indptr", "i", items + 1, least=0)
        indices = self._array(f"{PAIRS}indices", "i", None, least=0, below=items)
        self._array(f"{PAIRS}data", "f", len(indices))
        rises = starts[0] == 0 and starts[-1] == len(indices) and (starts[1:] >= starts[:-1]).all()
        self._refuse(not rises, f"{PAIRS}indptr", "does not rise from 0 to the number of pairs")
        rising = np.ones(len(indices) + 1, np.bool_)
        rising[1:-1] = indices[1:] > indices[:-1]
        rising[starts] = True
        self._refuse(not rising.all(), f"{PAIRS}indices", "do not rise within each row")

    def _require_purchases(self, items: int, shoppers: int) -> None:
        shopper = self._array("purchases.shopper", "i", None, least=0, below=shoppers)
        count = len(shopper)
        self._refuse(
            bool((shopper[1:] < shopper[:-1]).any()), "purchases.shopper", "are not sorted"
        )
        self._array("purchases.item", "i", count, least=0, below=items)
        self._array("purchases.time", "i", count)
        self._array("purchases.basket", "i", count, least=0)
        self._array("purchases.value", "f", count)

    def _require_curve(self, name: str) -> None:
        chances = self._array(f"{name}.chances", "f", None, least=0, most=1)
        starts = self._array(f"{name}.starts", "f", max(len(chances) - 1, 0))
        self._refuse(not len(chances), f"{name}.chances", "are none")
        for part, one in (("chances", chances), ("starts", starts)):
            self._refuse(bool((one[1:] < one[:-1]).any()), f"{name}.{part}", "do not rise")

    def _array(
        self,
        name: str,
        kind: str,
        *shape: int | None,
        least: float = -np.inf,
        most: float = np.inf,
        below: float = np.inf,
    ) -> NDArray[Any]:
        """Return an array of a kind of numbers and a shape, where None is any length."""
        array = self._arrays.get(name)
        if array is None:
            raise self._refused(name, "is missing")
        fits = array.dtype.kind == kind and array.ndim == len(shape)
        if not fits or any(
            want not in (None, has) for want, has in zip(shape, array.shape, strict=True)
        ):
            wanted = " by ".join("any" if one is None else f"{one:,}" for one in shape)
            raise self._refused(name, f"must be {wanted} {_WORDS[kind]}")
        numbers = array.view(np.uint8) if kind == "b" else array
        low, high = (numbers.min(), numbers.max()) if array.size else (0, 0)
        self._refuse(not np.isfinite([low, high]).all(), name, "holds a number that is not finite")
        if array.size:
            inside = least <= low and high <= most and high < below
            self._refuse(not inside or (kind == "b" and high > 1), name, "is out of bounds")
        return array

    def _refuse(self, wrong: bool, name: str, what: str) -> None:
        if wrong:
            raise self._refused(name, what)

    def _refused(self, name: str, what: str) -> InputError:
        return InputError(f"{self._file}: {name} {what}. Fit the shop again.", field=name)
