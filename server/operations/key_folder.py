"""The operator's folder of keys, which is kept off the server but while a command needs it.

    root.key, targets.key        of the repository of releases, which may hold several federations
    roots/N.root.json            each root that was ever published: the merchants' root of trust
    NAME/release.key             signs a federation's releases
    NAME/enrolment.key           signs its invites
    NAME/authority.key, .crt     its certificate authority
    …/retired/                   keys that were rotated out

Each file has mode 600 and may be encrypted with a passphrase, one for the folder. A new key lies
beside the old one as `NAME.new.key` until all that it signs is published; so a rotation that was
cut short is taken up by the same command.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from common.errors import SettingsError
from common.files import PRIVATE_MODE, sync_folder, write_atomic
from common.identity.enrolment import FOLDER_MODE
from common.identity.signing_key import SigningKey
from server.operations.certificates import Authority

SharedKey = Literal["root", "targets"]
FederationKey = Literal["release", "enrolment"]
SHARED_KEYS: Final[tuple[SharedKey, ...]] = ("root", "targets")
FEDERATION_KEYS: Final[tuple[FederationKey, ...]] = ("release", "enrolment")
AUTHORITY: Final = "authority"
_RETIRED: Final = "retired"


@dataclass
class Passphrase:
    """A secret that is asked for when the first encrypted file is met, and once.

    Attributes:
        ask: Asks for it.
    """

    ask: Callable[[], bytes]
    _held: bytes | None = field(default=None, init=False, repr=False)

    def __call__(self) -> bytes:
        """Return the secret."""
        if self._held is None:
            self._held = self.ask()
        return self._held

    @property
    def used(self) -> bytes:
        """The secret if it was asked for; else nothing: a new key is as its elders are."""
        return self._held or b""


@dataclass(frozen=True)
class KeyPair:
    """Where one key lies: the one in use, and the one that shall follow it."""

    path: Path

    @property
    def new(self) -> Path:
        """The key that follows."""
        return self.path.with_name(f"{self.path.stem}.new.key")

    def load(self, passphrase: Passphrase | None) -> SigningKey:
        """Read the key in use.

        Raises:
            ReleaseError: as `SigningKey.load`.
        """
        return SigningKey.load(self.path, passphrase)

    def successor(self, passphrase: Passphrase | None) -> SigningKey:
        """Return the key that shall follow, made now unless a rotation was cut short.

        Raises:
            ReleaseError: as `SigningKey.load`.
        """
        if self.new.exists():
            return SigningKey.load(self.new, passphrase)
        return SigningKey.create(self.new, b"" if passphrase is None else passphrase.used)

    def promote(self, old: SigningKey) -> None:
        """Put the new key in the place of the old one, which is kept among the retired."""
        retire(self.path, old.public.key_id)
        self.new.replace(self.path)
        sync_folder(self.path.parent)


def retire(path: Path, digits: str) -> None:
    """Keep a file that is no longer in use among the retired, under its fingerprint's beginning."""
    place = path.parent / _RETIRED / f"{path.stem}.{digits[:16]}{path.suffix}"
    # a copy: the old one stays in its place until the new one takes it
    write_atomic(place, path.read_bytes(), mode=PRIVATE_MODE)
    place.parent.chmod(FOLDER_MODE)


@dataclass(frozen=True)
class KeyFolder:
    """The keys of one federation and of the repository it publishes in.

    Attributes:
        root: The folder.
        federation: The federation's name.
        passphrase: Opens files that are encrypted; None where nobody can be asked.
    """

    root: Path
    federation: str
    passphrase: Passphrase | None = None

    def pair(self, name: SharedKey | FederationKey) -> KeyPair:
        """Return where a key lies."""
        folder = self.root if name in SHARED_KEYS else self._own
        return KeyPair(folder / f"{name}.key")

    def load(self, name: SharedKey | FederationKey) -> SigningKey:
        """Read a key.

        Raises:
            SettingsError: if this is no folder of keys.
            ReleaseError: as `SigningKey.load`.
        """
        self._require(self.pair(name).path)
        return self.pair(name).load(self.passphrase)

    def authority(self) -> Authority:
        """Read the certificate authority.

        Raises:
            SettingsError: if this is no folder of keys.
            EnrolmentError: as `Authority.load`.
        """
        self._require(self.authority_key)
        return Authority.load(self.authority_key, self.authority_certificate, self.passphrase)

    @property
    def authority_key(self) -> Path:
        """The certificate authority's key."""
        return self._own / f"{AUTHORITY}.key"

    @property
    def authority_certificate(self) -> Path:
        """Its certificate."""
        return self._own / f"{AUTHORITY}.crt"

    def next_authority(self, now: datetime) -> Authority:
        """Return the authority that shall follow, made now unless a rotation was cut short.

        Raises:
            SettingsError: if this is no folder of keys.
            EnrolmentError: as `Authority.load`.
        """
        follows = KeyPair(self.authority_key).new
        certificate = self._next_certificate
        if certificate.exists():  # it is written after its key, and takes its place after it
            key = follows if follows.exists() else self.authority_key
            return Authority.load(key, certificate, self.passphrase)
        self.authority()  # asks for the passphrase where it has one
        made = Authority.create(now)
        made.save(follows, certificate, b"" if self.passphrase is None else self.passphrase.used)
        return made

    def promote_authority(self, old: str) -> None:
        """Put the next authority in the old one's place, which is kept under its fingerprint."""
        follows = KeyPair(self.authority_key).new
        if follows.exists():
            for path in (self.authority_key, self.authority_certificate):
                retire(path, old)
            follows.replace(self.authority_key)
            sync_folder(self._own)
        self._next_certificate.replace(self.authority_certificate)
        sync_folder(self._own)

    def make(self, now: datetime, secret: bytes = b"") -> None:
        """Make the keys that are not there yet: another federation's folder may hold some.

        Args:
            now: When the authority begins.
            secret: Encrypts what is made; empty leaves it plain.
        """
        for folder in (self.root, self._own):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(FOLDER_MODE)
        for name in (*SHARED_KEYS, *FEDERATION_KEYS):
            if not self.pair(name).path.exists():
                SigningKey.create(self.pair(name).path, secret)
        if not self.authority_certificate.exists():
            self._make_authority(now, secret)

    def _make_authority(self, now: datetime, secret: bytes) -> None:
        if self.authority_key.exists():  # cut short between the two: a key is never replaced
            held = self.passphrase or Passphrase(lambda: secret)
            made = Authority.over(self.authority_key, now, held)
            write_atomic(self.authority_certificate, made.pem)
        else:
            Authority.create(now).save(self.authority_key, self.authority_certificate, secret)

    def keep_root(self, content: bytes, version: int) -> Path:
        """Keep a root that is published; return its file."""
        path = self.root / "roots" / f"{version}.root.json"
        write_atomic(path, content)
        return path

    @property
    def _next_certificate(self) -> Path:
        return self._own / f"{AUTHORITY}.new.crt"

    @property
    def _own(self) -> Path:
        return self.root / self.federation

    def _require(self, path: Path) -> None:
        if not path.exists():
            raise SettingsError(
                f"{self.root} has no {path.relative_to(self.root)}. Name the folder of keys that "
                "belongs to this server; `fedtail server keys new` makes one.",
                field="keys",
            )
