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
from safetensors.numpy import save
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from common.arrays import load_arrays
from common.encoder.base_model import BaseModel
from common.encoder.lexical_part import LexicalPart, fit_lexical_part
from common.encoder.token_states import TokenStates, batches, pad
from common.encoder.whitening import inverse_root, least_variance
from common.errors import InputError, SettingsError
from common.files import sha256_hex
from common.settings.lora_targets import LORA_A, PROJECTION, LoraTargets
from common.settings.run import MOST_BASIS_NORM

LEAST_WEIGHT = 1e-4  # of a token, so that a text of nothing but common ones has a mean as well
_TENSORS = ("mean", "whitening", "token_weight")
_WORDS = ("words.mean", "words.whitening", "words.weight")  # all of them, or none


@dataclass(frozen=True, eq=False)
class PublicBasis:
    """What is fitted on public text once and then frozen.

    Attributes:
        mean: float32 [d], mean of the pooled texts.
        whitening: float32 [d, d], symmetric: a text's vector is (pooled - mean) @ whitening.
        token_weight: float32 [vocabulary], in (0, 1]: how much a token counts in its text's mean.
        directions: By adapted module's name: float32 [r, inputs], orthogonal rows, the leading
            principal directions of what enters the module, all orthogonal to its mean. Of length
            1, but for the projection's, which are as the whitening's: see `fit_basis`.
        words: How the lexical part of an item's vector is made, or None where there is none.
    """

    mean: NDArray[np.float32]
    whitening: NDArray[np.float32]
    token_weight: NDArray[np.float32]
    directions: Mapping[str, NDArray[np.float32]]
    words: LexicalPart | None = None

    @cached_property
    def largest_norm(self) -> float:
        """The largest Frobenius norm of its tensors; with all-MiniLM-L6-v2 some 8,000."""
        tensors = [self.mean, self.whitening, *self.directions.values()]
        tensors += [] if self.words is None else list(self.words.arrays())
        return max(_norm(tensor) for tensor in tensors)

    @property
    def vector_width(self) -> int:
        """Numbers in an item's vector: d, or 2 d with the lexical part."""
        return len(self.mean) * (1 if self.words is None else 2)

    def weights(self, ids: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return the weight of each token [tokens].

        Raises:
            InputError: if a token is not of this basis' vocabulary.
        """
        if len(ids) and ids.max() >= len(self.token_weight):
            raise InputError(
                f"The basis weighs {len(self.token_weight)} tokens; the base model has more.",
                field="basis",
            )
        found: NDArray[np.float32] = self.token_weight[ids]
        return found

    def token_embeddings(
        self, table: NDArray[np.float32], token_states: TokenStates
    ) -> NDArray[np.float32] | None:
        """Return the lexical part of each item [items, d], or None; see `LexicalPart.vectors`.

        Raises:
            InputError: if `table` [vocabulary, d] is of another width.
        """
        if self.words is None:
            return None
        if table.shape[1] != len(self.words.mean):
            raise InputError("The basis' words are of another base model.", field="basis")
        return self.words.vectors(table, token_states, self.weights(token_states.ids))

    def to_bytes(self) -> bytes:
        """Return the basis as a safetensors file."""
        tensors = {name: getattr(self, name) for name in _TENSORS}
        if self.words is not None:
            tensors |= zip(_WORDS, self.words.arrays(), strict=True)
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
            tensors = load_arrays(content)
            mean, whitening, token_weight = (tensors.pop(name) for name in _TENSORS)
            words = [tensors.pop(name) for name in _WORDS] if _WORDS[0] in tensors else []
        except (SafetensorError, KeyError) as error:
            raise InputError(
                f"The basis is not a safetensors file with {', '.join(_TENSORS)}.", field="basis"
            ) from error
        if mean.ndim != 1 or whitening.shape != (len(mean), len(mean)):
            raise InputError("The basis' mean and whitening do not fit.", field="basis")
        for name, tensor in tensors.items():
            if not name.startswith(LORA_A) or tensor.ndim != 2:
                raise InputError("The basis has a tensor that is no direction.", field="basis")
        named = dict(zip(_TENSORS, (mean, whitening, token_weight), strict=True)) | tensors
        named |= zip(_WORDS, words, strict=False)
        for name, tensor in named.items():
            if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
                raise InputError("A tensor of the basis is not float32 and finite.", field=name)
            if not _norm(tensor) <= MOST_BASIS_NORM:
                raise InputError(
                    f"A tensor of the basis has a norm above {MOST_BASIS_NORM:.0e}.", field=name
                )
        if token_weight.ndim != 1 or not ((token_weight > 0) & (token_weight <= 1)).all():
            raise InputError("A token's weight must be in (0, 1].", field="token_weight")
        directions = {name.removeprefix(LORA_A): tensor for name, tensor in tensors.items()}
        part = LexicalPart.from_arrays(*words) if words else None
        if part is not None and part.mean.shape != mean.shape:
            raise InputError("The basis' words are of another width.", field="words.mean")
        return cls(mean, whitening, token_weight, directions, part)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return sha256_hex(self.to_bytes())


def _norm(tensor: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(tensor.astype(np.float64)))


def token_weights(
    token_states: TokenStates, vocabulary: int, sif_smoothing: float
) -> NDArray[np.float32]:
    """Return how much each token of the vocabulary counts in a text's mean: float32 [vocabulary].

    h / (h + share of the public texts that have the token), with h = `sif_smoothing`: what
    stands in every other title says little about an item (smooth inverse frequency, Arora, Liang
    and Ma 2017, with the share of texts in place of a word's probability). 1 for all where h is 0,
    and for a token that no public text has.
    """
    texts = np.repeat(np.arange(len(token_states)), token_states.lengths)
    in_text = np.unique(texts * vocabulary + token_states.ids)  # a token counts once a text
    share = np.bincount(in_text % vocabulary, minlength=vocabulary) / max(len(token_states), 1)
    if sif_smoothing == 0:
        return np.ones(vocabulary, np.float32)
    weight = sif_smoothing / (sif_smoothing + share)
    return np.maximum(weight, LEAST_WEIGHT).astype(np.float32)


def fit_basis(
    model: BaseModel,
    token_states: TokenStates,
    lora_targets: LoraTargets,
    *,
    whitening_power: float,
    sif_smoothing: float,
    lexical_weight: float,
) -> PublicBasis:
    """Fit token weights, whitening, LoRA directions and the lexical part on public text.

    Args:
        model: The base model.
        token_states: The public catalogue's, entering `lora_targets.first_layer`.
        lora_targets: Which modules need directions, and how many.
        whitening_power: 1 whitens fully (covariance to the power -1/2), 0 not at all. A little
            less than 1 keeps the directions that hold little but noise from counting in full.
        sif_smoothing: See `token_weights`.
        lexical_weight: Length of the lexical part of an item's vector beside BERT's, of length 1; 0
            leaves it out.

    The projection reads one vector a text, and its directions are scaled as the whitening scales
    them (docs/adr/0028-the-projection-reads-evened-directions.md).

    The directions are those that EVA initialisation finds (Paischer et al. 2024), with two
    differences. They come from the exact second moment, so that they repeat bit by bit. And they
    are orthogonal to the mean input: a direction that every token shares lets the adapter shift
    all items alike, which learns popularity, takes most of each clipped gradient, and costs the
    tail (docs/adr/0004-basis-without-the-mean.md has the figures).

    Raises:
        SettingsError: if the rank is more than a module has inputs.
    """
    names = [name for name in lora_targets.module_names(model.depth) if name != PROJECTION]
    first = lora_targets.first_layer(model.depth)
    watched = {name: model.bert.get_submodule(name.removeprefix("bert.")) for name in names}
    pooled = torch.empty(len(token_states), model.width)
    token_weight = token_weights(token_states, model.bert.config.vocab_size, sif_smoothing)
    packed = token_weight[token_states.ids]
    with _Moments(watched) as watch, torch.inference_mode():
        for items in batches(token_states.lengths):
            weight = pad(packed[:, None], token_states.offsets, items)[:, :, 0].to(model.device)
            watch.weight = weight / weight.sum(dim=1, keepdim=True)
            entering = pad(token_states.hidden, token_states.offsets, items).to(model.device)
            hidden = model.run_layers(entering, weight > 0, first)
            pooled[items] = mean_of_tokens(hidden, weight).cpu()
    mean = pooled.mean(dim=0)
    covariance = torch.cov(pooled.T.double(), correction=0)
    directions = {name: watch.directions(name, lora_targets.rank) for name in names}
    if PROJECTION in lora_targets.modules:
        varying = _without(covariance, mean.double())
        rows = _leading(varying, lora_targets.rank)
        directions[PROJECTION] = _evened(rows, varying, covariance, whitening_power)
    whitening = inverse_root(covariance, whitening_power)
    words = fit_lexical_part(
        model.token_embeddings,
        token_states,
        packed,
        whitening_power=whitening_power,
        lexical_weight=lexical_weight,
    )
    return PublicBasis(mean.numpy(), whitening, token_weight, directions, words)


def mean_of_tokens(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return the mean of `hidden` [n, t, d] over tokens, weighted by `weight` [n, t]: [n, d]."""
    weights = weight[:, :, None]
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def mean_of_texts(token_states: TokenStates, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of each item's tokens, each of its `weight` [tokens]: float32 [items, d]."""
    pooled = np.empty((len(token_states), token_states.hidden.shape[1]), np.float32)
    for items in batches(token_states.lengths):
        hidden = pad(token_states.hidden, token_states.offsets, items)
        of_tokens = pad(weight[:, None], token_states.offsets, items)[:, :, 0]
        pooled[items] = mean_of_tokens(hidden, of_tokens).numpy()
    return pooled


class _Moments:
    """While open, adds up the watched modules' inputs and their products over real tokens.

    Each text counts once, divided among its tokens by `weight` [n, t], of the present batch.
    """

    def __init__(self, watched: Mapping[str, nn.Module]) -> None:
        self.weight = torch.empty(0)
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
        inside = self.weight > 0
        tokens = inputs[0][inside]
        weighted = tokens * self.weight[inside][:, None]
        # On the processor: not every device has float64.
        product, total = (weighted.T @ tokens).cpu().double(), weighted.cpu().double().sum(dim=0)
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


def _evened(
    rows: NDArray[np.float32], varying: Tensor, covariance: Tensor, power: float
) -> NDArray[np.float32]:
    """Return `rows`, each divided by what its texts' deviation is to the power of the whitening.

    The projection reads whole texts, which vary several times as much along the leading direction
    as along the sixtieth; a clipped gradient would be spent on the first few.
    """
    variance = np.einsum("rd,de,re->r", rows, varying.numpy(), rows)
    scale = np.maximum(variance, least_variance(covariance)) ** (-power / 2)
    return np.ascontiguousarray((rows * scale[:, None]).astype(np.float32))
