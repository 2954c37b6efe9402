"""The model's part of a release: files that PEFT loads, and the way back from them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save

from common.adapter import AdapterState
from common.arrays import load_arrays
from common.encoder.base_model import BaseModel, hub_id
from common.encoder.public_basis import PublicBasis
from common.errors import InputError, ReleaseError
from common.release.manifest import ADAPTER_CONFIG_FILE, ADAPTER_FILE, BASIS_FILE
from common.release.verify import VerifiedRelease
from common.settings.lora_targets import PROJECTION, PROJECTION_FILE, LoraTargets, state_name
from common.settings.run import RunSettings


def model_files(
    adapter: AdapterState, basis: PublicBasis, settings: RunSettings, model: BaseModel
) -> dict[str, bytes]:
    """Return a release's model files by name.

    `adapter/` is a PEFT folder for the plain BERT: A from the basis, or trained, and B. What is
    trained on the projection, which PEFT's BERT does not have, goes to a file of its own.
    """
    tensors = {
        state_name(f"{module}.lora_A.default.weight"): directions
        for module, directions in basis.directions.items()
    } | dict(adapter.tensors)
    inside = {name: one for name, one in tensors.items() if not name.startswith(PROJECTION)}
    outside = {name: one for name, one in tensors.items() if name.startswith(PROJECTION)}
    config = peft_config(settings.lora_targets, model)
    files = {
        ADAPTER_FILE: save(inside),
        ADAPTER_CONFIG_FILE: json.dumps(config, indent=2, sort_keys=True).encode(),
        BASIS_FILE: basis.to_bytes(),
    }
    return files | ({PROJECTION_FILE: save(outside)} if outside else {})


def peft_config(lora_targets: LoraTargets, model: BaseModel) -> dict[str, object]:
    """Return adapter_config.json's object."""
    names = [
        name.removeprefix("bert.")
        for name in lora_targets.module_names(model.depth)
        if name != PROJECTION
    ]
    # PEFT imports transformers: seconds and 400 MB, and who only reads releases waits for neither.
    from peft import LoraConfig  # noqa: PLC0415 -- see above

    config = LoraConfig(
        r=lora_targets.rank,
        lora_alpha=lora_targets.rank,
        target_modules=names,
        base_model_name_or_path=hub_id(model.name),
        task_type="FEATURE_EXTRACTION",
        inference_mode=True,
    ).to_dict()
    return {
        key: sorted(value) if isinstance(value, set) else value for key, value in config.items()
    }


@dataclass(frozen=True, eq=False)
class ReleasedModel:
    """What a verified release tells ranking."""

    adapter: AdapterState
    basis: PublicBasis
    settings: RunSettings


def released_model(release: VerifiedRelease) -> ReleasedModel:
    """Return the model in a release.

    Raises:
        ReleaseError: if its tensors are not those its manifest speaks of, or do not fit each
            other.
    """
    try:
        basis = PublicBasis.from_bytes(release.files[BASIS_FILE])
        tensors: dict[str, NDArray[np.float32]] = load_arrays(release.files[ADAPTER_FILE])
        if PROJECTION_FILE in release.files:
            tensors |= load_arrays(release.files[PROJECTION_FILE])
    except (InputError, SafetensorError) as error:
        raise ReleaseError(
            "A model file of the release cannot be read.", field="adapter"
        ) from error
    settings = RunSettings.from_flat(dict(release.manifest.adapter.settings))
    if settings.lora == "ffa-lora":
        _check_directions(tensors, basis)
    trained = {
        name: tensor
        for name, tensor in tensors.items()
        if ".lora_B." in name or settings.lora == "lora"
    }
    adapter = AdapterState(trained)
    if adapter.digest != release.manifest.adapter.digest:
        raise ReleaseError(
            "The release's adapter is not the one its manifest names.", field="adapter"
        )
    return ReleasedModel(adapter, basis, settings)


def _check_directions(tensors: Mapping[str, NDArray[np.float32]], basis: PublicBasis) -> None:
    """Hold A in the adapter's file, which PEFT reads, to the basis, which ranking reads.

    Raises:
        ReleaseError: if they are not the same.
    """
    for module, directions in basis.directions.items():
        stored = tensors.get(state_name(f"{module}.lora_A.default.weight"))
        if stored is None or not np.array_equal(stored, directions):
            raise ReleaseError(
                "The release's adapter has other directions than its basis.", field="adapter"
            )
