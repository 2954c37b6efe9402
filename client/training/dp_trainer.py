"""One private round at a merchant: sample, per-shopper gradients, clip, sum, noise.

How a shopper's gradient is taken is `client.training.shopper_gradients`; here it is clipped, added
up and noised.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from client.training.examples import ExampleBatch, ShopperExamples
from client.training.losses import Candidates
from client.training.shopper_gradients import gradients_of, parts_of
from common.adapter import AdapterState
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.packed_tokens import VECTOR_WIDTH, padded
from common.errors import FederationError
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.ledger import Charge
from common.privacy.mechanism.canaries import CanaryRecord
from common.privacy.mechanism.clipping import ClippedSum, clip_and_sum
from common.privacy.mechanism.noise import NoiseSource, ProtectedSum, protect
from common.privacy.mechanism.sampling import poisson_sample
from common.privacy.mechanism.shares import ProtectedShare, protect_share
from common.settings.run import RunSettings


@dataclass(eq=False)
class Merchant:
    """What a merchant trains on.

    Attributes:
        examples: Its shoppers.
        tokens: Its catalogue as the adapted encoder reads it.
        vectors: float32 [items, d], frozen candidate vectors, where the encoder is.
        log_popularity: float32 [items], zeros for uniform, in the same place.
    """

    examples: ShopperExamples
    tokens: ItemTokens
    vectors: Tensor
    log_popularity: Tensor


class PrivateTrainer:
    """Private rounds on one merchant's shoppers."""

    def __init__(self, encoder: AdaptedEncoder, merchant: Merchant, settings: RunSettings) -> None:
        """Prepare to train the adapted encoder's parameters.

        Args:
            encoder: Trained in place; `load_adapter` before each round.
            merchant: Whose shoppers.
            settings: The run's.
        """
        self._encoder, self._merchant, self._settings = encoder, merchant, settings
        self._gradients = gradients_of(encoder, merchant.tokens, settings)
        self._together = self._gradients.together
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
        ).to(self.device)

    def start_at(self, adapter: AdapterState) -> None:
        """Put the adapted encoder at `adapter`."""
        # A copy: arrays that came in a message are read-only, which torch warns of.
        self._encoder.load_adapter(adapter.with_vector(adapter.flatten()))

    @property
    def device(self) -> torch.device:
        """Where gradients are taken. They are clipped, added up and noised on the processor."""
        return self._encoder.device

    @property
    def items(self) -> int:
        """How many items the catalogue has."""
        return len(self._merchant.vectors)

    @property
    def settings(self) -> RunSettings:
        """The run's."""
        return self._settings

    @contextmanager
    def training_on(self, examples: ShopperExamples) -> Iterator[None]:
        """Train on these shoppers while open."""
        before, self._merchant.examples = self._merchant.examples, examples
        try:
            yield
        finally:
            self._merchant.examples = before

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

    def private_share(
        self,
        adapter: AdapterState,
        charge: Charge,
        noise: NoiseSource,
        rng: np.random.Generator,
        canaries: CanaryRecord | None = None,
        *,
        own: NDArray[np.bool_] | None = None,
    ) -> ProtectedShare:
        """Take the charge's one step; return what is summed under masks [k + m].

        Args:
            adapter: As in `private_round`, like all arguments.
            charge: Of a plan with distributed noise.
            noise: Draws this node's share of it.
            rng: As there.
            canaries: The run's; what they show is in the sum alone, so nothing is added to them.
            own: bool [m], the columns that are this merchant's: in the others it adds noise alone.

        Raises:
            PrivacyError: as `protect_share`.
            FederationError: as `private_round`.

        Formal guarantee:
            None on its own: see `protect_share`. Nothing that it returns may leave the node but
            under a mask.
        """
        self.start_at(adapter)
        return protect_share(self._sampled_sum(charge, noise, rng, canaries, own), charge, noise)

    @property
    def width(self) -> int:
        """How many numbers are clipped, summed and noised: k."""
        return sum(math.prod(shape) for shape in self._projected_shapes)

    def _step(
        self,
        charge: Charge,
        noise: NoiseSource,
        rng: np.random.Generator,
        canaries: CanaryRecord | None,
    ) -> ProtectedSum:
        return protect(self._sampled_sum(charge, noise, rng, canaries), charge, noise)

    def _sampled_sum(
        self,
        charge: Charge,
        noise: NoiseSource,
        rng: np.random.Generator,
        canaries: CanaryRecord | None,
        own: NDArray[np.bool_] | None = None,
    ) -> ClippedSum:
        """Sample, clip and sum the shoppers and, with them, the canaries' virtual ones."""
        plan, shoppers = charge.plan, len(self._merchant.examples)
        sampled = poisson_sample(
            plan, shoppers, noise, 0 if canaries is None else len(canaries.bits)
        )
        clipped = self.clipped_sum(np.flatnonzero(sampled[:shoppers]), plan, rng)
        if canaries is not None:
            taken = sampled[shoppers:] if own is None else sampled[shoppers:] & own
            virtual = canaries.included(taken, plan.max_grad_norm)
            clipped = clipped.with_canaries(
                clip_and_sum(virtual, plan.max_grad_norm),
                canaries.order(clipped.vector.size, charge.entry.round_number),
            )
        return clipped

    def clipped_sum(
        self, shoppers: NDArray[np.integer], plan: PrivacyPlan, rng: np.random.Generator
    ) -> ClippedSum:
        """Return the sum of the clipped gradients of `shoppers` at the adapted encoder's adapter.

        Formal guarantee:
            Removing one shopper changes the sum by at most C: see `clip_and_sum`, whose rows are
            `shopper_gradients`, one a shopper. A row depends on its shopper, the adapter and
            public facts to the last bit (see `client.training.sensitivity_check`), so no margin is
            kept for rounding.
        """
        total = clip_and_sum(np.zeros((0, self.width)), plan.max_grad_norm)
        candidates = self.candidates(self.negatives(rng))
        # Each shopper has its own stream: its example is the same whoever else was sampled, and
        # whoever else is a shopper at all.
        batch = self._merchant.examples.draw(shoppers, int(rng.integers(2**63)))
        for part in parts_of(batch, self._merchant.tokens.lengths, self._together):
            total += clip_and_sum(self._part_rows(part, candidates), plan.max_grad_norm)
        return total

    def rows(self, batch: ExampleBatch, candidates: Candidates) -> Tensor:
        """Return what is clipped, one row a shopper: float32 [b, k], as `projected`."""
        parts = parts_of(batch, self._merchant.tokens.lengths, self._together)
        return torch.cat([self._part_rows(part, candidates) for part in parts])

    def _part_rows(self, part: ExampleBatch, candidates: Candidates) -> Tensor:
        return self.projected(self.shopper_gradients(part, candidates))

    def negatives(self, rng: np.random.Generator) -> Tensor:
        """Return the catalogue's items, or as many of them as settings say: int64 [k]."""
        items = len(self._merchant.vectors)
        if items <= self._settings.negatives:
            return torch.arange(items, device=self.device)
        drawn = rng.choice(items, self._settings.negatives, replace=False)
        return torch.from_numpy(drawn).to(self.device)

    def candidates(self, negatives: Tensor) -> Candidates:
        """Return what a step ranks a target against: the catalogue's items at `negatives` [k]."""
        return Candidates(self._merchant.vectors, self._merchant.log_popularity, negatives)

    def shopper_gradients(self, batch: ExampleBatch, candidates: Candidates) -> Tensor:
        """Return each shopper's gradient of its own loss: see `ShopperGradients.of`."""
        return self._gradients.of(batch, candidates)

    def projected(self, gradients: Tensor) -> Tensor:
        """Return gradients [b, k] with respect to C, B = S C (see `AdaptedEncoder.noise_basis`)."""
        sizes = [one.numel() for one in self._parameters]
        pieces: tuple[Tensor, ...] = torch.split(gradients, sizes, dim=1)
        projected = [
            piece if frame is None else _framed(piece.reshape(-1, *one.shape), frame)
            for piece, one, frame in zip(pieces, self._parameters, self._frames, strict=True)
        ]
        return torch.cat(projected, dim=1)

    def one_at_a_time(self) -> None:
        """Share no product among shoppers from here on; slower, and the same for each of them."""
        self._together = 1

    @property
    def goes_one_at_a_time(self) -> bool:
        """Whether products are shared among shoppers no more."""
        return self._together == 1 < self._gradients.together

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


def _framed(gradients: Tensor, frame: Tensor) -> Tensor:
    """Return S^T g of each shopper [b, k * m], of g [b, d, m]: a product of its own each.

    Padded to whole vectors of the processor, so that the place in memory is alike for everybody.
    """
    shoppers, width, columns = gradients.shape
    framed = padded(frame.shape[1], VECTOR_WIDTH)
    each = pad(frame.to(gradients.dtype).to(gradients.device), (0, framed - frame.shape[1])).T
    behind = pad(gradients, (0, padded(columns, VECTOR_WIDTH) - columns))
    found = torch.bmm(each.expand(shoppers, framed, width), behind)
    return found[:, : frame.shape[1], :columns].flatten(start_dim=1)
