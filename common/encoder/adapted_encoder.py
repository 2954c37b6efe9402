"""The shopper's side of the model: BERT's adapted upper layers, token mean and projection.

    hidden states of the token states -> upper layers with LoRA -> mean of tokens -> (. - mean) @
    whitening

Beside it, where the basis has one, stands the lexical part, which no adapter changes (words.py).

Where only the projection is adapted there is no upper layer, and the mean is computed once.

Where only the last layer's second product is adapted and A is frozen, everything before B is
frozen too: A @ z (r numbers a token) and the sum that LayerNorm would see without the adapter are
computed once, and a training step is B, LayerNorm, token mean and projection.
"""

import copy
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from common.adapter import AdapterState
from common.encoder.base_model import CPU, BaseModel, added_to_scores
from common.encoder.last_layer import FEW, LastLayer, OnlyB, TopNorm
from common.encoder.packed_tokens import PackedTokens, pack, through_b, through_projection
from common.encoder.public_basis import PublicBasis, mean_of_texts, mean_of_tokens
from common.encoder.token_states import TokenStates, batches, pad, token_mask
from common.encoder.whitening import noise_basis
from common.errors import InputError
from common.settings.lora_targets import LoraTargets, state_name


class AdaptedEncoder(nn.Module):
    """f: an item's text, as the token states left it, to a unit vector [d], or [2 d] with words.

    Its trained parameters are LoRA's only: B in the `ffa-lora` variant, A and B in `lora`. With B
    at zero, as it is built, f is the frozen encoder.
    """

    def __init__(self, model: BaseModel, basis: PublicBasis, lora_targets: LoraTargets) -> None:
        """Build it where `model` is, from copies of the upper layers; that is left as it is.

        Raises:
            SettingsError: if the LoRA targets adapt more layers than the model has.
            InputError: if the basis is of another width or other LoRA targets.
        """
        super().__init__()
        if basis.whitening.shape != (model.width, model.width):
            raise InputError(
                f"The basis is {len(basis.mean)} wide; the base model is {model.width}.",
                field="basis",
            )
        upper: dict[str, nn.Module] = {
            str(index): copy.deepcopy(model.layers[index])
            for index in range(lora_targets.first_layer(model.depth), model.depth)
        }
        self._assemble(upper, model.depth, basis, lora_targets)
        self._inject(model.depth, basis)
        self.to(model.device)

    @classmethod
    def without_bert(
        cls,
        top: TopNorm,
        basis: PublicBasis,
        lora_targets: LoraTargets,
        device: torch.device = CPU,
    ) -> Self:
        """Build what `forward` needs where all before B is computed: B, LayerNorm, projection.

        It computes what the whole adapted encoder computes, to the last bit, with a hundredth of
        its numbers, and neither BERT nor its libraries are loaded. `lora_targets.needs_no_bert`
        must hold, and the basis must have been checked by the whole adapted encoder once.
        """
        encoder = cls.__new__(cls)
        nn.Module.__init__(encoder)
        dense = OnlyB(lora_targets.rank, len(top.scale))
        output, layer = nn.Module(), nn.Module()
        norm = nn.LayerNorm(len(top.scale), eps=top.eps)
        with torch.no_grad():
            norm.weight.copy_(torch.from_numpy(top.scale))
            norm.bias.copy_(torch.from_numpy(top.shift))
        output.dense, output.LayerNorm, layer.output = dense, norm, output
        layers = {str(top.depth - 1): layer}
        encoder._assemble(layers, top.depth, basis, lora_targets)  # noqa: SLF001 - its own class
        dense.requires_grad_()
        return encoder.to(device)

    def top_norm(self) -> TopNorm:
        """Return what `without_bert` needs of this adapted encoder's base model."""
        norm = self.layers[-1].output.LayerNorm
        scale, shift = (one.detach().cpu().numpy().copy() for one in (norm.weight, norm.bias))
        return TopNorm(self.depth, scale, shift, float(norm.eps))

    def _assemble(
        self,
        layers: dict[str, nn.Module],
        depth: int,
        basis: PublicBasis,
        lora_targets: LoraTargets,
    ) -> None:
        """Put layers and projection in their places, frozen."""
        self.lora_targets = lora_targets
        self.first_layer, self.depth = lora_targets.first_layer(depth), depth
        self.bert = nn.Module()
        self.bert.encoder = nn.Module()
        self.bert.encoder.layer = nn.ModuleDict(layers)
        self.basis = basis
        width = len(basis.mean)
        self.projection = nn.Linear(width, width)
        with torch.no_grad():
            self.projection.weight.copy_(torch.from_numpy(basis.whitening.T))
            self.projection.bias.copy_(torch.from_numpy(-(basis.mean @ basis.whitening)))
        self.requires_grad_(requires_grad=False)

    def _inject(self, depth: int, basis: PublicBasis) -> None:
        names, rank = self.lora_targets.module_names(depth), self.lora_targets.rank
        if sorted(basis.directions) != names:
            raise InputError(
                "The basis has directions for other modules than the LoRA targets adapt.",
                field="basis",
            )
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - loads transformers

        config = LoraConfig(r=rank, lora_alpha=rank, target_modules=names, lora_dropout=0.0)
        inject_adapter_in_model(config, self)
        for name in names:
            module: Any = self.get_submodule(name)  # PEFT's wrapper, whose parts have no types
            directions = torch.from_numpy(basis.directions[name])
            if module.lora_A["default"].weight.shape != directions.shape:
                raise InputError(
                    f"The basis has {tuple(directions.shape)} directions for {name}; LoRA "
                    f"needs {tuple(module.lora_A['default'].weight.shape)}.",
                    field="basis",
                )
            with torch.no_grad():
                module.lora_A["default"].weight.copy_(directions)
                module.lora_B["default"].weight.zero_()
            module.lora_A["default"].requires_grad_(self.lora_targets.variant == "lora")

    @property
    def device(self) -> torch.device:
        """Where it is, and where what it reads has to be."""
        return self.projection.weight.device

    # ------------------------------------------------------------- the adapter
    def trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the trained parameters with the names they travel under, in order of names."""
        named = [
            (state_name(name), parameter)
            for name, parameter in self.named_parameters()
            if parameter.requires_grad
        ]
        yield from sorted(named, key=lambda pair: pair[0])

    def adapter(self) -> AdapterState:
        """Return the trained parameters."""
        state = {name: one.detach().cpu().numpy().copy() for name, one in self.trained()}
        return AdapterState(state)

    def load_adapter(self, adapter: AdapterState) -> None:
        """Put an adapter's numbers into the adapted encoder.

        Raises:
            InputError: if names or shapes differ from the adapted encoder's.
        """
        mine = dict(self.trained())
        theirs = {name: tensor.shape for name, tensor in adapter.tensors.items()}
        if theirs != {name: tuple(one.shape) for name, one in mine.items()}:
            raise InputError(
                "The adapter's tensors are not those of these LoRA targets and this base model.",
                field="adapter",
            )
        with torch.no_grad():
            for name, parameter in mine.items():
                parameter.copy_(torch.from_numpy(adapter.tensors[name]))

    def noise_basis(self, name: str) -> Tensor | None:
        """Return S [d, k] in whose coordinates a trained tensor is clipped and noised, or None.

        The last layer's output is scaled by LayerNorm and then whitened, by a matrix that is large
        where text varies little. Noise that is even before it would be loudest where there is
        least to say. With B = S C and S the inverse of scale and whitening, noise on C is even
        where vectors are compared. S has norm sqrt(d) where it has all d columns; of its columns
        the first `output_rank` stay, those along which public text varies most: the
        shoppers' common signal lies there, and each direction less is noise less
        (docs/adr/0012-few-output-directions.md). S is public, as the whitening is. It is computed
        on the processor wherever the encoder is: server and nodes have the same.
        """
        last = f"bert.encoder.layer.{self.depth - 1}.output.dense.lora_B.default.weight"
        if name != state_name(last):
            return None
        scale = self.layers[-1].output.LayerNorm.weight.detach().cpu().double().numpy()
        projection = self.projection.weight.detach().cpu().double().numpy()
        return noise_basis(scale.tobytes(), projection.tobytes(), self.lora_targets.output_rank)

    # -------------------------------------------------------------- the function
    def forward(
        self, hidden: Tensor, summed: Tensor | None, weight: Tensor, words: Tensor | None
    ) -> Tensor:
        """Return unit vectors [n, d], or [n, 2 d] with words.

        Args:
            hidden: float32 [n, t, d] as the token states left it; or, where `summed` is given,
                A @ z [n, t, r] of the last layer's second product.
            summed: float32 [n, t, d], what LayerNorm sees when B is zero, or None.
            weight: float32 [n, t], of each token in its text's mean; 0 where none is.
            words: float32 [n, d], the lexical part, or None where the basis has none.
        """
        if summed is not None:
            output = self.layers[-1].output
            scale = output.dense.scaling["default"]
            added = output.dense.lora_B["default"](hidden)
            hidden = output.LayerNorm(torch.add(summed, added, alpha=scale))
        else:
            added = added_to_scores(weight > 0, hidden.dtype)
            for layer in self.layers:
                hidden = layer(hidden, added)
        return _beside(self.projection(mean_of_tokens(hidden, weight)), words)

    def before_norm(self, tokens: PackedTokens) -> Tensor:
        """Return what the last LayerNorm sees of packed tokens: [t, d]. No gradient flows back."""
        dense = self.layers[-1].output.dense
        return through_b(tokens, dense.lora_B["default"].weight.detach() * dense.scaling["default"])

    def from_norm(self, seen: Tensor, tokens: PackedTokens) -> Tensor:
        """Return the unit vectors [r, d or 2 d] that follow from `before_norm`; padding included.

        `forward` on cached tokens, block by block: a row's last bit depends on that row alone.
        """
        mean = tokens.mean(self.layers[-1].output.LayerNorm(seen))
        return _beside(through_projection(mean, self.projection), tokens.words)

    @property
    def layers(self) -> list[Any]:
        """BERT's adapted layers, the last one last; torch and PEFT give their parts no types."""
        encoder: Any = self.bert.encoder
        return list(encoder.layer.values())


def _beside(read: Tensor, words: Tensor | None) -> Tensor:
    """Return unit vectors of what BERT reads [n, d], with the words beside it where there are."""
    unit = normalize(read, dim=1)
    return unit if words is None else normalize(torch.cat([unit, words], dim=1), dim=1)


class ItemTokens:
    """A catalogue's items as an adapted encoder reads them, all that is frozen already computed."""

    def __init__(
        self,
        offsets: NDArray[np.int64],
        hidden: NDArray[np.float32],
        summed: NDArray[np.float32] | None,
        weight: NDArray[np.float32],
        words: NDArray[np.float32] | None,
    ) -> None:
        """Hold packed tokens; see `AdaptedEncoder.forward` for what `hidden` and `summed` are.

        Args:
            offsets: int64 [items + 1], where each item's tokens start.
            hidden: float32 [tokens, d], or [tokens, r] where `summed` is given.
            summed: float32 [tokens, d], or None.
            weight: float32 [tokens], above 0.
            words: float32 [items, d], the lexical part of each item, or None.
        """
        self.offsets, self.lengths = offsets, np.diff(offsets)
        self._words = words
        self._hidden, self._summed, self._weight = hidden, summed, weight

    @classmethod
    def from_token_states(
        cls, encoder: AdaptedEncoder, token_states: TokenStates, table: NDArray[np.float32]
    ) -> "ItemTokens":
        """Compute what no adapter of the adapted encoder's LoRA targets changes.

        Args:
            encoder: f.
            token_states: The items' tokens.
            table: float32 [vocabulary, d], the base model's word vectors.
        """
        weight = encoder.basis.weights(token_states.ids)
        words = encoder.basis.token_embeddings(table, token_states)
        if encoder.lora_targets.output_only:
            return cls(token_states.offsets, *_before_b(encoder, token_states), weight, words)
        if not encoder.layers:  # the projection reads one vector an item, the mean of its tokens
            pooled = mean_of_texts(token_states, weight)
            ones = np.ones(len(token_states), np.float32)
            return cls(np.arange(len(token_states) + 1), pooled, None, ones, words)
        return cls(token_states.offsets, token_states.hidden, None, weight, words)

    @classmethod
    def from_last_layer(
        cls,
        last: LastLayer,
        basis: PublicBasis,
        rank: int,
        token_states: TokenStates,
        words: NDArray[np.float32] | None,
        *,
        device: torch.device = CPU,
    ) -> "ItemTokens":
        """Compute the same without an adapted encoder, where `LoraTargets.needs_no_bert` holds.

        The lexical part is given: the table it is read from is large, and need not stay for this.

        Raises:
            InputError: if the basis is of other LoRA targets or another base model.
        """
        before = last.before_b(basis, rank, token_states, device)
        return cls(token_states.offsets, *before, basis.weights(token_states.ids), words)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `__init__` takes, by name."""
        arrays: dict[str, NDArray[Any]] = {
            "offsets": self.offsets,
            "hidden": self._hidden,
            "weight": self._weight,
        }
        some = {"summed": self._summed, "words": self._words}
        return arrays | {name: one for name, one in some.items() if one is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "ItemTokens":
        """Return the tokens that `arrays` are of."""
        offsets, hidden, weight = (arrays[name] for name in ("offsets", "hidden", "weight"))
        return cls(offsets, hidden, arrays.get("summed"), weight, arrays.get("words"))

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(
        self, items: NDArray[np.integer], device: torch.device = CPU
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
        """Return the encoder's arguments for `items`, one row each, also where one repeats.

        Args:
            items: int64 [rows].
            device: Where the encoder is.
        """

        def there(rows: NDArray[np.float32]) -> Tensor:
            return pad(rows, self.offsets, items).to(device)

        summed = None if self._summed is None else there(self._summed)
        weight = there(self._weight[:, None])[:, :, 0]
        words = None if self._words is None else torch.from_numpy(self._words[items]).to(device)
        return there(self._hidden), summed, weight, words

    def packed(self, items: NDArray[np.integer], device: torch.device = CPU) -> PackedTokens:
        """Return what a step reads of `items`, one row each; arguments as in `rows`.

        Raises:
            InputError: if more is adapted than the last layer's second product.
        """
        if self._summed is None:
            raise InputError("Only what is computed up to B can be packed.", field="lora_modules")
        return pack(self.arrays() | {"weight": self._share}, items, device)

    @cached_property
    def _share(self) -> NDArray[np.float32]:
        """Each token's part of its text's mean: [tokens]."""
        sums = np.add.reduceat(self._weight.astype(np.float64), self.offsets[:-1])
        share: NDArray[np.float32] = self._weight / np.repeat(sums, self.lengths)
        return share.astype(self._weight.dtype)

    def vectors(self, encoder: AdaptedEncoder) -> NDArray[np.float32]:
        """Return f of every item under the encoder's present adapter: float32 [items, d]."""
        out = np.empty((len(self), encoder.basis.vector_width), np.float32)
        with torch.inference_mode():
            for items in batches(self.lengths):
                out[items] = encoder(*self.rows(items, encoder.device)).cpu().numpy()
        return out


def _before_b(
    encoder: AdaptedEncoder, token_states: TokenStates
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return A @ z [tokens, r] and dense(z) + residual [tokens, d] of the last layer."""
    layer = encoder.layers[-1]
    dense = layer.output.dense
    reduced = np.empty((len(token_states.hidden), encoder.lora_targets.rank), np.float32)
    summed = np.empty_like(token_states.hidden)
    with torch.inference_mode():
        for items in batches(token_states.lengths, FEW):
            mask = token_mask(token_states.lengths[items]).to(encoder.device)
            hidden = pad(token_states.hidden, token_states.offsets, items).to(encoder.device)
            residual, _ = layer.attention(hidden, added_to_scores(mask, hidden.dtype))
            z = layer.intermediate(residual)
            inside, places = mask.bool(), token_states.tokens_of(items)
            reduced[places] = dense.lora_A["default"](z)[inside].cpu().numpy()
            summed[places] = (dense.base_layer(z) + residual)[inside].cpu().numpy()
    return reduced, summed
