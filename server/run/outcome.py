"""What a finished run leaves beside its checkpoint, for whoever makes the release of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.adapter import AdapterState
from common.errors import InputError
from common.files import write_atomic
from common.privacy.mechanism.canaries import LaneRecord, pack_records, unpack_records

ADAPTER_FILE = "adapter.safetensors"
BASIS_FILE = "basis.safetensors"
LANES_FILE = "lanes.safetensors"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What `write_outcome` wrote, beside the adapter, which the checkpoint holds too.

    Attributes:
        basis: The run's frozen public tensors.
        audits: Opened canary lanes by merchant; empty where nothing was audited.
    """

    basis: bytes
    audits: Mapping[str, LaneRecord]


def write_outcome(
    folder: Path, adapter: AdapterState, basis: bytes, audits: Mapping[str, LaneRecord]
) -> None:
    """Write the adapter, the basis and the opened lanes into a run's folder.

    Lanes that an earlier end of the same run left stay where this one opened none.
    """
    write_atomic(folder / BASIS_FILE, basis)
    if audits:
        write_atomic(folder / LANES_FILE, pack_records(audits.values()))
    write_atomic(folder / ADAPTER_FILE, adapter.to_bytes())


def read_outcome(folder: Path) -> Outcome:
    """Read what `write_outcome` wrote.

    Raises:
        InputError: if the run has not ended.
        PrivacyError: if the lanes are not readable.
    """
    try:
        basis = (folder / BASIS_FILE).read_bytes()
    except OSError as error:
        raise InputError(
            f"The run in {folder.name} has left no basis; it has not ended.", field="run"
        ) from error
    lanes = folder / LANES_FILE
    return Outcome(basis, unpack_records(lanes.read_bytes()) if lanes.exists() else {})
