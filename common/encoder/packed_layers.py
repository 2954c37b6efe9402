"""BERT's lower layers over the tokens of many items end to end.

Nothing is padded to the longest item of a batch, and no item moves another's bits: every product
runs over blocks of a size that is the same for everybody, and attention over each item alone, items
of one length beside each other (docs/adr/0068-encoding-without-padding.md). The numbers are those
of transformers up to rounding.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, scaled_dot_product_attention

from common.encoder.base_model import BaseModel

BLOCK = 256  # tokens in a product: what lies between two of them stays in a core's cache
TOGETHER = 4096  # tokens, at most, that go through all layers before the next do
_ACTIVATION = "gelu"


def can_pack(model: BaseModel) -> bool:
    """Return whether `run_packed` computes what the model's own layers do."""
    config = model.bert.config
    decoder = getattr(config, "is_decoder", False)  # not every configuration speaks of it
    return bool(config.hidden_act == _ACTIVATION and not decoder)


def run_packed(
    model: BaseModel,
    ids: NDArray[np.int64],
    lengths: NDArray[np.int64],
    layer: int,
    tell: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """Return what enters `layer` for each token: float32 [tokens, d].

    Args:
        model: `can_pack` must hold.
        ids: int64 [tokens], tokens of all items end to end.
        lengths: int64 [items], tokens of each item, at least 1.
        layer: Index of the first layer that is not run.
        tell: Told how many items are done.
    """
    starts = np.cumsum(lengths) - lengths
    found = np.empty((len(ids), model.width), np.float32)
    layers = [_Layer.of(one) for one in model.layers[:layer]]
    done = 0
    with torch.inference_mode():
        for items in _chunks(lengths):
            counts = lengths[items]
            inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            tokens = np.repeat(starts[items], counts) + inside
            hidden = _embedded(model, ids[tokens], inside)
            for one in layers:
                hidden = _run(one, hidden, counts, model)
            found[tokens] = hidden[: len(tokens)].cpu().numpy()
            done += len(items)
            tell(done)
    return found


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer's weights, each [inputs, outputs], and what is added or scales behind them."""

    mixing: tuple[Tensor, Tensor]  # queries, keys and values beside each other
    attended: tuple[Tensor, Tensor]
    between: tuple[Tensor, Tensor]  # LayerNorm's scale and shift
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    after: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, layer: nn.Module) -> Self:
        tensors = layer.state_dict()

        def product(*names: str) -> tuple[Tensor, Tensor]:
            weights = torch.cat([tensors[f"{name}.weight"] for name in names])
            return weights.T.contiguous(), torch.cat([tensors[f"{name}.bias"] for name in names])

        def norm(name: str) -> tuple[Tensor, Tensor]:
            return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

        return cls(
            product(*(f"attention.self.{name}" for name in ("query", "key", "value"))),
            product("attention.output.dense"),
            norm("attention.output.LayerNorm"),
            product("intermediate.dense"),
            product("output.dense"),
            norm("output.LayerNorm"),
        )


def _chunks(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield items of `TOGETHER` tokens at most, or one longer item, the short ones first."""
    order = np.argsort(lengths, kind="stable")
    start, held = 0, 0
    for place, length in enumerate(lengths[order].tolist()):
        if place > start and held + length > TOGETHER:
            yield order[start:place]
            start, held = place, 0
        held += length
    if len(order):
        yield order[start:]


def _embedded(model: BaseModel, ids: NDArray[np.int64], places: NDArray[np.int64]) -> Tensor:
    """Return the embeddings of tokens at their places in their items: whole blocks of rows [n, d].

    What stands behind the last token is padding, and a row like any other.
    """
    behind = -len(ids) % BLOCK
    parts = model.bert.embeddings
    words, at = (
        torch.from_numpy(np.pad(one, (0, behind))).to(model.device) for one in (ids, places)
    )
    kind = parts.token_type_embeddings.weight[0]
    summed = parts.word_embeddings.weight[words] + kind + parts.position_embeddings.weight[at]
    return _normed(summed, (parts.LayerNorm.weight, parts.LayerNorm.bias), model)


def _run(layer: _Layer, hidden: Tensor, lengths: NDArray[np.int64], model: BaseModel) -> Tensor:
    """Run one layer on whole blocks of rows [n, d], of items of these lengths in rising order."""
    mixed = _attention(
        _product(hidden, layer.mixing), lengths, model.bert.config.num_attention_heads
    )
    residual = _normed(_product(mixed, layer.attended).add_(hidden), layer.between, model)
    found = torch.empty_like(residual)
    for start in range(0, len(residual), BLOCK):  # the widest rows: one block of them at a time
        rows = slice(start, start + BLOCK)
        inner = gelu(torch.addmm(layer.up[1], residual[rows], layer.up[0]))
        torch.addmm(layer.down[1], inner, layer.down[0], out=found[rows])
    return _normed(found.add_(residual), layer.after, model)


def _product(rows: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """Return rows @ weights + bias: [n, m], each product of one block.

    Formal guarantee:
        Every product has the shape [BLOCK, k] @ [k, m], whatever n is.
    """
    matrix, bias = weights
    found = rows.new_empty(len(rows), matrix.shape[1])
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        torch.addmm(bias, rows[block], matrix, out=found[block])
    return found


def _attention(mixing: Tensor, lengths: NDArray[np.int64], heads: int) -> Tensor:
    """Return each item's attention [n, d] of queries, keys and values [n, 3 d]; 0 at padding.

    Each head of an item is a computation of its own. Its bits are the same on any thread where a
    head's width is a multiple of 16 numbers, as in every published BERT; of narrower heads, torch
    gives its second thread memory that is not aligned.
    """
    width = mixing.shape[1] // 3
    found = mixing.new_zeros(len(mixing), width)
    start = 0
    for length, items in zip(*np.unique(lengths, return_counts=True), strict=True):
        rows = slice(start, start + int(items * length))
        of_items = mixing[rows].view(int(items), int(length), 3, heads, width // heads)
        queries, keys, values = of_items.permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(queries, keys, values)
        found[rows] = attended.transpose(1, 2).reshape(-1, width)
        start = rows.stop
    return found


def _normed(rows: Tensor, norm: tuple[Tensor, Tensor], model: BaseModel) -> Tensor:
    return layer_norm(rows, rows.shape[-1:], *norm, model.bert.config.layer_norm_eps)
