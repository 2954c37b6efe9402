"""What the frozen lower layers make of each item's text, computed once and kept on disk.

A file holds the hidden states of some items; a catalogue that gains an item encodes that item only.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file
from torch import Tensor

from common.arrays import write_arrays
from common.catalogue import Catalogue
from common.encoder.base_model import CPU, BaseModel
from common.encoder.device import cache_mark
from common.encoder.packed_layers import can_pack, run_packed
from common.errors import SettingsError
from common.files import sha256_hex

BATCH = 64
PART = 1024  # texts
_PARTS = "[!.]*.safetensors"
_PART_LAYOUT = "ids"  # what a part holds beside the hidden states
logger = logging.getLogger(__name__)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class TokenStates:
    """Hidden states that enter the first adapted layer, tokens of all items end to end.

    Attributes:
        hidden: float32 [tokens, d].
        offsets: int64 [items + 1]; item i has the tokens offsets[i] to offsets[i + 1].
        ids: int32 [tokens], each token's place in the base model's vocabulary.
    """

    hidden: NDArray[np.float32]
    offsets: NDArray[np.int64]
    ids: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each item: int64 [items]."""
        return np.diff(self.offsets)

    def take(self, items: NDArray[np.integer]) -> "TokenStates":
        """Return the token states of the items at `items`, in that order."""
        offsets = np.concatenate([[0], np.cumsum(self.lengths[items])]).astype(np.int64)
        tokens = self.tokens_of(items)
        return TokenStates(self.hidden[tokens], offsets, self.ids[tokens])

    def tokens_of(self, items: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the rows of `hidden` that are the tokens of `items`, in that order."""
        lengths = self.lengths[items]
        before = np.cumsum(lengths) - lengths
        tokens: NDArray[np.int64] = np.repeat(self.offsets[items] - before, lengths)
        return tokens + np.arange(len(tokens))


def batches(lengths: NDArray[np.int64], size: int = BATCH) -> Iterator[NDArray[np.int64]]:
    """Yield the items of so many tokens each, the short ones first, `size` at a time.

    A batch is padded to its longest item: where lengths are alike, little is computed in vain.
    """
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]


def pad(
    rows: NDArray[np.float32], offsets: NDArray[np.int64], items: NDArray[np.integer]
) -> Tensor:
    """Return the tokens of `items` as float32 [items, longest, columns], zeros behind the last."""
    lengths = np.diff(offsets)[items]
    longest = int(lengths.max()) if len(items) else 1
    places = offsets[items][:, None] + np.arange(longest)[None, :]
    inside = np.arange(longest)[None, :] < lengths[:, None]
    padded = rows[np.where(inside, places, 0)]
    padded[~inside] = 0.0
    return torch.from_numpy(padded)


def token_mask(lengths: NDArray[np.int64]) -> Tensor:
    """Return int64 [items, longest], 1 where a token is."""
    longest = int(lengths.max()) if len(lengths) else 1
    return torch.from_numpy((np.arange(longest)[None, :] < lengths[:, None]).astype(np.int64))


def stored_token_states(
    model: str,
    catalogue: Catalogue,
    *,
    layer: int,
    max_tokens: int,
    cache: Path,
    device: torch.device = CPU,
) -> TokenStates | None:
    """Return what `encode_token_states` cached for the model of that digest, if all is there."""
    known_keys, known = _read_parts(_folder(cache, model, device, layer, max_tokens))
    keys = catalogue.text_keys
    return together(known, known_keys, keys) if np.isin(keys, known_keys).all() else None


def encode_token_states(
    model: BaseModel,
    catalogue: Catalogue,
    *,
    layer: int,
    max_tokens: int,
    cache: Path | None,
    progress: Progress | None = None,
) -> TokenStates:
    """Return what enters `layer` for each item of the catalogue, from the cache where it is.

    Args:
        model: The base model.
        catalogue: The items.
        layer: Index of the first layer that is not run.
        max_tokens: Longer texts are cut.
        cache: Folder of cached parts; None computes everything anew.
        progress: Told how many items of how many to encode are done.

    Raises:
        SettingsError: if `max_tokens` is more than the base model has places for.
    """
    places = int(model.bert.config.max_position_embeddings)
    if max_tokens > places:
        raise SettingsError(
            f"max_tokens is {max_tokens}; the base model reads at most {places}.",
            field="max_tokens",
        )
    keys = catalogue.text_keys
    folder = _folder(cache, model.digest, model.device, layer, max_tokens) if cache else None
    known_keys, known = _read_parts(folder) if folder else (np.empty(0, np.uint64), [])
    fresh = _fresh(keys, known_keys)
    known += _encode_parts(
        model,
        catalogue,
        fresh,
        layer=layer,
        max_tokens=max_tokens,
        folder=folder,
        progress=progress,
    )
    return together(known, np.concatenate([known_keys, keys[fresh]]), keys)


def store_token_states(
    model: BaseModel, catalogue: Catalogue, *, layer: int, max_tokens: int, cache: Path
) -> None:
    """Cache what `encode_token_states` returns, a part at a time, so that memory is bounded."""
    device, keys = model.device, catalogue.text_keys
    folder = _folder(cache, model.digest, device, layer, max_tokens)
    known = stored_keys(
        model.digest, layer=layer, max_tokens=max_tokens, cache=cache, device=device
    )
    fresh = _fresh(keys, known)
    parts = _encode_parts(
        model, catalogue, fresh, layer=layer, max_tokens=max_tokens, folder=folder
    )
    for _ in parts:
        pass  # written, and let go


def _encode_parts(
    model: BaseModel,
    catalogue: Catalogue,
    fresh: NDArray[np.int64],
    *,
    layer: int,
    max_tokens: int,
    folder: Path | None,
    progress: Progress | None = None,
) -> Iterator[TokenStates]:
    """Encode the items at `fresh`, `PART` at a time, and keep each part in `folder`."""
    for start in range(0, len(fresh), PART):
        chosen = fresh[start : start + PART]
        texts = [catalogue.texts[i] for i in chosen]
        tell = partial(_tell, progress, start, len(fresh))
        part = _run_lower(model, texts, layer, max_tokens, tell)
        if folder:
            _write_part(folder, catalogue.text_keys[chosen], part)
        yield part
        del part


def _tell(progress: Progress | None, before: int, of: int, done: int) -> None:
    if progress:
        progress(before + done, of)


def stored_keys(
    model: str, *, layer: int, max_tokens: int, cache: Path, device: torch.device = CPU
) -> NDArray[np.uint64]:
    """Return the keys of the texts that `cache` holds for the model of that digest."""
    keys = [np.empty(0, np.uint64)]
    for path in _folder(cache, model, device, layer, max_tokens).glob(_PARTS):
        with contextlib.suppress(SafetensorError, OSError), safe_open(path, "numpy") as part:
            keys.append(part.get_tensor("keys"))
    return np.concatenate(keys)


def _fresh(keys: NDArray[np.uint64], known: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return where the keys are that are not known, the first of those that are equal."""
    fresh = np.flatnonzero(~np.isin(keys, known))
    _, first = np.unique(keys[fresh], return_index=True)
    return np.sort(fresh[first])


def _folder(cache: Path, model: str, device: torch.device, layer: int, max_tokens: int) -> Path:
    name = f"{model[:16]}-layer{layer}-tokens{max_tokens}-{_PART_LAYOUT}{cache_mark(device)}"
    return cache / name


def together(
    known: list[TokenStates], known_keys: NDArray[np.uint64], keys: NDArray[np.uint64]
) -> TokenStates:
    """Return the items of `keys`, in that order, and empty `known` part by part.

    A part is let go once its items are in their places, so all of it is in memory once.
    """
    lengths = np.concatenate([part.lengths for part in known])
    order = np.argsort(known_keys, kind="stable")
    source = order[np.searchsorted(known_keys, keys, sorter=order)]
    offsets = np.concatenate([[0], np.cumsum(lengths[source])]).astype(np.int64)
    width = known[0].hidden.shape[1]
    found = TokenStates(
        np.empty((offsets[-1], width), np.float32), offsets, np.empty(offsets[-1], np.int32)
    )
    start = 0
    while known:
        part = known.pop(0)
        items = np.flatnonzero((source >= start) & (source < start + len(part)))
        to, of = found.tokens_of(items), part.tokens_of(source[items] - start)
        found.hidden[to], found.ids[to] = part.hidden[of], part.ids[of]
        start += len(part)
        del part
    return found


def _run_lower(
    model: BaseModel, texts: list[str], layer: int, max_tokens: int, tell: Callable[[int], None]
) -> TokenStates:
    """Run the layers below `layer`."""
    ids, mask = model.tokenise(texts, max_tokens)
    lengths = mask.sum(dim=1).numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    packed = ids[mask.bool()].numpy()
    if can_pack(model):
        hidden = run_packed(model, packed, lengths, layer, tell)
        return TokenStates(hidden, offsets, packed.astype(np.int32))
    hidden = np.empty((offsets[-1], model.width), np.float32)
    token_states = TokenStates(hidden, offsets, packed.astype(np.int32))
    _run_padded(model, (ids, mask), layer, token_states, tell)
    return token_states


def _run_padded(
    model: BaseModel,
    tokens: tuple[Tensor, Tensor],
    layer: int,
    into: TokenStates,
    tell: Callable[[int], None],
) -> None:
    """Run the model's own layers on ids and mask; texts of as many tokens share a batch."""
    ids, mask = tokens
    layers = model.bert.encoder.layer
    model.bert.encoder.layer = layers[:layer]
    done = 0
    try:
        for items in batches(into.lengths):
            longest = int(into.lengths[items].max())
            batch, marked = (one[items, :longest].to(model.device) for one in (ids, mask))
            with torch.inference_mode():
                hidden = model.bert(input_ids=batch, attention_mask=marked).last_hidden_state
            into.hidden[into.tokens_of(items)] = hidden[marked.bool()].cpu().numpy()
            done += len(items)
            tell(done)
    finally:
        model.bert.encoder.layer = layers


def _write_part(folder: Path, keys: NDArray[np.uint64], part: TokenStates) -> None:
    """Write one cache part, named by the items in it, so that two writers agree."""
    arrays: dict[str, NDArray[Any]] = {"keys": keys, **vars(part)}
    write_arrays(folder / f"{sha256_hex(keys.tobytes())[:32]}.safetensors", arrays)


def _read_parts(folder: Path) -> tuple[NDArray[np.uint64], list[TokenStates]]:
    keys: list[NDArray[np.uint64]] = []
    parts: list[TokenStates] = []
    for path in sorted(folder.glob(_PARTS)):
        try:
            part = load_file(path)
            keys.append(part["keys"])
            parts.append(TokenStates(part["hidden"], part["offsets"], part["ids"]))
        except (SafetensorError, KeyError, OSError):
            logger.warning("A file of the item cache is unreadable and is made anew.")
            path.unlink()
    return (np.concatenate(keys) if keys else np.empty(0, np.uint64)), parts
