"""From a catalogue to what training and ranking need of it, computed once and kept on disk."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from common.catalogue import Catalogue
from common.encoder.base_model import BaseModel, load_base_model
from common.encoder.basis import PublicBasis, fit_basis
from common.encoder.tower import ItemTokens, Tower
from common.encoder.trunk import Progress, encode_trunk
from common.errors import InputError
from common.files import sha256_hex, write_atomic
from common.settings import RunSettings

cached_base_model = functools.lru_cache(maxsize=2)(load_base_model)


@dataclass(frozen=True, eq=False)
class EncodedCatalogue:
    """A catalogue under one base model, basis and placement.

    Attributes:
        tower: f, with the adapter that was loaded last.
        tokens: The items as the tower reads them.
        vectors: float32 [items, d], the frozen candidate vectors; no adapter changes them.
    """

    tower: Tower
    tokens: ItemTokens
    vectors: NDArray[np.float32]


def fit_public_basis(
    catalogue: Catalogue, settings: RunSettings, cache: Path, progress: Progress | None = None
) -> PublicBasis:
    """Fit the run's basis on a public catalogue, or read it from `cache`.

    Raises:
        SettingsError: if the base model cannot be loaded or lacks an adapted layer.
    """
    model = cached_base_model(settings.base_model)
    path = cache / f"basis-{_basis_key(model, catalogue, settings)}.safetensors"
    try:
        return PublicBasis.from_bytes(path.read_bytes())
    except (OSError, InputError):
        pass  # not there, or broken: fitted anew
    trunk = encode_trunk(
        model,
        catalogue,
        layer=settings.placement.first_layer(model.depth),
        max_tokens=settings.max_tokens,
        cache=cache,
        progress=progress,
    )
    basis = fit_basis(model, trunk, settings.placement, whitening_power=settings.whitening_power)
    write_atomic(path, basis.to_bytes())
    return basis


def encode_catalogue(
    catalogue: Catalogue, basis: PublicBasis, settings: RunSettings, cache: Path
) -> EncodedCatalogue:
    """Encode a catalogue, or read it from `cache`.

    Raises:
        SettingsError: if the base model cannot be loaded or lacks an adapted layer.
        InputError: if the basis does not fit model and placement.
    """
    model = cached_base_model(settings.base_model)
    tower = Tower(model, basis, settings.placement)
    path = cache / f"items-{_key(model, catalogue, basis, settings)}.safetensors"
    stored = _read(path)
    if stored is not None:
        tokens = ItemTokens(stored["offsets"], stored["hidden"], stored.get("summed"))
        return EncodedCatalogue(tower, tokens, stored["vectors"])
    trunk = encode_trunk(
        model,
        catalogue,
        layer=settings.placement.first_layer(model.depth),
        max_tokens=settings.max_tokens,
        cache=cache,
    )
    tokens = ItemTokens.from_trunk(tower, trunk)
    vectors = tokens.vectors(tower)  # the tower's B is zero here: the frozen encoder
    write_atomic(path, save({**tokens.arrays(), "vectors": vectors}))
    return EncodedCatalogue(tower, tokens, vectors)


def candidate_tensor(encoded: EncodedCatalogue) -> torch.Tensor:
    """Return the candidate vectors as a tensor [items, d] that shares their memory."""
    return torch.from_numpy(encoded.vectors)


def _basis_key(model: BaseModel, catalogue: Catalogue, settings: RunSettings) -> str:
    """Name all that a basis depends on: texts in order but no ids, and the code that fits it."""
    texts = sha256_hex(catalogue.text_keys.tobytes())
    power = settings.whitening_power
    parts = (_code_digest(), model.digest, texts, settings.max_tokens, settings.placement, power)
    return sha256_hex(repr(parts).encode())[:32]


@functools.cache
def _code_digest() -> str:
    return sha256_hex(
        b"".join(one.read_bytes() for one in sorted(Path(__file__).parent.glob("*.py")))
    )


def _key(model: BaseModel, catalogue: Catalogue, basis: PublicBasis, settings: RunSettings) -> str:
    parts = (model.digest, catalogue.digest, basis.digest, settings.max_tokens, settings.placement)
    return sha256_hex(repr(parts).encode())[:32]


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    try:
        return load_file(path)
    except (FileNotFoundError, SafetensorError):
        return None  # a broken cache is made anew
