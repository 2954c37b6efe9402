"""The loss of one shopper. Nothing in it depends on another shopper of the batch.

A loss that ranked a shopper's target against other shoppers' targets (in-batch negatives) would
let one shopper change all gradients, and clipping each would bound nothing.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from client.training.examples import ExampleBatch
from common.settings.run import RunSettings


@dataclass(frozen=True, eq=False)
class Candidates:
    """The public items a loss ranks against.

    Attributes:
        vectors: float32 [items, d], frozen, of the whole catalogue.
        log_popularity: float32 [items], from the private histogram, or zeros for uniform.
        negatives: int64 [k], drawn from the catalogue with public randomness, the same for all
            shoppers of a step.
    """

    vectors: Tensor
    log_popularity: Tensor
    negatives: Tensor

    @cached_property
    def negative_vectors(self) -> Tensor:
        """Of the negatives, gathered once for all microbatches of a step: float32 [k, d]."""
        return self.vectors[self.negatives]

    @cached_property
    def is_negative(self) -> Tensor:
        """Whether an item is a negative: bool [items]."""
        marked = torch.zeros(len(self.vectors), dtype=torch.bool)
        marked[self.negatives] = True
        return marked


def shopper_losses(
    taste: Tensor, batch: ExampleBatch, candidates: Candidates, settings: RunSettings
) -> Tensor:
    """Return each shopper's mean loss over its targets, 0 for a shopper without any: [b].

    Args:
        taste: float32 [b, d], unit vectors u.
        batch: Whose targets are learnt.
        candidates: Public items.
        settings: `objective`, `temperature` (tau), `popularity_strength` (lambda), rating bounds.

    softmax: cross-entropy of the target among itself and the negatives over
        s_i = u.x_i / tau + lambda log p_i (logit adjustment, Menon et al. 2021).

    bce: binary cross-entropy, targets by their label and negatives as 0, each side averaged.
    mse: squared distance between u.x_i and the rating scaled to [0, 1].
    """
    shopper = torch.from_numpy(batch.target_shopper)
    item = torch.from_numpy(batch.target_item)
    similarity = (taste[shopper] * candidates.vectors[item]).sum(dim=1)
    value = torch.from_numpy(batch.target_value)
    if settings.objective == "mse":
        span = settings.value_high - settings.value_low
        rating = ((value - settings.value_low) / span).clamp(0.0, 1.0)
        loss = (similarity - rating) ** 2
    else:
        adjust = settings.popularity_strength * candidates.log_popularity
        positive = similarity / settings.temperature + adjust[item]
        negative = taste @ candidates.negative_vectors.T / settings.temperature
        negative += adjust[candidates.negatives]
        if settings.objective == "softmax":
            loss = _cross_entropy(positive, negative, shopper, candidates.is_negative[item])
        else:
            same = candidates.negatives[None, :] == item[:, None]
            loss = _click_loss(positive, negative[shopper], same, value.clamp(0.0, 1.0))
    counts = torch.bincount(shopper, minlength=batch.shoppers).clamp_min(1)
    return torch.zeros(batch.shoppers).index_add(0, shopper, loss) / counts


def _cross_entropy(positive: Tensor, negative: Tensor, shopper: Tensor, among: Tensor) -> Tensor:
    """Return each target's cross-entropy among itself and the negatives, itself counted once: [t].

    The negatives of a shopper are summed once for all its targets: the sum already holds a target
    that is `among` them, and takes in one that is not.
    """
    others = torch.logsumexp(negative, dim=1)[shopper]
    return torch.where(among, others, torch.logaddexp(others, positive)) - positive


def _click_loss(positive: Tensor, negative: Tensor, same: Tensor, label: Tensor) -> Tensor:
    """Mean of the targets' and the negatives' binary cross-entropy; a target is no negative."""
    clicked = binary_cross_entropy_with_logits(positive, label, reduction="none")
    passed = torch.nn.functional.softplus(negative).masked_fill(same, 0.0)
    return clicked + passed.sum(dim=1) / (~same).sum(dim=1).clamp_min(1)
