"""Keep what the nodes sent, round after round, so that an auditor can make the adapter again."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import FederationError
from common.federation.bounds import Framing
from common.federation.contribution_files import FOLDER, sum_file, write_round
from common.federation.failed_sums import failed_file
from common.federation.framing_file import FRAMING_FILE, write_framing
from common.files import write_atomic
from common.privacy.accounting.plan import EventKind, PrivacyPlan


def keep_vectors(
    folder: Path | None,
    plan: PrivacyPlan,
    number: int,
    vectors: Mapping[str, NDArray[np.float32]],
    kind: EventKind | None = None,
) -> None:
    """Put a round's vectors on disk, before the checkpoint that builds on them.

    A round that is done again, after a crash before its checkpoint, takes the place of the first.

    Args:
        folder: The run's; None keeps none.
        plan: The run's. Only with DP model `local` does each vector carry its own noise; else none
            is kept, as whoever reads one would read more than the plan allows. Of a secure sum
            there is `keep_transcript`.
        number: The round; 0 is the histogram, or the season where `kind` says so.
        vectors: By merchant.
        kind: What they are.

    Raises:
        FederationError: if they cannot be written; the same run goes on from the round before.
    """
    if folder is None or plan.dp_model != "local":
        return
    try:
        write_round(folder / FOLDER, number, vectors, kind)
    except OSError as error:
        raise _unwritten(number, error) from error


def keep_transcript(folder: Path | None, number: int, kind: EventKind, transcript: bytes) -> None:
    """Put what nodes signed of a secure sum on disk, before the checkpoint that builds on it.

    It is what the server saw: the sum can be made of it again, and no summand.

    Args:
        folder: The run's; None keeps none.
        number: The training round; 0 is what comes before the first.
        kind: What was summed.
        transcript: See `common.privacy.secagg.transcript`.

    Raises:
        FederationError: as `keep_vectors`.
    """
    _keep_sum(folder, sum_file(number, kind), number, transcript)


def keep_failed(folder: Path | None, entry: int, number: int, transcript: bytes) -> None:
    """Put the transcript of a sum that was refused on disk, before the journal's entry of it.

    Args:
        folder: The run's; None keeps none.
        entry: The journal's entry that will say so.
        number: The training round; 0 is what comes before the first.
        transcript: See `common.privacy.secagg.transcript`.

    Raises:
        FederationError: as `keep_vectors`.
    """
    _keep_sum(folder, failed_file(entry), number, transcript)


def _keep_sum(folder: Path | None, name: str, number: int, transcript: bytes) -> None:
    if folder is None:
        return
    try:
        write_atomic(folder / FOLDER / name, transcript)
    except OSError as error:
        raise _unwritten(number, error) from error


def keep_framing(folder: Path | None, framing: Framing) -> None:
    """Put the coordinates in which updates are summed on disk, beside the first transcript.

    Raises:
        FederationError: as `keep_vectors`.
    """
    if folder is None or (folder / FOLDER / FRAMING_FILE).exists():
        return
    try:
        write_framing(folder / FOLDER, framing)
    except OSError as error:
        raise _unwritten(0, error) from error


def _unwritten(number: int, error: OSError) -> FederationError:
    return FederationError(
        f"The contributions of round {number} cannot be written: {error.strerror}. The same "
        "run goes on from the round before.",
        field="contributions",
    )
