"""BERT and its tokeniser without transformers: for the packaged model, whose files are known.

transformers takes seconds and 200 MB to import, for a forward pass of forty lines. Here each
operation is transformers' own, in its order and on the same tensors, so that the numbers are its
numbers to the last bit, and modules have its names, so that weights, LoRA and digests are too
(docs/adr/0067-the-packaged-model-without-transformers.md). Any other model is loaded by
transformers: its files may ask for what is not here.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

_LEFT_OUT = ("pooler.", "embeddings.position_ids")  # a head, and numbers that are counted


@dataclass(frozen=True)
class BertConfig:
    """What is read of config.json, under its names there."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    vocab_size: int
    layer_norm_eps: float
    hidden_act: str

    @classmethod
    def read(cls, folder: Path) -> "BertConfig":
        """Read a folder's.

        Raises:
            OSError: if there is none.
            ValueError: if it is no JSON.
            KeyError: if a number is missing.
        """
        told = json.loads((folder / "config.json").read_text("utf-8"))
        return cls(**{field.name: told[field.name] for field in fields(cls)})


class Encoded(NamedTuple):
    """What a forward pass gives: float32 [texts, tokens, d], the states behind the last layer."""

    last_hidden_state: Tensor


class PlainTokeniser:
    """The tokeniser of a folder, read from its tokenizer.json."""

    def __init__(self, folder: Path) -> None:
        """Read it."""
        self.backend_tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def __call__(self, texts: list[str], *, max_length: int, **_: object) -> dict[str, Tensor]:
        """Return ids and mask of `texts`, cut and padded to the longest; int64 [texts, longest]."""
        backend = self.backend_tokenizer
        backend.enable_truncation(max_length)
        backend.enable_padding(pad_id=backend.token_to_id("[PAD]"), pad_token="[PAD]")  # noqa: S106 - no secret
        found = backend.encode_batch(texts)
        return {
            "input_ids": torch.tensor([one.ids for one in found]),
            "attention_mask": torch.tensor([one.attention_mask for one in found]),
        }


class _Parts(nn.Module):
    """Modules under names that no attribute may have, such as `self`."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class _Attention(nn.Module):
    output: Any  # torch types a module's parts as tensors or modules

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self._heads = config.num_attention_heads
        names = ("query", "key", "value")
        self.add_module("self", _Parts(**{name: nn.Linear(width, width) for name in names}))
        self.output = _Parts(
            dense=nn.Linear(width, width), LayerNorm=nn.LayerNorm(width, config.layer_norm_eps)
        )

    def forward(self, hidden: Tensor, mask: Tensor | None) -> tuple[Tensor, None]:
        queries, keys, values = (
            part(hidden).view(*hidden.shape[:-1], self._heads, -1).transpose(1, 2)
            for part in self.get_submodule("self").children()
        )
        mixed = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        mixed = mixed.transpose(1, 2).contiguous().reshape(hidden.shape)
        found: Tensor = self.output.LayerNorm(self.output.dense(mixed) + hidden)
        return found, None


class _Intermediate(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, hidden: Tensor) -> Tensor:
        return gelu(self.dense(hidden))


class _Layer(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention, self.intermediate = _Attention(config), _Intermediate(config)
        self.output = _Output(config)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        attended, _ = self.attention(hidden, mask)
        found: Tensor = self.output(self.intermediate(attended), attended)
        return found


class _Output(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        found: Tensor = self.LayerNorm(self.dense(hidden) + residual)
        return found


class PlainBert(nn.Module):
    """BERT (Devlin et al. 2018) without a head, as transformers' BertModel computes it."""

    embeddings: Any  # as above
    encoder: Any

    def __init__(self, config: BertConfig) -> None:
        """Build it; its weights are to be loaded."""
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.embeddings = _Parts(
            word_embeddings=nn.Embedding(config.vocab_size, width),
            position_embeddings=nn.Embedding(config.max_position_embeddings, width),
            token_type_embeddings=nn.Embedding(config.type_vocab_size, width),
            LayerNorm=nn.LayerNorm(width, config.layer_norm_eps),
        )
        layers = [_Layer(config) for _ in range(config.num_hidden_layers)]
        self.encoder = _Parts(layer=nn.ModuleList(layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Encoded:
        """Run all layers on texts of one kind each.

        Args:
            input_ids: int64 [texts, tokens].
            attention_mask: int64 [texts, tokens], 1 where a token is.
        """
        parts = self.embeddings
        hidden = parts.word_embeddings(input_ids) + parts.token_type_embeddings.weight[0]
        hidden = hidden + parts.position_embeddings.weight[: input_ids.shape[1]]
        hidden = parts.LayerNorm(hidden)
        mask = None
        if not attention_mask.all():
            texts, tokens = attention_mask.shape
            mask = attention_mask.bool()[:, None, None, :].expand(texts, 1, tokens, tokens)
        for layer in self.encoder.layer:
            hidden = layer(hidden, mask)
        return Encoded(hidden)


def load_plain_bert(folder: Path) -> PlainBert:
    """Load a folder's BERT, float32.

    Raises:
        OSError, ValueError, KeyError: if config.json or the weights cannot be read.
        SafetensorError: if the weights are cut short.
        RuntimeError: if weights are missing, too many or of another shape.
    """
    with torch.random.fork_rng(devices=[]):  # it starts random, and a caller may have seeded torch
        bert = PlainBert(BertConfig.read(folder))
    bert.load_state_dict(dict(_weights(folder / "model.safetensors")), assign=True)
    return bert


def _weights(path: Path) -> Iterator[tuple[str, Tensor]]:
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - safetensors' file is no mapping
            if not name.startswith(_LEFT_OUT):
                yield name, file.get_tensor(name).float()
