"""BERT's last layer, up to the product that is adapted, from a small file of its own.

Encoding a catalogue for a run takes the frozen lower layers, which need no basis and are computed
ahead, and then this layer, which meets the basis' directions. A node that has both does without
transformers and the other layers: 200 MB less, and three seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from common.arrays import load_arrays
from common.encoder.base_model import CPU, BaseModel, added_to_scores
from common.encoder.public_basis import PublicBasis
from common.encoder.token_states import TokenStates, batches, pad, token_mask
from common.errors import InputError

FEW = 16  # items at once: what a node holds beside this is large, and the layer is quick
_FACTS = "facts"
_ACTIVATION = "gelu"


@dataclass(frozen=True, eq=False)
class TopNorm:
    """What a cached step needs of the base model: how deep it is, and its last LayerNorm.

    Attributes:
        depth: Layers of the base model.
        scale: float32 [d].
        shift: float32 [d].
        eps: Added to the variance.
    """

    depth: int
    scale: NDArray[np.float32]
    shift: NDArray[np.float32]
    eps: float


class OnlyB(nn.Module):
    """LoRA's part of a linear layer without the layer and without A, under PEFT's names."""

    def __init__(self, rank: int, width: int) -> None:
        super().__init__()
        self.scaling = {"default": 1.0}  # alpha / r, as in `AdaptedEncoder._inject`
        self.lora_B = nn.ModuleDict({"default": nn.Linear(rank, width, bias=False)})
        with torch.no_grad():
            for weights in self.lora_B.parameters():
                weights.zero_()


@dataclass(frozen=True, eq=False)
class LastLayer:
    """A base model's last layer.

    Attributes:
        depth: Layers of the base model.
        heads: Of its attention.
        eps: Added to the variance by its LayerNorms.
        tensors: float32, by their names inside the layer.
    """

    depth: int
    heads: int
    eps: float
    tensors: Mapping[str, NDArray[np.float32]]

    @classmethod
    def of(cls, model: BaseModel) -> Self | None:
        """Return the model's; None if it is none that `before_b` computes."""
        config = model.bert.config
        if config.hidden_act != _ACTIVATION:
            return None
        state = model.layers[-1].state_dict()
        tensors = {name: one.cpu().numpy().copy() for name, one in state.items()}
        return cls(model.depth, config.num_attention_heads, config.layer_norm_eps, tensors)

    def to_bytes(self) -> bytes:
        """Return a safetensors file."""
        facts = np.array([self.depth, self.heads, self.eps])  # float64: all come back as they were
        return save({**self.tensors, _FACTS: facts})

    @classmethod
    def from_bytes(cls, content: bytes) -> Self | None:
        """Read what `to_bytes` wrote; None if it is broken."""
        try:
            tensors: dict[str, NDArray[Any]] = load_arrays(content)
            depth, heads, eps = tensors.pop(_FACTS).tolist()
        except (SafetensorError, KeyError):
            return None
        return cls(int(depth), int(heads), eps, tensors)

    def norm(self) -> TopNorm:
        """Return what an adapted encoder needs of it once `before_b` is computed."""
        scale, shift = (self.tensors[f"output.LayerNorm.{name}"] for name in ("weight", "bias"))
        return TopNorm(self.depth, scale, shift, self.eps)

    def directions_of(self, basis: PublicBasis, rank: int) -> NDArray[np.float32]:
        """Return A of the adapted product: float32 [r, inputs], the basis' directions for it.

        Raises:
            InputError: if the basis is of other LoRA targets or another base model.
        """
        weight = self.tensors["output.dense.weight"]
        name = f"bert.encoder.layer.{self.depth - 1}.output.dense"
        if list(basis.directions) != [name] or len(basis.mean) != len(weight):
            raise InputError(
                "The basis has directions for other modules than the LoRA targets adapt.",
                field="basis",
            )
        directions = basis.directions[name]
        if directions.shape != (rank, weight.shape[1]):
            raise InputError(
                f"The basis has {directions.shape} directions for {name}; the LoRA targets need "
                f"{(rank, weight.shape[1])}.",
                field="basis",
            )
        return directions

    def before_b(
        self, basis: PublicBasis, rank: int, token_states: TokenStates, device: torch.device = CPU
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return A @ z [tokens, r] and dense(z) + residual [tokens, d] of a token states's tokens.

        Args:
            basis: Whose directions are A.
            rank: r, as many as the LoRA targets have.
            token_states: What enters the layer.
            device: Where it is computed.

        Raises:
            InputError: if the basis is of other LoRA targets or another base model.
        """
        directions = self.directions_of(basis, rank)
        reduced = np.empty((len(token_states.hidden), len(directions)), np.float32)
        summed = np.empty_like(token_states.hidden)
        tensors = {name: torch.from_numpy(one).to(device) for name, one in self.tensors.items()}
        weight, bias = (tensors[f"output.dense.{name}"] for name in ("weight", "bias"))
        a = torch.from_numpy(directions).to(device)
        with torch.inference_mode():
            for items in batches(token_states.lengths, FEW):
                mask = token_mask(token_states.lengths[items]).to(device)
                hidden = pad(token_states.hidden, token_states.offsets, items).to(device)
                residual, z = self._run(tensors, hidden, mask)
                inside, places = mask.bool(), token_states.tokens_of(items)
                reduced[places] = linear(z, a)[inside].cpu().numpy()
                summed[places] = (linear(z, weight, bias) + residual)[inside].cpu().numpy()
        return reduced, summed

    def _run(
        self, tensors: Mapping[str, Tensor], hidden: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return what the second product's residual and its input are: the layer as published.

        Devlin et al. 2018, with LayerNorm after each sum; operation by operation what transformers
        does, so that the numbers are its numbers to the last bit.
        """

        def dense(name: str, inputs: Tensor) -> Tensor:
            return linear(inputs, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

        queries, keys, values = (
            dense(f"attention.self.{name}", hidden)
            .view(*hidden.shape[:-1], self.heads, -1)
            .transpose(1, 2)
            for name in ("query", "key", "value")
        )
        mixed = scaled_dot_product_attention(
            queries, keys, values, attn_mask=added_to_scores(mask, queries.dtype)
        )
        attended = dense("attention.output.dense", mixed.transpose(1, 2).flatten(2))
        norm = partial(layer_norm, normalized_shape=hidden.shape[-1:], eps=self.eps)
        scale, shift = (
            tensors[f"attention.output.LayerNorm.{name}"] for name in ("weight", "bias")
        )
        residual = norm(attended + hidden, weight=scale, bias=shift)
        return residual, gelu(dense("intermediate.dense", residual))
