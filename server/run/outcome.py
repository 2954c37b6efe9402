"""What a finished run leaves beside its checkpoint, for whoever makes the release of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.adapter import AdapterState
from common.errors import InputError
from common.files import write_atomic
from common.privacy.mechanism.canaries import CanaryRecord, pack_records, unpack_records
from common.privacy.mechanism.sum_canaries import CanarySums
from common.release.manifest import CANARY_SUMS_FILE

ADAPTER_FILE = "adapter.safetensors"
BASIS_FILE = "basis.safetensors"
CANARIES_FILE = "canaries.safetensors"


@dataclass(frozen=True, eq=False)
class Outcome:
    """What `write_outcome` wrote, beside the adapter, which the checkpoint holds too.

    Attributes:
        basis: The run's frozen public tensors.
        audits: Revealed canaries by merchant; empty where nothing was audited.
        canary_sums: What secure sums showed of them; None where the server saw no sums alone.
    """

    basis: bytes
    audits: Mapping[str, CanaryRecord]
    canary_sums: CanarySums | None = None


def write_outcome(
    folder: Path,
    adapter: AdapterState,
    basis: bytes,
    audits: Mapping[str, CanaryRecord],
    canary_sums: CanarySums | None = None,
) -> None:
    """Write the adapter, the basis and the revealed canaries into a run's folder.

    Canaries that an earlier end of the same run left stay where this one opened none.
    """
    write_atomic(folder / BASIS_FILE, basis)
    if audits:
        write_atomic(folder / CANARIES_FILE, pack_records(audits.values()))
    if canary_sums is not None:
        write_atomic(folder / CANARY_SUMS_FILE, canary_sums.to_bytes())
    write_atomic(folder / ADAPTER_FILE, adapter.to_bytes())


def read_outcome(folder: Path) -> Outcome:
    """Read what `write_outcome` wrote.

    Raises:
        InputError: if the run has not ended.
        PrivacyError: if the canaries are not readable.
    """
    try:
        basis = (folder / BASIS_FILE).read_bytes()
    except OSError as error:
        raise InputError(
            f"The run in {folder.name} has left no basis; it has not ended.", field="run"
        ) from error
    canaries, canary_sums = folder / CANARIES_FILE, folder / CANARY_SUMS_FILE
    return Outcome(
        basis,
        unpack_records(canaries.read_bytes()) if canaries.exists() else {},
        CanarySums.from_bytes(canary_sums.read_bytes()) if canary_sums.exists() else None,
    )
