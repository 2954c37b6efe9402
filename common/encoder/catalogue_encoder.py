"""From a catalogue to what training and ranking need of it, computed once and kept on disk."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from common.arrays import map_arrays, write_arrays
from common.catalogue import Catalogue
from common.encoder.adapted_encoder import AdaptedEncoder, ItemTokens
from common.encoder.base_model import BaseModel, files_digest, load_base_model
from common.encoder.device import cache_mark, chosen_device
from common.encoder.last_layer import LastLayer, TopNorm
from common.encoder.public_basis import PublicBasis, fit_basis
from common.encoder.token_states import (
    Progress,
    TokenStates,
    encode_token_states,
    store_token_states,
    stored_keys,
    stored_token_states,
)
from common.errors import InputError
from common.files import sha256_hex, write_atomic
from common.settings.run import RunSettings

_SCALE = "top/scale"  # there where the base model need not be loaded
_WORDS = "words"
_LAYOUT = 5  # of what is cached for a catalogue; a file of another is not found


@functools.lru_cache(maxsize=2)
def _loaded(name: str, device: torch.device) -> tuple[BaseModel, str | None]:
    """Return a base model, loaded once in a process, and the digest of the files it came from."""
    files = files_digest(name)
    return load_base_model(name, device), files


def cached_base_model(name: str) -> BaseModel:
    """Return a base model, loaded once in a process, on the process's device.

    Raises:
        SettingsError: as `load_base_model`; field `device`, as `chosen_device`.
    """
    return _loaded(name, chosen_device())[0]


def forget_base_models() -> None:
    """Have models loaded anew, as a new process would."""
    _loaded.cache_clear()


@dataclass(frozen=True, eq=False)
class EncodedCatalogue:
    """A catalogue under one base model, basis and LoRA targets.

    Attributes:
        encoder: f, with the adapter that was loaded last.
        tokens: The items as the adapted encoder reads them.
        vectors: float32 [items, d or 2 d], the frozen candidate vectors; no adapter changes them.
        base_model: The base model's digest.
    """

    encoder: AdaptedEncoder
    tokens: ItemTokens
    vectors: NDArray[np.float32]
    base_model: str


def fit_public_basis(
    catalogue: Catalogue, settings: RunSettings, cache: Path, progress: Progress | None = None
) -> PublicBasis:
    """Fit the run's basis on a public catalogue, or read it from `cache`.

    Raises:
        SettingsError: if the base model cannot be loaded or lacks an adapted layer.
    """
    digest = base_model_digest(settings.base_model, cache)
    path = cache / f"basis-{_basis_key(digest, catalogue, settings)}.safetensors"
    try:
        return PublicBasis.from_bytes(path.read_bytes())
    except (OSError, InputError):
        pass  # not there, or broken: fitted anew
    token_states = _token_states(catalogue, settings, cache, progress)
    basis = fit_basis(
        cached_base_model(settings.base_model),
        token_states,
        settings.lora_targets,
        whitening_power=settings.whitening_power,
        sif_smoothing=settings.sif_smoothing,
        lexical_weight=settings.lexical_weight,
    )
    write_atomic(path, basis.to_bytes())
    return basis


def base_model_digest(name: str, cache: Path) -> str:
    """Return a base model's digest, without loading it where `cache` knows its files.

    Raises:
        SettingsError: if the base model cannot be loaded.
    """
    known = _known_model(name, cache)
    if known is not None:
        return known
    model, files = _loaded(name, chosen_device())
    if files is not None:  # of the files as they were when it was loaded
        write_atomic(cache / f"model-{files[:32]}", model.digest.encode())
    return model.digest


def encode_ahead(catalogue: Catalogue, settings: RunSettings, cache: Path) -> None:
    """Put into `cache` all of a catalogue's encoding that needs no basis, where it is not there.

    With that, `encode_catalogue` does not load the base model where nothing before B is trained.

    Raises:
        SettingsError: if the base model cannot be loaded or lacks an adapted layer.
    """
    digest = base_model_digest(settings.base_model, cache)
    last, tokens = _last_layer(digest, cache), settings.max_tokens
    if last is not None:
        layer = settings.lora_targets.first_layer(last.depth)
        device = chosen_device()
        keys = stored_keys(digest, layer=layer, max_tokens=tokens, cache=cache, device=device)
        if np.isin(catalogue.text_keys, keys).all():
            return
    model = cached_base_model(settings.base_model)
    _keep_last_layer(model, cache)
    layer = settings.lora_targets.first_layer(model.depth)
    store_token_states(model, catalogue, layer=layer, max_tokens=tokens, cache=cache)


def encode_catalogue(
    catalogue: Catalogue, basis: PublicBasis, settings: RunSettings, cache: Path
) -> EncodedCatalogue:
    """Encode a catalogue, or read it from `cache`.

    Where nothing before B is trained, what the cache holds is enough to train and to rank: the
    base model is then not loaded at all.

    Raises:
        SettingsError: if the base model cannot be loaded or lacks an adapted layer.
        InputError: if the basis does not fit model and LoRA targets.
    """
    digest = base_model_digest(settings.base_model, cache)
    path = cache / f"items-{_key(digest, catalogue, basis, settings)}.safetensors"
    stored, device = _read(path), chosen_device()
    if stored is not None and _SCALE in stored:
        encoder = AdaptedEncoder.without_bert(_top(stored), basis, settings.lora_targets, device)
        return EncodedCatalogue(encoder, ItemTokens.from_arrays(stored), stored["vectors"], digest)
    if settings.lora_targets.needs_no_bert:
        last, token_states = _frozen(catalogue, settings, cache)
        if last is not None:
            targets, rank = settings.lora_targets, settings.rank
            encoder = AdaptedEncoder.without_bert(last.norm(), basis, targets, device)
            words = None
            if basis.words is not None:
                words = basis.token_embeddings(_word_table(settings, digest, cache), token_states)
            tokens = ItemTokens.from_last_layer(
                last, basis, rank, token_states, words, device=device
            )
            del token_states  # large, and read
            return _kept(path, EncodedCatalogue(encoder, tokens, tokens.vectors(encoder), digest))
    encoder = AdaptedEncoder(cached_base_model(settings.base_model), basis, settings.lora_targets)
    if stored is not None:
        return EncodedCatalogue(encoder, ItemTokens.from_arrays(stored), stored["vectors"], digest)
    table = cached_base_model(settings.base_model).token_embeddings
    tokens = ItemTokens.from_token_states(encoder, _token_states(catalogue, settings, cache), table)
    # The adapted encoder's B is zero here: the frozen encoder.
    return _kept(path, EncodedCatalogue(encoder, tokens, tokens.vectors(encoder), digest))


def bare_encoder(basis: PublicBasis, settings: RunSettings, cache: Path) -> AdaptedEncoder:
    """Return the frozen encoder of a run, without any item: what a server starts from.

    Where nothing before B is trained it is what `AdaptedEncoder.without_bert` builds, and PEFT,
    which imports transformers, is not loaded.

    Raises:
        SettingsError: if the base model cannot be loaded or lacks an adapted layer.
        InputError: if the basis does not fit model and LoRA targets.
    """
    if settings.lora_targets.needs_no_bert:
        last = _last_layer(base_model_digest(settings.base_model, cache), cache)
        last = last or _keep_last_layer(cached_base_model(settings.base_model), cache)
        if last is not None:
            last.directions_of(basis, settings.rank)
            return AdaptedEncoder.without_bert(last.norm(), basis, settings.lora_targets)
    return AdaptedEncoder(cached_base_model(settings.base_model), basis, settings.lora_targets)


def _kept(path: Path, encoded: EncodedCatalogue) -> EncodedCatalogue:
    """Write what was encoded, and return it as it lies there: mapped, and shared by all who do."""
    arrays = encoded.tokens.arrays() | {"vectors": encoded.vectors}
    if encoded.encoder.lora_targets.needs_no_bert:
        arrays |= _top_arrays(encoded.encoder)
    write_arrays(path, arrays)
    stored = _read(path)
    if stored is None:  # somebody emptied the cache meanwhile
        return encoded
    tokens = ItemTokens.from_arrays(stored)
    return EncodedCatalogue(encoded.encoder, tokens, stored["vectors"], encoded.base_model)


def _token_states(
    catalogue: Catalogue, settings: RunSettings, cache: Path, progress: Progress | None = None
) -> TokenStates:
    model = cached_base_model(settings.base_model)
    return encode_token_states(
        model,
        catalogue,
        layer=settings.lora_targets.first_layer(model.depth),
        max_tokens=settings.max_tokens,
        cache=cache,
        progress=progress,
    )


def _frozen(
    catalogue: Catalogue, settings: RunSettings, cache: Path
) -> tuple[LastLayer | None, TokenStates]:
    """Return the last layer, where it can do without the model, and what enters it for each item.

    Both are read from `cache`, or computed and kept there.
    """
    digest = base_model_digest(settings.base_model, cache)
    last = _last_layer(digest, cache)
    if last is not None:
        layer = settings.lora_targets.first_layer(last.depth)
        tokens = settings.max_tokens
        stored = stored_token_states(
            digest,
            catalogue,
            layer=layer,
            max_tokens=tokens,
            cache=cache,
            device=chosen_device(),
        )
        if stored is not None:
            return last, stored
    last = _keep_last_layer(cached_base_model(settings.base_model), cache)
    return last, _token_states(catalogue, settings, cache)


def _last_layer(model: str, cache: Path) -> LastLayer | None:
    """Return the last layer of the model of that digest, if `cache` holds it."""
    try:
        return LastLayer.from_bytes(_layer_file(model, cache).read_bytes())
    except FileNotFoundError:
        return None


def _keep_last_layer(model: BaseModel, cache: Path) -> LastLayer | None:
    last = LastLayer.of(model)
    if last is not None:
        write_arrays(_words_file(model.digest, cache), {_WORDS: model.token_embeddings})
        write_atomic(_layer_file(model.digest, cache), last.to_bytes())
    return last


def _word_table(settings: RunSettings, digest: str, cache: Path) -> NDArray[np.float32]:
    """Return the base model's word vectors [vocabulary, d], kept in `cache` beside its last layer.

    The file is mapped: read as the layer is, it would be in memory twice.
    """
    try:
        with safe_open(_words_file(digest, cache), "numpy") as file:
            table: NDArray[np.float32] = file.get_tensor(_WORDS)
            return table
    except (SafetensorError, OSError):  # broken: made anew
        model = cached_base_model(settings.base_model)
        _keep_last_layer(model, cache)
        return model.token_embeddings


def _words_file(model: str, cache: Path) -> Path:
    return cache / f"words-{model[:32]}.safetensors"


def _layer_file(model: str, cache: Path) -> Path:
    return cache / f"layer-{model[:32]}.safetensors"


def candidate_tensor(encoded: EncodedCatalogue) -> torch.Tensor:
    """Return the candidate vectors [items, d] where the encoder is; a processor's share memory."""
    return torch.from_numpy(encoded.vectors).to(encoded.encoder.device)


def _basis_key(model: str, catalogue: Catalogue, settings: RunSettings) -> str:
    """Name all that a basis depends on: texts in order but no ids, and the code that fits it."""
    texts = sha256_hex(catalogue.text_keys.tobytes())
    fit = (settings.whitening_power, settings.sif_smoothing, settings.lexical_weight)
    parts = (_code_digest(), model, texts, settings.max_tokens, settings.lora_targets, fit)
    return sha256_hex(repr(parts).encode())[:32] + cache_mark(chosen_device())


@functools.cache
def _code_digest() -> str:
    return sha256_hex(
        b"".join(one.read_bytes() for one in sorted(Path(__file__).parent.glob("*.py")))
    )


def _top_arrays(encoder: AdaptedEncoder) -> dict[str, NDArray[Any]]:
    top = encoder.top_norm()
    facts = np.array([top.depth, top.eps])  # float64: both come back as they were
    return {_SCALE: top.scale, "top/shift": top.shift, "top/facts": facts}


def _top(stored: dict[str, NDArray[Any]]) -> TopNorm:
    depth, eps = stored["top/facts"].tolist()
    return TopNorm(int(depth), stored[_SCALE], stored["top/shift"], eps)


def _known_model(name: str, cache: Path) -> str | None:
    """Return the digest of a base model that was loaded with this cache before, by its files."""
    files = files_digest(name)
    try:
        return None if files is None else (cache / f"model-{files[:32]}").read_text("ascii")
    except (OSError, ValueError):
        return None


def _key(model: str, catalogue: Catalogue, basis: PublicBasis, settings: RunSettings) -> str:
    lora_targets = settings.lora_targets
    parts = (_LAYOUT, model, catalogue.digest, basis.digest, settings.max_tokens, lora_targets)
    return sha256_hex(repr(parts).encode())[:32] + cache_mark(chosen_device())


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    """Return what is cached, mapped: a hundred nodes of one catalogue hold it once."""
    try:
        return map_arrays(path, writable=True)  # torch takes no read-only array
    except InputError:
        return None  # a broken cache is made anew
