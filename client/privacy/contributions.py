"""The node's own word for each vector that it sent, kept beside its ledger.

What a release says this merchant gave is held against it. Only digests and signatures lie here.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.errors import LedgerError
from common.files import PRIVATE_MODE
from common.privacy.ledger.contributions import (
    Contribution,
    Purpose,
    read_contributions_file,
    vector_digest,
)
from common.privacy.ledger.ledger import Ledger


def contributions_path(ledger_path: Path) -> Path:
    """Return where they lie."""
    return ledger_path.with_name(f"{ledger_path.name}.contributions")


def sign_contribution(
    ledger: Ledger, vector: NDArray[np.float32], purpose: Purpose, seal: str = ""
) -> Contribution:
    """Sign a protected vector that is about to leave, and keep the node's word for it.

    Args:
        ledger: The node's, whose key signs.
        vector: As it leaves.
        purpose: What it was made for.
        seal: Over the canaries that were noised with it; empty where there are none.

    Raises:
        LedgerError: if the node's word cannot be kept; nothing may leave then.
    """
    one = ledger.signed_contribution(purpose, vector_digest(vector), seal)
    keep_contribution(ledger.path, one)
    return one


def keep_contribution(ledger_path: Path, contribution: Contribution) -> None:
    """Add one line, on disk when this returns.

    Raises:
        LedgerError: if it cannot be written.
    """
    path = contributions_path(ledger_path)
    line = contribution.to_json().encode() + b"\n"
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_MODE)
        try:
            end = os.lseek(file, 0, os.SEEK_END)
            if end and os.pread(file, 1, end - 1) != b"\n":  # a crash cut the last line short
                line = b"\n" + line
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise LedgerError(
            f"The node's contributions cannot be kept: {error.strerror}.", field="contributions"
        ) from error


def kept_contributions(ledger_path: Path) -> frozenset[Contribution]:
    """Return every one that is whole and signed; a line that a crash cut short is left out.

    Raises:
        LedgerError: if the file cannot be read.
    """
    path = contributions_path(ledger_path)
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    except OSError as error:
        raise LedgerError(
            f"The node's contributions cannot be read: {error.strerror}.", field="contributions"
        ) from error
    found: set[Contribution] = set()
    for line in lines:
        try:
            found.update(read_contributions_file(line))
        except LedgerError:
            continue
    return frozenset(found)
