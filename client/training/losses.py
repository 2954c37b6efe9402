"""The loss of one shopper. Nothing in it depends on another shopper of the batch.

A loss that ranked a shopper's target against other shoppers' targets (in-batch negatives) would
let one shopper change all gradients, and clipping each would bound nothing. Nor does the last bit:
shapes are padded to public sizes (`common.encoder.packed_tokens`).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, pad, softplus

from client.training.examples import ExampleBatch
from common.encoder.packed_tokens import VECTOR_WIDTH, padded
from common.settings.run import RunSettings

TOGETHER = (
    32  # shoppers that are ranked in one product, in blocks of VECTOR_WIDTH: always that many rows
)
_TARGETS = 64  # targets are padded to a multiple, so that none is a vector operation's tail


@dataclass(frozen=True, eq=False)
class Candidates:
    """The public items a loss ranks against.

    Attributes:
        vectors: float32 [items, d], frozen, of the whole catalogue; the rest is where they are.
        log_popularity: float32 [items], from the private histogram, or zeros for uniform.
        negatives: int64 [k], drawn from the catalogue with public randomness, the same for all
            shoppers of a step.
    """

    vectors: Tensor
    log_popularity: Tensor
    negatives: Tensor

    @cached_property
    def columns(self) -> Tensor:
        """The negatives' vectors, a column each, zeros up to a multiple of VECTOR_WIDTH: [d, n]."""
        found = self.vectors.new_zeros(
            padded(len(self.negatives), VECTOR_WIDTH), self.vectors.shape[1]
        )
        torch.index_select(self.vectors, 0, self.negatives, out=found[: len(self.negatives)])
        return found.T

    @cached_property
    def place(self) -> Tensor:
        """Each item's column, -1 where it is no negative: int64 [items]."""
        there = self.vectors.device
        places = torch.full((len(self.vectors),), -1, device=there)
        places[self.negatives] = torch.arange(len(self.negatives), device=there)
        return places

    def added(self, strength: float) -> Tensor:
        """Return what is added to each column's score, -inf at padding: [n]."""
        adjust = strength * self.log_popularity[self.negatives]
        return pad(adjust, (0, self.columns.shape[1] - len(adjust)), value=-torch.inf)


@dataclass(frozen=True, eq=False)
class _Targets:
    """A batch's targets, padded by targets of weight 0 of the first shopper.

    Attributes:
        shopper: int64 [t].
        item: int64 [t].
        value: float32 [t].
        weight: float32 [t], 1 over how many targets the shopper has.
    """

    shopper: Tensor
    item: Tensor
    value: Tensor
    weight: Tensor

    @classmethod
    def of(cls, batch: ExampleBatch, device: torch.device) -> "_Targets":
        counts = np.bincount(batch.target_shopper, minlength=batch.shoppers)
        weight = (1 / counts[batch.target_shopper]).astype(np.float32)
        behind = (0, padded(len(weight), _TARGETS) - len(weight))
        columns = (batch.target_shopper, batch.target_item, batch.target_value, weight)
        return cls(*(pad(torch.from_numpy(one), behind).to(device) for one in columns))


def shopper_losses(
    embedding: Tensor, batch: ExampleBatch, candidates: Candidates, settings: RunSettings
) -> Tensor:
    """Return each shopper's mean loss over its targets, 0 for a shopper without any: [b].

    Args:
        embedding: float32 [b, d], unit vectors u.
        batch: Whose targets are learnt.
        candidates: Public items.
        settings: `objective`, `temperature` (tau), `popularity_strength` (lambda), rating bounds.

    softmax: cross-entropy of the target among itself and the negatives over
        s_i = u.x_i / tau + lambda log p_i (logit adjustment, Menon et al. 2021).

    bce: binary cross-entropy, targets by their label and negatives as 0, each side averaged.
    mse: squared distance between u.x_i and the rating scaled to [0, 1].
    """
    if not batch.shoppers:
        return embedding.sum(dim=1)
    embedding = pad(embedding, (0, 0, 0, padded(len(embedding), TOGETHER) - len(embedding)))
    targets = _Targets.of(batch, embedding.device)
    mine = embedding.index_select(0, targets.shopper)
    similarity = (mine * candidates.vectors.index_select(0, targets.item)).sum(dim=1)
    if settings.objective == "mse":
        span = settings.value_high - settings.value_low
        rating = ((targets.value - settings.value_low) / span).clamp(0.0, 1.0)
        loss = (similarity - rating) ** 2
    else:
        strength = settings.popularity_strength
        popularity = candidates.log_popularity.index_select(0, targets.item)
        positive = similarity / settings.temperature + strength * popularity
        negative = _scores(embedding, candidates.columns) / settings.temperature
        negative = negative + candidates.added(strength)
        place = candidates.place.index_select(0, targets.item)
        if settings.objective == "softmax":
            loss = _cross_entropy(positive, negative, targets.shopper, place >= 0)
        else:
            count = len(candidates.negatives)
            loss = _click_loss(positive, negative, targets, place, count)
    zeros = embedding.new_zeros(len(embedding))
    return zeros.index_add(0, targets.shopper, loss * targets.weight)[: batch.shoppers]


def _scores(embedding: Tensor, columns: Tensor) -> Tensor:
    """Return embedding @ columns, [b, n], in blocks of VECTOR_WIDTH shoppers.

    Two blocks at least: a library that has one product alone may share it out among threads along
    the sum, and round by their number.
    """
    blocks = embedding.view(-1, VECTOR_WIDTH, embedding.shape[1])
    return torch.bmm(blocks, columns.expand(len(blocks), *columns.shape)).flatten(0, 1)


def _cross_entropy(positive: Tensor, negative: Tensor, shopper: Tensor, among: Tensor) -> Tensor:
    """Return each target's cross-entropy among itself and the negatives, itself counted once: [t].

    The negatives of a shopper are summed once for all its targets: the sum already holds a target
    that is `among` them, and takes in one that is not.
    """
    others = torch.logsumexp(negative, dim=1).index_select(0, shopper)
    return torch.where(among, others, torch.logaddexp(others, positive)) - positive


def _click_loss(
    positive: Tensor, negative: Tensor, targets: _Targets, place: Tensor, count: int
) -> Tensor:
    """Mean of the targets' and the negatives' binary cross-entropy; a target is no negative."""
    label = targets.value.clamp(0.0, 1.0)
    clicked = binary_cross_entropy_with_logits(positive, label, reduction="none")
    passed = softplus(negative)
    among = place >= 0
    itself = targets.shopper * negative.shape[1] + place.clamp_min(0)
    own = torch.where(among, passed.flatten().index_select(0, itself), 0.0)
    others = passed.sum(dim=1).index_select(0, targets.shopper) - own
    return clicked + others / (count - among.to(torch.int64)).clamp_min(1)
