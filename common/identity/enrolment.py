"""How a merchant's node joins: an invite goes out, a request comes back, each a JSON file.

    operator   invite    name, address, the authority's certificate, the release key, the root of
                         trust of the repository of releases, a secret; signed with the operator's
                         enrolment key
    merchant   request   name, the node's public key, two proofs: the invite's secret (a MAC) and
                         the node's private key (a signature). Neither secret is in it.
    merchant   rotation  the same with the old key's signature in the place of the MAC

An invite is good once and until it expires. Whoever holds the file may enrol under its name, so it
goes over a channel that only the merchant reads. A request may travel in the open.
"""

import hashlib
import hmac
import json
import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from common.errors import EnrolmentError
from common.identity.node_key import NodeKey, NodePublicKey
from common.identity.signing_key import PublicKey, SigningKey

NAME_RULE = "1 to 40 small letters, digits and hyphens, a letter or digit first"
VALID_FOR = timedelta(days=14)
SECRET_BYTES = 32
FOLDER_MODE = 0o700
MAX_FILE_BYTES = 65_536
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


def check_name(name: str) -> str:
    """Return `name` if it may name a merchant's node.

    Raises:
        EnrolmentError: names the rule.
    """
    if not _NAME.fullmatch(name):
        raise EnrolmentError(f"A node's name has {NAME_RULE}.", field="name")
    return name


def _base64(text: str) -> str:
    b64decode(text, validate=True)
    return text


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"it must have {NAME_RULE}")
    return name


_Bytes = Annotated[str, Field(max_length=2048), AfterValidator(_base64)]
_Name = Annotated[str, AfterValidator(_named)]
_Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class _Signed(BaseModel):
    """A JSON file whose `signature` or proofs cover all its other fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def message(self, *left_out: str) -> bytes:
        """Return the canonical bytes of all fields but those left out."""
        fields = self.model_dump(mode="json", exclude=set(left_out))
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return json.dumps(self.model_dump(mode="json"), indent=2).encode() + b"\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file that somebody sent.

        Raises:
            EnrolmentError: if it cannot be read, or as `from_bytes`.
        """
        try:
            with path.open("rb") as file:
                return cls.from_bytes(file.read(MAX_FILE_BYTES + 1))
        except OSError as error:
            raise EnrolmentError(
                f"{path} cannot be read ({error.strerror}).", field="file"
            ) from error

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """Read the file's content; what it claims is still to be checked.

        Raises:
            EnrolmentError: names the field and what is wrong with it, never its value.
        """
        if len(content) > MAX_FILE_BYTES:
            raise EnrolmentError(f"The file has more than {MAX_FILE_BYTES} bytes.", field="file")
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "file"
            raise EnrolmentError(
                f"This is not a {cls.__name__.lower()} file of this version: {where}: "
                f"{first['msg']}.",
                field=where,
            ) from None


class Invite(_Signed):
    """What an operator gives one merchant. The file is a secret until it is used.

    Attributes:
        invite: Its id, 32 hex digits.
        name: The merchant's name in the federation, public.
        server: Where nodes connect, `host:port`.
        expires: UTC, ISO 8601.
        secret: 32 bytes in base64, for the request's MAC.
        authority: The certificate, PEM, that the server's certificate must be signed by.
        release_key: The operator's key for releases, PEM.
        federation: The federation's name in the repository of releases.
        root: The repository's root metadata, JSON: whose keys count there.
        enrolment_key: The key that signs this file, PEM.
        signature: Over all other fields, base64.
    """

    format: Literal["fedtail-invite"] = "fedtail-invite"
    format_version: Literal[2] = 2
    invite: _Hex
    name: _Name
    server: str = Field(pattern=r"^[A-Za-z0-9.:\[\]-]{1,253}:[0-9]{1,5}$")
    expires: str
    secret: _Bytes
    authority: str = Field(max_length=20_000)
    release_key: str = Field(max_length=2000)
    federation: _Name
    root: str = Field(max_length=20_000)
    enrolment_key: str = Field(max_length=2000)
    signature: str = ""

    def signed(self, key: SigningKey) -> "Invite":
        """Return the invite with the signature of `key`."""
        signature = b64encode(key.sign(self.message("signature"))).decode()
        return self.model_copy(update={"signature": signature})

    def check(self, now: datetime) -> None:
        """Refuse an invite that is altered or too old.

        Raises:
            EnrolmentError: says which, and what to do.
        """
        key = PublicKey.from_pem(self.enrolment_key.encode())
        if not key.accepts(_decoded(self.signature), self.message("signature")):
            raise EnrolmentError(
                "The invite's signature does not fit: the file was altered or cut short. Ask the "
                "operator for it again.",
                field="signature",
            )
        check_not_expired(self.expires, now)

    def secret_bytes(self) -> bytes:
        """Return the secret, 32 bytes."""
        return b64decode(self.secret)


class Request(_Signed):
    """What a node sends back: its public key, with proofs that bind it to the invite.

    Attributes:
        kind: `enrol` with an invite, `rotate` to put a new key in the old one's place.
        name: The merchant's name.
        invite: The invite's id; empty in a rotation.
        old_key: The key that is replaced, as an OpenSSH line; empty when enrolling.
        public_key: The node's new public key, as an OpenSSH line.
        made: UTC, ISO 8601.
        permission: MAC with the invite's secret, or signature with the old key; base64.
        possession: Signature with the new key over all fields above and the permission; base64.
    """

    format: Literal["fedtail-enrolment"] = "fedtail-enrolment"
    format_version: Literal[1] = 1
    kind: Literal["enrol", "rotate"]
    name: _Name
    invite: str = Field(default="", pattern=r"^([0-9a-f]{32})?$")
    old_key: str = Field(default="", max_length=1000)
    public_key: str = Field(max_length=1000)
    made: str
    permission: str = Field(default="", max_length=1000)
    possession: str = Field(default="", max_length=1000)

    def check_possession(self) -> NodePublicKey:
        """Return the new public key once the request shows that the node holds its other half.

        Raises:
            EnrolmentError: if it does not.
        """
        key = NodePublicKey.parse(self.public_key)
        if not key.accepts(_decoded(self.possession), self.message("possession")):
            raise EnrolmentError(
                "The request is not signed with the key it names: it was altered or cut short. "
                "Ask the merchant for it again.",
                field="possession",
            )
        return key

    def permitted_by_secret(self, secret: bytes) -> bool:
        """Return whether whoever made the request held the invite's secret."""
        expected = _mac(secret, self.message("permission", "possession"))
        return hmac.compare_digest(expected, _decoded(self.permission))

    def permitted_by_key(self, old: NodePublicKey) -> bool:
        """Return whether whoever made the request held the old private key."""
        message = self.message("permission", "possession")
        return self.old_key == old.line and old.accepts(_decoded(self.permission), message)


def make_request(invite: Invite, key: NodeKey, now: datetime) -> Request:
    """Return the request to enrol `key` with `invite`."""
    bare = Request(
        kind="enrol",
        name=invite.name,
        invite=invite.invite,
        public_key=key.public.line,
        made=now.isoformat(timespec="seconds"),
    )
    mac = _mac(invite.secret_bytes(), bare.message("permission", "possession"))
    return _with_proofs(bare, mac, key)


def make_rotation(name: str, old: NodeKey, new: NodeKey, now: datetime) -> Request:
    """Return the request to put the key `new` in the place of `old`."""
    bare = Request(
        kind="rotate",
        name=name,
        old_key=old.public.line,
        public_key=new.public.line,
        made=now.isoformat(timespec="seconds"),
    )
    return _with_proofs(bare, old.sign(bare.message("permission", "possession")), new)


def check_not_expired(expires: str, now: datetime) -> None:
    """Refuse an invite after its day.

    Raises:
        EnrolmentError: says when it ended.
    """
    try:
        end = datetime.fromisoformat(expires)
    except ValueError:
        end = None
    if end is None or end.tzinfo is None:
        raise EnrolmentError("The invite's `expires` is not a time in UTC.", field="expires")
    if now > end:
        raise EnrolmentError(
            f"The invite ended on {end.astimezone(UTC):%Y-%m-%d %H:%M} UTC. Ask the operator for a "
            "new one; if it should not have ended, check this machine's clock.",
            field="expires",
        )


def make_folder(root: Path, whose: str) -> None:
    """Make a folder for keys, or take an empty one, and let only its owner in.

    Raises:
        EnrolmentError: if it holds anything.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise EnrolmentError(
            f"{root} is not empty; a {whose}'s keys are never written over. Name a new folder.",
            field="folder",
        )
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(FOLDER_MODE)


def _with_proofs(bare: Request, permission: bytes, key: NodeKey) -> Request:
    allowed = bare.model_copy(update={"permission": b64encode(permission).decode()})
    proof = key.sign(allowed.message("possession"))
    return allowed.model_copy(update={"possession": b64encode(proof).decode()})


def _mac(secret: bytes, message: bytes) -> bytes:
    return hmac.digest(secret, message, hashlib.sha256)


def _decoded(text: str) -> bytes:
    """Return the bytes of a proof; a broken one is a proof of nothing."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""
