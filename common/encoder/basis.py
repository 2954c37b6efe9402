"""Frozen public tensors that every merchant shares: whitening, and the basis LoRA's A is fixed to.

All of it comes from public catalogue text, so it costs no privacy. It travels once, before the
first round, and is part of the release.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from common.encoder.base_model import BaseModel
from common.encoder.placement import PROJECTION, Placement
from common.encoder.trunk import Trunk, batches, pad, token_mask
from common.errors import InputError, SettingsError
from common.files import sha256_hex

LORA_A = "lora_A."


@dataclass(frozen=True, eq=False)
class PublicBasis:
    """What is fitted on public text once and then frozen.

    Attributes:
        mean: float32 [d], mean of the pooled texts.
        whitening: float32 [d, d], symmetric: a text's vector is (pooled - mean) @ whitening.
        directions: By adapted module's name: float32 [r, inputs], orthonormal rows, the leading
            principal directions of what enters the module, all orthogonal to its mean.
    """

    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]
    directions: Mapping[str, NDArray[np.float32]]

    def to_bytes(self) -> bytes:
        """Return the basis as a safetensors file."""
        tensors = {"mean": self.mean, "whitening": self.whitening}
        for name in sorted(self.directions):
            tensors[LORA_A + name] = self.directions[name]
        return save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})

    @classmethod
    def from_bytes(cls, content: bytes) -> "PublicBasis":
        """Read what `to_bytes` wrote.

        Raises:
            InputError: if `content` is no such file, or shapes or numbers do not fit.
        """
        try:
            tensors = load(content)
            mean, whitening = tensors.pop("mean"), tensors.pop("whitening")
        except (SafetensorError, KeyError) as error:
            raise InputError(
                "The basis is not a safetensors file with `mean` and `whitening`.", field="basis"
            ) from error
        if mean.ndim != 1 or whitening.shape != (len(mean), len(mean)):
            raise InputError("The basis' mean and whitening do not fit.", field="basis")
        for name, tensor in tensors.items():
            if not name.startswith(LORA_A) or tensor.ndim != 2:
                raise InputError("The basis has a tensor that is no direction.", field="basis")
        for name, tensor in (("mean", mean), ("whitening", whitening), *tensors.items()):
            if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
                raise InputError("A tensor of the basis is not float32 and finite.", field=name)
        directions = {name.removeprefix(LORA_A): tensor for name, tensor in tensors.items()}
        return cls(mean, whitening, directions)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return sha256_hex(self.to_bytes())


def fit_basis(
    model: BaseModel, trunk: Trunk, placement: Placement, *, whitening_power: float
) -> PublicBasis:
    """Fit whitening and LoRA directions on public text.

    Args:
        model: The base model.
        trunk: The public catalogue's, entering `placement.first_layer`.
        placement: Which modules need directions, and how many.
        whitening_power: 1 whitens fully (covariance to the power -1/2), 0 not at all. A little
            less than 1 keeps the directions that hold little but noise from counting in full.

    The directions are those that EVA initialisation finds (Paischer et al. 2024), with two
    differences. They come from the exact second moment, so that they repeat bit by bit. And they
    are orthogonal to the mean input: a direction that every token shares lets the adapter shift
    all items alike, which learns popularity, takes most of each clipped gradient, and costs the
    tail (docs/adr/0004-basis-without-the-mean.md has the figures).

    Raises:
        SettingsError: if the rank is more than a module has inputs.
    """
    names = [name for name in placement.module_names(model.depth) if name != PROJECTION]
    first = placement.first_layer(model.depth)
    watched = {name: model.bert.get_submodule(name.removeprefix("bert.")) for name in names}
    pooled = torch.empty(len(trunk), model.width)
    with _Moments(watched) as watch, torch.inference_mode():
        for items in batches(trunk.lengths):
            mask = token_mask(trunk.lengths[items])
            watch.mask = mask
            hidden = model.run_layers(pad(trunk.hidden, trunk.offsets, items), mask, first)
            pooled[items] = mean_of_tokens(hidden, mask)
    mean = pooled.mean(dim=0)
    covariance = torch.cov(pooled.T.double(), correction=0)
    directions = {name: watch.directions(name, placement.rank) for name in names}
    if PROJECTION in placement.modules:
        directions[PROJECTION] = _leading(_without(covariance, mean.double()), placement.rank)
    return PublicBasis(mean.numpy(), _inverse_root(covariance, whitening_power), directions)


def mean_of_tokens(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the tokens that `mask` [n, t] marks, of `hidden` [n, t, d]: [n, d]."""
    weights = mask.to(hidden.dtype)[:, :, None]
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


class _Moments:
    """While open, adds up the watched modules' inputs and their products over real tokens."""

    def __init__(self, watched: Mapping[str, nn.Module]) -> None:
        self.mask = torch.empty(0)
        self._watched = watched
        self._sums: dict[str, Tensor] = {}
        self._products: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        for name, module in self._watched.items():
            self._handles.append(module.register_forward_pre_hook(partial(self._add, name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _add(self, name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        tokens = inputs[0][self.mask.bool()]
        product, total = (tokens.T @ tokens).double(), tokens.double().sum(dim=0)
        self._products[name] = self._products.get(name, torch.zeros_like(product)) + product
        self._sums[name] = self._sums.get(name, torch.zeros_like(total)) + total

    def directions(self, name: str, rank: int) -> NDArray[np.float32]:
        """Return the leading directions of what entered a module, orthogonal to its mean."""
        return _leading(_without(self._products[name], self._sums[name]), rank)


def _without(moment: Tensor, direction: Tensor) -> Tensor:
    """Return the moment [d, d] of what is left once `direction` [d] is projected out."""
    unit = direction / direction.norm().clamp_min(1e-12)
    outside = torch.eye(len(unit), dtype=moment.dtype) - torch.outer(unit, unit)
    return outside @ moment @ outside


def _leading(moment: Tensor, rank: int) -> NDArray[np.float32]:
    """Return the `rank` leading eigenvectors as rows, each with its largest entry positive.

    Raises:
        SettingsError: if there are not so many.
    """
    if rank > len(moment):
        raise SettingsError(
            f"rank is {rank}; an adapted module of this base model has {len(moment)} inputs.",
            field="rank",
        )
    _, vectors = torch.linalg.eigh(moment.double())
    rows = vectors[:, -rank:].T.flip(0)
    largest = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True))
    return np.ascontiguousarray((rows * largest.sign()).float().numpy())


def _inverse_root(covariance: Tensor, power: float) -> NDArray[np.float32]:
    """Return covariance ** (-power / 2), directions below a floor counted as the floor."""
    values, vectors = torch.linalg.eigh(covariance)
    # A catalogue smaller than d leaves directions without variance; one item leaves none with any.
    floor = 1e-3 * values.mean() if values.mean() > 1e-12 else 1.0
    scale = values.clamp_min(floor) ** (-power / 2)
    root: Tensor = (vectors * scale) @ vectors.T
    return root.float().numpy()
