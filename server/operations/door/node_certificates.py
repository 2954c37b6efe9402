"""The certificates with which enrolled nodes pass the proxy, and the list of those it lets in.

A node's certificate is over the key that it enrolled with. It lies where everybody may fetch it: it
holds nothing but the public key, and whoever shows it must prove to hold the other half.
"""

from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from common.errors import EnrolmentError
from common.files import write_atomic
from common.identity.expiry import load_certificate
from common.identity.node_certificate import certificate_file, check_node_certificate, is_due
from common.identity.node_key import NodePublicKey
from server.operations.certificates import Authority
from server.operations.folder import ServerFolder
from server.operations.registry import read_registry


def admitted_keys(folder: ServerFolder) -> dict[str, NodePublicKey]:
    """Return the keys that may connect, by the merchant's name."""
    nodes = read_registry(folder.registry).nodes
    return {
        name: NodePublicKey(node.public_key)
        for name, node in sorted(nodes.items())
        if not node.revoked
    }


def renew_certificates(folder: ServerFolder, now: datetime) -> list[str]:
    """Give each enrolled node a certificate that lasts, and take those of the others away.

    The authority's key is read only if there is one to sign, so it may lie elsewhere between.

    Returns:
        The names of merchants whose certificate is new.

    Raises:
        EnrolmentError: if one is due and the authority's key cannot be read.
    """
    keys = admitted_keys(folder)
    kept = {certificate_file(key) for key in keys.values()}
    for path in folder.certificates.glob("*.crt"):
        if path.name not in kept:
            path.unlink()
    due = {name: key for name, key in keys.items() if _needs_one(folder, key, now)}
    if not due:
        return []
    authority = Authority.load(folder.authority_key, folder.authority)
    for key in due.values():
        write_atomic(certificate_path(folder, key), authority.issue_node(key, now))
    return list(due)


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
        content = certificate_path(folder, key).read_bytes()
        found = check_node_certificate(content, key, load_certificate(folder.authority))
    except (OSError, EnrolmentError):
        return True
    return is_due(found, now)
