"""Item vectors under a verified release."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.catalogue import Catalogue
from common.encoder.catalogue_encoder import base_model_digest, encode_catalogue
from common.encoder.release_files import released_model
from common.errors import ReleaseError
from common.release.verify import VerifiedRelease
from common.season import Season


@dataclass(frozen=True, eq=False)
class ReleasedVectors:
    """A catalogue under a release: float32 [items, d] each.

    Attributes:
        adapted: f of each item with the release's adapter, as a history is read.
        frozen: The candidate vectors, which no adapter changes.
        decay: The weight of a basket one older in the release's training.
        season: The release's, if it has one.
    """

    adapted: NDArray[np.float32]
    frozen: NDArray[np.float32]
    decay: float = 1.0
    season: Season | None = None


def released_vectors(
    release: VerifiedRelease, catalogue: Catalogue, cache: Path
) -> ReleasedVectors:
    """Encode a catalogue with a release; only texts that `cache` lacks pass the base model.

    Raises:
        ReleaseError: if the base model at hand is not the release's.
    """
    model = released_model(release)
    digest = base_model_digest(model.settings.base_model, cache)
    if digest != release.manifest.base_model.weights_sha256:
        raise ReleaseError(
            f"The release was trained on other weights of {model.settings.base_model}.",
            field="base_model",
        )
    encoded = encode_catalogue(catalogue, model.basis, model.settings, cache)
    encoded.encoder.load_adapter(model.adapter)
    adapted = encoded.tokens.vectors(encoded.encoder)
    return ReleasedVectors(adapted, encoded.vectors, model.settings.history_decay, release.season)
