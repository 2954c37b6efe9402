"""Set a server up, let nodes in, put them out again, and renew what grows old."""

import secrets
from base64 import b64decode, b64encode
from datetime import datetime, timedelta
from pathlib import Path

from common.errors import EnrolmentError
from common.files import PRIVATE_MODE, write_atomic
from common.identity.enrolment import (
    FOLDER_MODE,
    SECRET_BYTES,
    VALID_FOR,
    Invite,
    Request,
    check_name,
    check_not_expired,
    make_folder,
)
from common.identity.expiry import expiry_warning, load_certificate
from common.identity.node_key import NodePublicKey
from common.identity.signing_key import PublicKey
from server.operations.certificates import Authority, host_name
from server.operations.door.node_certificates import (
    certificate_warnings,
    drop_certificates,
    own_authority,
    sign_certificates,
)
from server.operations.folder import ServerFolder, ServerSettings
from server.operations.key_folder import KeyFolder
from server.operations.publication.publishing import join_repository, open_repository
from server.operations.registry import EnrolledNode, OpenInvite, Registry, changing, write_registry

INVITE_ID_BYTES = 16


def init_server(
    root: Path, keys: KeyFolder, settings: ServerSettings, now: datetime, secret: bytes = b""
) -> ServerFolder:
    """Make an operator's folder: server certificate, public keys, repository, no nodes yet.

    `server.toml` is written last, so a folder that was cut short is not taken for a server's.

    Args:
        root: The folder.
        keys: The operator's keys; those that are missing are made.
        settings: The server's.
        now: When certificates and metadata begin.
        secret: Encrypts the keys that are made; empty leaves them plain.

    Raises:
        EnrolmentError: if the folder holds anything, a host is neither an address nor a name, or
            the keys are to lie inside the folder.
        ReleaseError: if the repository to join has another root key than `keys`.
    """
    for host in settings.hosts:
        host_name(host)
    if keys.root.resolve().is_relative_to(root.resolve()):
        raise EnrolmentError(
            "The operator's keys may not lie inside the server's folder, where the server and its "
            "backups would have them. Name a folder elsewhere.",
            field="keys",
        )
    make_folder(root, "server")
    keys.make(now, secret)
    folder, authority = ServerFolder(root), keys.authority()
    write_atomic(folder.authority, authority.pem)
    _issue(folder, authority, settings, now)
    keys.load("enrolment").public.save(folder.enrolment_public_key)
    keys.load("release").public.save(folder.release_public_key)
    write_registry(folder.registry, Registry())
    folder.write_settings(settings)
    try:
        join_repository(folder, keys, now)
    except BaseException:
        folder.settings_file.unlink()
        raise
    return folder


def rotate_certificate(folder: ServerFolder, keys: KeyFolder, now: datetime) -> None:
    """Give the server a new key and certificate, for the hosts that `server.toml` names now.

    Nodes need nothing: they trust the authority, which stays. The running server takes the new
    files when it is started again.

    Raises:
        EnrolmentError: if the authority cannot be read, or a host is neither an address nor a name.
        SettingsError: if `keys` is another server's: nodes would trust no certificate of it.
    """
    _issue(folder, own_authority(folder, keys), folder.settings(), now)


def make_invite(
    folder: ServerFolder,
    keys: KeyFolder,
    name: str,
    now: datetime,
    *,
    valid_for: timedelta = VALID_FOR,
) -> Invite:
    """Make an invite for one merchant and remember it; an older one for the same name ends.

    Raises:
        EnrolmentError: if the name may not be used or its node is enrolled already.
        ReleaseError: if the enrolment key cannot be read, or there is no repository.
    """
    check_name(name)
    secret = b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    expires = (now + valid_for).isoformat(timespec="seconds")
    key = keys.load("enrolment")
    invite = Invite(
        invite=secrets.token_hex(INVITE_ID_BYTES),
        name=name,
        server=folder.settings().address,
        expires=expires,
        secret=secret,
        authority=folder.authority.read_text(encoding="ascii"),
        release_key=PublicKey.load(folder.release_public_key).to_pem().decode(),
        federation=folder.settings().federation,
        root=open_repository(folder, now).root_bytes().decode("ascii"),
        enrolment_key=key.public.to_pem().decode(),
    ).signed(key)
    with changing(folder.registry) as registry:
        _check_free(registry, name)
        for old in [one for one, held in registry.invites.items() if held.name == name]:
            del registry.invites[old]
        registry.invites[invite.invite] = OpenInvite(name, expires, secret)
    return invite


def write_invite(path: Path, invite: Invite) -> None:
    """Write an invite, readable for its owner only."""
    write_atomic(path, invite.to_bytes(), mode=PRIVATE_MODE)


def enrol(folder: ServerFolder, keys: KeyFolder, request: Request, now: datetime) -> NodePublicKey:
    """Let a node in, or put its new key in the old one's place; return the key.

    The authority signs a certificate over it, which the node fetches and shows to the proxy.

    Raises:
        EnrolmentError: if a proof does not fit; the invite is unknown, used or too old; the name
            or the key is taken; the key was revoked; or the authority cannot be read.
        SettingsError: if `keys` is not this server's folder of keys.
    """
    key = request.check_possession()
    own_authority(folder, keys)  # before anything is changed
    with changing(folder.registry) as registry:
        _check_unused(registry, key)
        if request.kind == "enrol":
            _use_invite(registry, request, now)
        else:
            _retire_old_key(registry, request)
        registry.nodes[request.name] = EnrolledNode(key.line, now.isoformat(timespec="seconds"))
    write_atomic(folder.node_keys / f"{request.name}.pub", f"{key.line}\n".encode())
    sign_certificates(folder, keys, now)
    drop_certificates(folder)  # the one over an old key
    return key


def revoke(folder: ServerFolder, name: str, now: datetime) -> None:
    """Bar a node's key for ever. Its name may be invited again, with another key.

    Raises:
        EnrolmentError: if no node of that name is enrolled.
    """
    with changing(folder.registry) as registry:
        node = registry.nodes.get(name)
        if node is None or node.revoked:
            raise EnrolmentError(
                f"No node named {name!r} is enrolled; `fedtail server nodes` lists them.",
                field="name",
            )
        registry.barred.append(node.public_key)
        registry.nodes[name] = EnrolledNode(
            node.public_key, node.enrolled, now.isoformat(timespec="seconds")
        )
    (folder.node_keys / f"{name}.pub").unlink(missing_ok=True)
    drop_certificates(folder)


def warnings(folder: ServerFolder, now: datetime) -> list[str]:
    """Return what the operator has to do soon: certificates that end within a month, nodes' two."""
    told = (
        expiry_warning(load_certificate(path), what, remedy, now)
        for path, what, remedy in (
            (folder.tls_certificate, "The server's certificate", "run `fedtail server rotate`"),
            (
                folder.authority,
                "The authority's certificate",
                "run `fedtail server keys rotate authority`",
            ),
        )
    )
    return [*filter(None, told), *certificate_warnings(folder, now)]


def _issue(
    folder: ServerFolder, authority: Authority, settings: ServerSettings, now: datetime
) -> None:
    key, certificate = authority.issue(settings.hosts, now)
    # A crash between the two leaves a pair that does not fit, which the server refuses to start
    # with; the same command makes it whole.
    write_atomic(folder.tls_key, key, mode=PRIVATE_MODE)
    write_atomic(folder.tls_certificate, certificate)
    folder.tls_key.parent.chmod(FOLDER_MODE)


def _check_free(registry: Registry, name: str) -> None:
    node = registry.nodes.get(name)
    if node is not None and not node.revoked:
        raise EnrolmentError(
            f"A node named {name!r} is enrolled. To change its key let the merchant run `fedtail "
            "client rotate`; to start over, revoke it first.",
            field="name",
        )


def _check_unused(registry: Registry, key: NodePublicKey) -> None:
    if key.line in registry.barred:
        raise EnrolmentError(
            "The request's key was revoked. The node needs a new one: `fedtail client init` in a "
            "new folder.",
            field="public_key",
        )
    if any(node.public_key == key.line for node in registry.nodes.values()):
        raise EnrolmentError("The request's key is enrolled already.", field="public_key")


def _use_invite(registry: Registry, request: Request, now: datetime) -> None:
    invite = registry.invites.get(request.invite)
    if invite is None or invite.name != request.name:
        raise EnrolmentError(
            "The request's invite is unknown, used, or was replaced by a newer one: make a new "
            "one with `fedtail server invite`.",
            field="invite",
        )
    check_not_expired(invite.expires, now)
    if not request.permitted_by_secret(b64decode(invite.secret)):
        raise EnrolmentError(
            "Whoever made the request did not have the invite, or the request was altered.",
            field="permission",
        )
    _check_free(registry, request.name)
    del registry.invites[request.invite]


def _retire_old_key(registry: Registry, request: Request) -> None:
    node = registry.nodes.get(request.name)
    if node is None or node.revoked:
        raise EnrolmentError(
            f"No node named {request.name!r} is enrolled, so it has no key to replace.",
            field="name",
        )
    if not request.permitted_by_key(NodePublicKey(node.public_key)):
        raise EnrolmentError(
            "The request is not signed with the key that the node is enrolled with.",
            field="permission",
        )
    registry.barred.append(node.public_key)
