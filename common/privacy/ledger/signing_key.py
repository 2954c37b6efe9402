"""The node's signing key: a file beside its ledger, for its owner only."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.errors import LedgerError
from common.files import PRIVATE_MODE, write_atomic


def load_key(ledger_path: Path, *, create: bool) -> Ed25519PrivateKey:
    """Return the node's signing key, which lies beside its ledger, for its owner only.

    Args:
        ledger_path: The ledger's file.
        create: Whether to make a key where there is none: only for a ledger without entries.

    Raises:
        LedgerError: if there is no key and none may be made, or it is not one, or others can
            read it.
    """
    path = key_path(ledger_path)
    try:
        if not path.exists() and create:
            write_atomic(path, Ed25519PrivateKey.generate().private_bytes_raw(), mode=PRIVATE_MODE)
        if path.stat().st_mode & 0o077:
            raise LedgerError(f"The key {path} must be readable by its owner only.", field="key")
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes())
    except FileNotFoundError:
        raise LedgerError(
            f"The ledger has entries, but its key {path} is missing.", field="key"
        ) from None
    except (OSError, ValueError) as error:
        raise LedgerError(f"The key {path} cannot be read: {error}.", field="key") from error


def key_path(ledger_path: Path) -> Path:
    """Return where a ledger's signing key lies."""
    return ledger_path.with_name(f"{ledger_path.name}.key")
