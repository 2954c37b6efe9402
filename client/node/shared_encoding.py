"""An encoded catalogue that nodes of one process hold once: a simulation has thousands of them."""

from pathlib import Path
from weakref import WeakValueDictionary

from common.catalogue import Catalogue
from common.encoder.catalogue_encoder import EncodedCatalogue, encode_catalogue
from common.encoder.public_basis import PublicBasis
from common.settings.run import RunSettings

_held: WeakValueDictionary[tuple[str, str, Path], EncodedCatalogue] = WeakValueDictionary()


def shared_encoding(
    catalogue: Catalogue, basis: PublicBasis, settings: RunSettings, cache: Path, run: str
) -> EncodedCatalogue:
    """Return the encoded catalogue; nodes of this process that have the same share it.

    They come one after another, and each puts the encoder at the adapter it was sent before it
    trains. An encoder with BERT in it is not shared: what hooks its layers hooks them once.

    Args:
        catalogue: The node's.
        basis: The run's.
        settings: The run's.
        cache: Folder of encodings.
        run: Digest of settings and basis.

    Raises:
        SettingsError, InputError: as `encode_catalogue`.
    """
    if not settings.lora_targets.needs_no_bert:
        return encode_catalogue(catalogue, basis, settings, cache)
    key = (run, catalogue.digest, cache)
    encoded = _held.get(key)
    if encoded is None:
        encoded = encode_catalogue(catalogue, basis, settings, cache)
        _held[key] = encoded
    return encoded
