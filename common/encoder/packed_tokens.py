"""Tokens of several items end to end, in blocks whose size is public.

float32 rounds a matrix product differently when its number of rows changes, so that a shopper who
shares a product with others can move their last bits. Here every product runs over blocks of a
size that is the same for everybody, and every sum over one text or one history in its own order:
what a row comes out as depends on that row alone, wherever it stands and whatever stands beside
it. Libraries promise no such thing; `client.training.sensitivity_check` proves it on the machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

TOKEN_BLOCK = 64  # tokens in a block of the product with B
ROW_BLOCK = 64  # items in a block of the projection
VECTOR_WIDTH = 16  # numbers are padded to whole vectors of the processor, so that no row has a tail


@dataclass(frozen=True, eq=False)
class PackedTokens:
    """What a step reads of some items, one row an item, also where one repeats.

    Attributes:
        reduced: float32 [t, k], A @ z of each token, padded with zeros to whole blocks and vectors.
        summed: float32 [t, d], what LayerNorm sees when B is zero.
        weight: float32 [tokens], of each token in its text's mean; sums to 1 over a row.
        ends: int64 [rows + 1], where each row's tokens start; the last is how many tokens are real.
        words: float32 [r, d], the lexical part, rows padded to whole blocks, or None.
    """

    reduced: Tensor
    summed: Tensor
    weight: Tensor
    ends: NDArray[np.int64]
    words: Tensor | None

    @property
    def rows(self) -> int:
        """How many items were asked for."""
        return len(self.ends) - 1

    def mean(self, hidden: Tensor) -> Tensor:
        """Return the mean of each row's tokens, of `hidden` [t, d]: [r, d], zeros at padding."""
        counts = np.diff(self.ends)
        return weighted_sums(hidden, self.weight, counts, padded(self.rows, ROW_BLOCK))


def pack(
    arrays: Mapping[str, NDArray[Any]], items: NDArray[np.integer], device: torch.device
) -> PackedTokens:
    """Return the packed tokens of `items`, one row each.

    Args:
        arrays: `ItemTokens.arrays`, `summed` among them; `weight` sums to 1 over each item.
        items: int64 [rows].
        device: Where the step is taken.
    """
    offsets, hidden, summed = (arrays[name] for name in ("offsets", "hidden", "summed"))
    counts = np.diff(offsets)[items]
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    places = np.repeat(offsets[items] - ends[:-1], counts) + np.arange(ends[-1])
    reduced = np.zeros(
        (padded(len(places), TOKEN_BLOCK), padded(hidden.shape[1], VECTOR_WIDTH)), hidden.dtype
    )
    reduced[: len(places), : hidden.shape[1]] = hidden[places]
    words = None
    if "words" in arrays:
        words = _gathered(arrays["words"], items, padded(len(items), ROW_BLOCK)).to(device)
    return PackedTokens(
        torch.from_numpy(reduced).to(device),
        _gathered(summed, places, len(reduced)).to(device),
        torch.from_numpy(arrays["weight"][places]).to(device),
        ends,
        words,
    )


def _gathered(table: NDArray[Any], places: NDArray[np.integer], count: int) -> Tensor:
    """Return the rows of `table` at `places`, and its first row behind them up to `count`."""
    padding = np.zeros(count - len(places), np.int64)
    index = torch.from_numpy(np.concatenate([places, padding]).astype(np.int64))
    return torch.from_numpy(table).index_select(0, index)


def padded(count: int, block: int) -> int:
    """Return the least multiple of `block` that is at least `count`, and at least one block."""
    return max(1, -(-count // block)) * block


def through_b(tokens: PackedTokens, b: Tensor) -> Tensor:
    """Return reduced @ B^T + summed: [t, d], of B [d, r]."""
    matrix = b.new_zeros(tokens.reduced.shape[1], b.shape[0])
    matrix[: b.shape[1]] = b.T
    return block_product(tokens.reduced, matrix, tokens.summed, TOKEN_BLOCK)


def through_projection(mean: Tensor, projection: nn.Linear) -> Tensor:
    """Return what the projection makes of whole blocks of rows [r, d]."""
    return block_product(mean, projection.weight.T, projection.bias, ROW_BLOCK)


def block_product(rows: Tensor, matrix: Tensor, added: Tensor, block: int) -> Tensor:
    """Return rows @ matrix + added: [n, m] from [n, k] and [k, m], block by block.

    Formal guarantee:
        Every product has the shape [block, k] @ [k, m], whatever n is.
    """
    count = len(rows) // block
    blocks = rows.view(count, block, rows.shape[1])
    added = added.expand(len(rows), matrix.shape[1]).reshape(count, block, matrix.shape[1])
    return torch.baddbmm(added, blocks, matrix.expand(count, *matrix.shape)).flatten(0, 1)


def weighted_sums(
    rows: Tensor, weight: Tensor, counts: NDArray[np.integer], sums: int | None = None
) -> Tensor:
    """Return sums of consecutive rows, each times its weight, added up in their order.

    Args:
        rows: [n, d]; those behind the last weight are padding and enter no sum.
        weight: [w], w <= n.
        counts: int64 [s], how many rows each sum has; w together.
        sums: How many to return, zeros behind the last; s where it is None.
    """
    bags = np.zeros(len(counts) if sums is None else sums, np.int64)
    bags[: len(counts)] = counts
    found: Tensor = _WeightedSums.apply(rows, weight, bags)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return found


class _WeightedSums(torch.autograd.Function):
    """torch's own backward of `embedding_bag` is made for tables: it scatters row by row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bags: NDArray[np.int64]) -> Tensor:
        starts = torch.from_numpy(np.cumsum(bags) - bags).to(rows.device)
        bag = torch.from_numpy(np.repeat(np.arange(len(bags)), bags)).to(rows.device)
        ctx.save_for_backward(weight, bag)
        ctx.rows = len(rows)
        places = torch.arange(len(weight), device=rows.device)
        return torch.nn.functional.embedding_bag(
            places, rows, starts, mode="sum", per_sample_weights=weight
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        weight, bag = ctx.saved_tensors
        [gradient] = gradients
        found = gradient.new_zeros(ctx.rows, gradient.shape[1])
        spread = gradient.index_select(0, bag)
        torch.mul(spread, weight[:, None], out=found[: len(weight)])
        return found, None, None
