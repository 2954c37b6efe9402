"""One private round at a merchant: sample, per-shopper gradients, clip, sum, noise.

The only door to Opacus. Its hooks give one gradient for each row the adapted encoder reads; a row
is one item of one shopper's history, encoded within that shopper's own example, and the rows'
gradients are summed by shopper before anything is clipped.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from opacus import GradSampleModule
from torch import Tensor
from torch.nn.functional import normalize

from client.training.examples import ExampleBatch, ShopperExamples
from client.training.losses import Candidates, shopper_losses
from common.adapter import AdapterState
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.errors import FederationError
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.ledger import Charge
from common.privacy.mechanism.canaries import CanaryRecord
from common.privacy.mechanism.clipping import ClippedSum, clip_and_sum
from common.privacy.mechanism.noise import NoiseSource, ProtectedSum, protect
from common.privacy.mechanism.sampling import poisson_sample
from common.settings.run import RunSettings

MICROBATCH_ROWS = 256  # history rows differentiated at once: a bound on memory, not on privacy
# Shoppers of one microbatch share matrix products, whose float32 rounding depends on how many rows
# and tokens they have: when one leaves, its batch mates' clipped gradients move by up to 6e-6 C
# each, 1e-6 C on average (measured by tests/client/training/test_dp_trainer_sensitivity.py). The
# clip leaves room for a thousand that all move the same way, or a million that move at random.
ROUNDING_MARGIN = 2.0**-10


@dataclass(eq=False)
class Merchant:
    """What a merchant trains on.

    Attributes:
        examples: Its shoppers.
        tokens: Its catalogue as the adapted encoder reads it.
        vectors: float32 [items, d], frozen candidate vectors of the catalogue.
        log_popularity: float32 [items], zeros for uniform.
    """

    examples: ShopperExamples
    tokens: ItemTokens
    vectors: Tensor
    log_popularity: Tensor


class PrivateTrainer:
    """Private rounds on one merchant's shoppers, with one Opacus hook set for its life."""

    def __init__(self, encoder: AdaptedEncoder, merchant: Merchant, settings: RunSettings) -> None:
        """Hook the adapted encoder's trained parameters.

        Args:
            encoder: Trained in place; `load_adapter` before each round.
            merchant: Whose shoppers.
            settings: The run's.
        """
        self._encoder, self._merchant, self._settings = encoder, merchant, settings
        encoder.train()  # Opacus records only in this mode; the models have no dropout
        self._hooked = GradSampleModule(encoder, batch_first=True, loss_reduction="sum")
        self._parameters = [parameter for _, parameter in encoder.trained()]
        self._frames = [encoder.noise_basis(name) for name, _ in encoder.trained()]
        self._projected_shapes = [
            one.shape if frame is None else (frame.shape[1], one.shape[1])
            for one, frame in zip(self._parameters, self._frames, strict=True)
        ]

        self.check_only_adapter_trains()

    def set_popularity(self, popularity: NDArray[np.float32] | None) -> None:
        """Use these item probabilities [items] in the loss; None is uniform."""
        items = len(self._merchant.vectors)
        self._merchant.log_popularity = (
            torch.zeros(items) if popularity is None else torch.from_numpy(np.log(popularity))
        )

    def start_at(self, adapter: AdapterState) -> None:
        """Put the adapted encoder at `adapter`."""
        # A copy: arrays that came in a message are read-only, which torch warns of.
        self._encoder.load_adapter(adapter.with_vector(adapter.flatten()))

    def shoppers_with_history(self) -> NDArray[np.int64]:
        """Return the indices of the shoppers who bought anything."""
        everybody = np.arange(len(self._merchant.examples))
        return everybody[self._merchant.examples.history_bound(everybody) > 0]

    @contextmanager
    def shop_without(self, shopper: int) -> Iterator[None]:
        """Train on the shop as if this shopper had never entered it; those behind move up."""
        examples = self._merchant.examples
        self._merchant.examples = examples.without(shopper)
        try:
            yield
        finally:
            self._merchant.examples = examples

    def private_round(
        self,
        adapter: AdapterState,
        charge: Charge,
        noise: NoiseSource,
        rng: np.random.Generator,
        canaries: CanaryRecord | None = None,
    ) -> tuple[NDArray[np.float32], CanaryRecord | None]:
        """Take the charge's private steps from `adapter`; return the update [d] and the canaries.

        With one step a round the update is the noised clipped sum over the plan's divisor. With
        more, the node steps on each of them itself, and the update is their sum: where the node
        went, in units of a gradient.

        Args:
            adapter: The global adapter.
            charge: Pays for the round, entry on disk.
            noise: Also flips the sampling coins.
            rng: Cuts examples and draws negatives: neither needs to be secret.
            canaries: The run's canaries; what they show in these steps is added to what is
                returned. They hold nothing of a shopper, and the update nothing of them.

        Raises:
            PrivacyError: as `protect`.
            FederationError: if the adapted encoder's trained parameters are not the adapter's.

        Formal guarantee:
            Each step is one Poisson-subsampled Gaussian mechanism at the charge's event: the rows
            of a shopper fold into one gradient of norm at most C, and nothing else that leaves
            this function depends on the shoppers.
        """
        moved = np.zeros(adapter.size)
        vector = adapter.flatten().astype(np.float64)
        for _ in range(charge.plan.steps_per_round):
            self._encoder.load_adapter(adapter.with_vector(vector.astype(np.float32)))
            protected = self._step(charge, noise, rng, canaries)
            if canaries is not None:
                canaries = canaries.observed(
                    protected.round_number, protected.canaries, charge.plan.max_grad_norm
                )
            gradient = self._unframed(protected.averaged())
            moved += gradient
            vector -= self._settings.local_learning_rate * gradient
        return moved.astype(np.float32), canaries

    def _step(
        self,
        charge: Charge,
        noise: NoiseSource,
        rng: np.random.Generator,
        canaries: CanaryRecord | None,
    ) -> ProtectedSum:
        """Sample, clip, sum and noise the shoppers and, with them, the canaries' virtual ones."""
        plan, shoppers = charge.plan, len(self._merchant.examples)
        sampled = poisson_sample(
            plan, shoppers, noise, 0 if canaries is None else len(canaries.bits)
        )
        clipped = self.clipped_sum(np.flatnonzero(sampled[:shoppers]), plan, rng)
        if canaries is not None:
            virtual = canaries.included(sampled[shoppers:], plan.max_grad_norm)
            clipped = clipped.with_canaries(
                clip_and_sum(virtual, plan.max_grad_norm, margin=ROUNDING_MARGIN),
                canaries.order(clipped.vector.size, charge.entry.round_number),
            )
        return protect(clipped, charge, noise)

    def clipped_sum(
        self, shoppers: NDArray[np.integer], plan: PrivacyPlan, rng: np.random.Generator
    ) -> ClippedSum:
        """Return the sum of the clipped gradients of `shoppers` at the adapted encoder's adapter.

        Formal guarantee:
            Removing one shopper changes the sum by at most C: see `clip_and_sum`, whose rows are
            `shopper_gradients`, one a shopper. Rows depend on each other by float32 rounding
            only, for which ROUNDING_MARGIN is kept free.
        """
        size = sum(math.prod(shape) for shape in self._projected_shapes)
        total = clip_and_sum(np.zeros((0, size)), plan.max_grad_norm)
        candidates = self.candidates(self._negatives(rng))
        # Each shopper has its own stream: its example is the same whoever else was sampled, and
        # whoever else is a shopper at all.
        seed = int(rng.integers(2**63))
        for part in self._parts(shoppers):
            batch = self._merchant.examples.draw(part, seed)
            rows = self._projected(self.shopper_gradients(batch, candidates))
            total += clip_and_sum(rows, plan.max_grad_norm, margin=ROUNDING_MARGIN)
        return total

    def _parts(self, shoppers: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
        """Split shoppers so that each part has about MICROBATCH_ROWS history rows."""
        rows = np.cumsum(self._merchant.examples.history_bound(shoppers))
        part = (rows - 1) // MICROBATCH_ROWS
        for number in np.unique(part):
            yield shoppers[part == number]

    def _negatives(self, rng: np.random.Generator) -> Tensor:
        items = len(self._merchant.vectors)
        if items <= self._settings.negatives:
            return torch.arange(items)
        return torch.from_numpy(rng.choice(items, self._settings.negatives, replace=False))

    def candidates(self, negatives: Tensor) -> Candidates:
        """Return what a step ranks a target against: the catalogue's items at `negatives` [k]."""
        return Candidates(self._merchant.vectors, self._merchant.log_popularity, negatives)

    def shopper_gradients(self, batch: ExampleBatch, candidates: Candidates) -> Tensor:
        """Return each shopper's gradient of its own loss: float32 [b, d], in the adapter's order.

        A shopper without a history or a target has the gradient zero and is a row like any other.
        """
        size = sum(parameter.numel() for parameter in self._parameters)
        if not (len(batch.target_item) and len(batch.history_item)):
            return torch.zeros(batch.shoppers, size)
        folded = torch.from_numpy(batch.history_shopper)
        hidden, *rest = self._merchant.tokens.rows(batch.history_item)
        # Opacus hooks the way back through a module's input; torch warns where that needs none.
        rows = self._hooked(hidden.requires_grad_(), *rest)
        taste = pool_rows(rows, batch)
        losses = shopper_losses(taste, batch, candidates, self._settings)
        # The hooks need the way back to the input. The sum over all shoppers that autograd would
        # leave in each parameter is never read, so it is not asked for.
        losses.sum().backward(inputs=[hidden])  # type: ignore[no-untyped-call]  # torch leaves it untyped
        gradients = []
        for parameter in self._parameters:
            by_row = parameter.grad_sample.flatten(start_dim=1)  # type: ignore[attr-defined]  # set by Opacus
            folds = torch.zeros(batch.shoppers, by_row.shape[1])
            gradients.append(folds.index_add_(0, folded, by_row))
        self._hooked.zero_grad(set_to_none=True)
        return torch.cat(gradients, dim=1)

    def _projected(self, gradients: Tensor) -> Tensor:
        """Return gradients [b, k] with respect to C, B = S C (see `AdaptedEncoder.noise_basis`)."""
        sizes = [one.numel() for one in self._parameters]
        pieces: tuple[Tensor, ...] = torch.split(gradients, sizes, dim=1)
        projected = [
            piece
            if frame is None
            else torch.matmul(frame.T, piece.reshape(-1, *one.shape)).flatten(start_dim=1)
            for piece, one, frame in zip(pieces, self._parameters, self._frames, strict=True)
        ]
        return torch.cat(projected, dim=1)

    def _unframed(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return S applied to a noised gradient [k]: a step on C, as a step on B [d]."""
        ends = np.cumsum([math.prod(shape) for shape in self._projected_shapes])
        pieces = [
            piece if frame is None else (frame.double().numpy() @ piece.reshape(shape)).ravel()
            for piece, shape, frame in zip(
                np.split(gradient, ends[:-1]), self._projected_shapes, self._frames, strict=True
            )
        ]
        return np.concatenate(pieces)

    def check_only_adapter_trains(self) -> None:
        """Refuse an adapted encoder in which anything but the adapter would move, or nothing would.

        Raises:
            FederationError: naming no more than the field.
        """
        names = {name for name, one in self._encoder.named_parameters() if one.requires_grad}
        if not names or any(".lora_" not in name for name in names):
            raise FederationError("The trained parameters are not LoRA's alone.", field="adapter")


def pool_rows(rows: Tensor, batch: ExampleBatch) -> Tensor:
    """Return u of each shopper: unit vectors [b, d] from unit vectors of history rows [h, d]."""
    weight = torch.from_numpy(batch.history_weight)[:, None]
    summed = torch.zeros(batch.shoppers, rows.shape[1])
    return normalize(
        summed.index_add(0, torch.from_numpy(batch.history_shopper), rows * weight), dim=1
    )
