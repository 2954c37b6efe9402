"""The certificates with which enrolled nodes pass the proxy, and the list of those it lets in.

A node's certificate is over the key that it enrolled with. It lies where everybody may fetch it: it
holds nothing but the public key, and whoever shows it must prove to hold the other half. The
authority's key is the operator's: it signs when a node is enrolled, when `fedtail server renew` is
run, and when the authority is rotated. A running server signs none.
"""

from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from common.errors import EnrolmentError, SettingsError
from common.files import write_atomic
from common.identity.expiry import load_certificate
from common.identity.node_certificate import (
    RENEW_BEFORE,
    certificate_file,
    check_node_certificate,
    is_due,
)
from common.identity.node_key import NodePublicKey
from server.operations.certificates import Authority
from server.operations.folder import ServerFolder
from server.operations.key_folder import KeyFolder
from server.operations.registry import read_registry


def admitted_keys(folder: ServerFolder) -> dict[str, NodePublicKey]:
    """Return the keys that may connect, by the merchant's name."""
    nodes = read_registry(folder.registry).nodes
    return {
        name: NodePublicKey(node.public_key)
        for name, node in sorted(nodes.items())
        if not node.revoked
    }


def sign_certificates(folder: ServerFolder, keys: KeyFolder, now: datetime) -> list[str]:
    """Sign a certificate for each enrolled node that lacks one which lasts.

    One that another authority signed than the newest is signed anew, too. What a node shows until
    it has fetched the new one stays good: the proxy trusts each authority in `authority.crt`.

    Args:
        folder: The server's.
        keys: The operator's. They are read only where there is one to sign.
        now: When the certificates begin.

    Returns:
        The names of merchants whose certificate is new.

    Raises:
        EnrolmentError: if the authority cannot be read.
        SettingsError: if it is not the one that nodes trust.
    """
    if not due_certificates(folder, now):
        return []
    return issue_certificates(folder, own_authority(folder, keys), now)


def issue_certificates(folder: ServerFolder, authority: Authority, now: datetime) -> list[str]:
    """Sign each certificate that is due with `authority`; return the names of the merchants.

    Raises:
        EnrolmentError: if the list of nodes cannot be read.
    """
    due = due_certificates(folder, now)
    for key in due.values():
        write_atomic(certificate_path(folder, key), authority.issue_node(key, now))
    return list(due)


def own_authority(folder: ServerFolder, keys: KeyFolder) -> Authority:
    """Return the authority that signs for this server's nodes.

    Raises:
        EnrolmentError: if it cannot be read.
        SettingsError: if `keys` is another server's.
    """
    authority = keys.authority()
    if load_certificate(folder.authority) != authority.certificate:
        raise SettingsError(
            f"The authority in the folder of keys is not this server's: {folder.authority} begins "
            "with another.",
            field="keys",
        )
    return authority


def due_certificates(folder: ServerFolder, now: datetime) -> dict[str, NodePublicKey]:
    """Return the keys whose certificate is missing, ends soon or is of an authority that goes."""
    return {
        name: key for name, key in admitted_keys(folder).items() if _needs_one(folder, key, now)
    }


def certificate_warnings(folder: ServerFolder, now: datetime) -> list[str]:
    """Return what the operator is told of certificates that are due; two months before they end."""
    due = due_certificates(folder, now)
    if not due:
        return []
    told = f"Nodes' certificates end within {RENEW_BEFORE.days} days ({', '.join(due)})"
    return [f"{told}: run `fedtail server renew` with --keys; without one a node is not let in."]


def drop_certificates(folder: ServerFolder) -> None:
    """Take away the certificates of keys that may not connect any more."""
    kept = {certificate_file(key) for key in admitted_keys(folder).values()}
    for path in folder.certificates.glob("*.crt"):
        if path.name not in kept:
            path.unlink()


def certificate_path(folder: ServerFolder, key: NodePublicKey) -> Path:
    """Return where a node's certificate lies."""
    return folder.certificates / certificate_file(key)


def node_map(folder: ServerFolder) -> Iterator[str]:
    """Yield a line for each key that may connect: nginx's map from a certificate to its key.

    The value is the key as Flower's header carries it. It is made of this map, whatever the
    request says: so a merchant's request goes on under that merchant's key and no other.
    """
    for key in admitted_keys(folder).values():
        yield f'"CN={key.fingerprint}" "{b64encode(key.pem).decode()}";'


def _needs_one(folder: ServerFolder, key: NodePublicKey, now: datetime) -> bool:
    try:
        found = check_node_certificate(certificate_path(folder, key).read_bytes(), key)
    except (OSError, EnrolmentError):
        return True
    return is_due(found, load_certificate(folder.authority), now)
