"""One gradient a shopper, which depends on that shopper, the adapter and public facts alone.

That holds to the last bit: adding or removing a shopper must change a sum by its own row only, and
a bound of C must leave nothing to rounding. There are two ways, and the LoRA targets decide:

- `PackedGradients`, where all before B is computed in advance (the default): shoppers together,
  all products in blocks of public size. Plain autograd goes back to what LayerNorm sees; from
  there a shopper's gradient of B is one product over its own tokens.
- `HookedGradients`, for all other targets: Opacus's hooks, each shopper encoded by itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from client.training.examples import ExampleBatch
from client.training.losses import TOGETHER, Candidates, shopper_losses
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.packed_tokens import weighted_sums
from common.settings.run import RunSettings

PART_TOKENS = 2**15  # differentiated at once: a bound on memory, not on privacy


class ShopperGradients(Protocol):
    """How gradients are taken.

    Attributes:
        together: How many shoppers one call may be given.
    """

    together: int

    def of(self, batch: ExampleBatch, candidates: Candidates) -> Tensor:
        """Return each shopper's gradient of its own loss: float32 [b, d], in the adapter's order.

        A shopper without a history or a target has the gradient zero and is a row like any other.
        """


def gradients_of(
    encoder: AdaptedEncoder, tokens: ItemTokens, settings: RunSettings
) -> ShopperGradients:
    """Return the way that the encoder's LoRA targets allow."""
    way = PackedGradients if encoder.lora_targets.needs_no_bert else HookedGradients
    return way(encoder, tokens, settings)


class PackedGradients:
    """Of the last layer's B, where everything before it is computed in advance."""

    def __init__(self, encoder: AdaptedEncoder, tokens: ItemTokens, settings: RunSettings) -> None:
        """Take gradients at the adapter that `encoder` has when it is asked."""
        self._encoder, self._tokens, self._settings = encoder, tokens, settings
        self.together = TOGETHER

    def of(self, batch: ExampleBatch, candidates: Candidates) -> Tensor:
        """See `ShopperGradients.of`."""
        [(_, b)] = self._encoder.trained()
        gradients = b.detach().new_zeros(batch.shoppers, *b.shape)
        if len(batch.target_item) and len(batch.history_item):
            tokens = self._tokens.packed(batch.history_item, b.device)
            seen = self._encoder.before_norm(tokens).requires_grad_()
            embedding = pool_rows(self._encoder.from_norm(seen, tokens), batch)
            losses = shopper_losses(embedding, batch, candidates, self._settings)
            [back] = torch.autograd.grad(losses.sum(), seen)
            rows = np.searchsorted(batch.history_shopper, np.arange(batch.shoppers + 1))
            ends = tokens.ends[rows].tolist()
            for place, (start, end) in enumerate(pairwise(ends)):
                if end > start:
                    own = torch.mm(back[start:end].T, tokens.reduced[start:end])
                    gradients[place] = own[:, : b.shape[1]]
        return gradients.flatten(start_dim=1)


class HookedGradients:
    """Of any LoRA targets, by Opacus's hooks: one gradient a row, and a row is one item.

    A shopper's items are encoded by themselves, twice: for the embeddings that are ranked together,
    and again, once the way back to each embedding is known, with the hooks on.
    """

    def __init__(self, encoder: AdaptedEncoder, tokens: ItemTokens, settings: RunSettings) -> None:
        """Hook the encoder's trained parameters."""
        self._encoder, self._tokens, self._settings = encoder, tokens, settings
        # A second and 100 MB to import, where the default's gradients need none of it.
        from opacus import GradSampleModule  # noqa: PLC0415 -- see above

        encoder.train()  # Opacus records only in this mode; the models have no dropout
        self._hooked = GradSampleModule(encoder, batch_first=True, loss_reduction="sum")
        self._parameters = [parameter for _, parameter in encoder.trained()]
        self.together = TOGETHER

    def of(self, batch: ExampleBatch, candidates: Candidates) -> Tensor:
        """See `ShopperGradients.of`."""
        size = sum(parameter.numel() for parameter in self._parameters)
        gradients = self._parameters[0].detach().new_zeros(batch.shoppers, size)
        if not (len(batch.target_item) and len(batch.history_item)):
            return gradients
        alone = [batch.part(one, one + 1) for one in range(batch.shoppers)]
        with torch.no_grad(), self._without_hooks():
            embeddings = [self._embedding(self._encoder, one) for one in alone]
        embedding = torch.cat(embeddings).requires_grad_()
        losses = shopper_losses(embedding, batch, candidates, self._settings)
        [back] = torch.autograd.grad(losses.sum(), embedding)
        learns = np.bincount(batch.target_shopper, minlength=batch.shoppers) > 0
        for place, one in enumerate(alone):
            if learns[place] and len(one.history_item):
                gradients[place] = self._own(one, back[place : place + 1])
        return gradients

    def _embedding(self, encoder: Any, batch: ExampleBatch, hidden: Tensor | None = None) -> Tensor:
        """Return one shopper's u [1, d]; `hidden` stands for its tokens' where it is given."""
        if not len(batch.history_item):
            return self._parameters[0].new_zeros(1, self._encoder.basis.vector_width)
        arguments = self._tokens.rows(batch.history_item, self._encoder.device)
        return pool_rows(
            encoder(*(arguments if hidden is None else (hidden, *arguments[1:]))), batch
        )

    def _own(self, batch: ExampleBatch, back: Tensor) -> Tensor:
        """Return one shopper's gradient [d] from that of its embedding [1, d]."""
        try:
            # Opacus hooks the way back through a module's input; torch warns where that needs none.
            rows = self._tokens.rows(batch.history_item, self._encoder.device)
            hidden = rows[0].requires_grad_()
            embedding = self._embedding(self._hooked, batch, hidden)
            # The hooks need the way back to the input. The sum that autograd would leave in each
            # parameter is never read, so it is not asked for.
            embedding.backward(back, inputs=[hidden])  # type: ignore[no-untyped-call]  # torch leaves it untyped
            by_row = [parameter.grad_sample for parameter in self._parameters]  # type: ignore[attr-defined]  # set by Opacus
            return torch.cat([one.sum(dim=0).flatten() for one in by_row])
        finally:
            self._forget()

    @contextmanager
    def _without_hooks(self) -> Iterator[None]:
        self._hooked.disable_hooks()
        try:
            yield
        finally:
            self._hooked.enable_hooks()

    def _forget(self) -> None:
        """Leave nothing in the hooks, also where a step was stopped half-way."""
        self._hooked.zero_grad(set_to_none=True)
        for module in self._hooked.modules():
            if hasattr(module, "activations"):
                module.activations.clear()
        for parameter in self._parameters:
            if hasattr(parameter, "_current_grad_sample"):
                del parameter._current_grad_sample  # noqa: SLF001 - Opacus leaves it behind


def pool_rows(rows: Tensor, batch: ExampleBatch) -> Tensor:
    """Return u of each shopper: unit vectors [b, d] from unit vectors of history rows [h, d].

    Rows behind the history's last are padding.
    """
    counts = np.bincount(batch.history_shopper, minlength=batch.shoppers)
    weight = torch.from_numpy(batch.history_weight).to(rows.dtype).to(rows.device)
    return normalize(weighted_sums(rows, weight, counts), dim=1)


def parts_of(
    batch: ExampleBatch, lengths: NDArray[np.integer], together: int
) -> list[ExampleBatch]:
    """Split a batch, in order, into parts of at most `together` shoppers and PART_TOKENS tokens.

    How it is split changes time and memory, and no bit of a gradient. A shopper with more tokens
    than that is a part of its own.

    Args:
        batch: Of any size.
        lengths: int64 [items], tokens of each item.
        together: At least 1.
    """
    tokens = np.bincount(
        batch.history_shopper, weights=lengths[batch.history_item], minlength=batch.shoppers
    )
    parts, start, held = [], 0, 0.0
    for shopper, own in enumerate(tokens.tolist()):
        if shopper > start and (shopper - start == together or held + own > PART_TOKENS):
            parts.append(batch.part(start, shopper))
            start, held = shopper, 0.0
        held += own
    return [*parts, batch.part(start, batch.shoppers)] if batch.shoppers else []
