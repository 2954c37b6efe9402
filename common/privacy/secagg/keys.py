"""Keys of a secure sum: X25519 for two parties' secrets, HKDF-SHA256 from there, AES-256 to mask.

Each key is for one purpose: HKDF's info names purpose, roster, round and both parties. A mask is
AES-256 in counter mode under a key that makes no other, so its counter may start at 0.
"""

import hashlib

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from common.privacy.secagg.shamir import SHARE_BYTES, draw_secret

KEY_BYTES = 32
_ONCE = bytes(12)  # a nonce for a key that seals one message


def derive(secret: bytes, *purpose: str | int) -> bytes:
    """Return 32 bytes for one purpose; other purposes give independent ones."""
    told = "".join(f"{len(text := str(part))}:{text}" for part in purpose)
    info = b"fedtail secure sum\n" + told.encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


class RoundSecret:
    """A secret that shares can open: the root of a round's self mask or of its mask key."""

    def __init__(self, number: int | None = None) -> None:
        """Take an element of the field, or draw one."""
        self.number = draw_secret() if number is None else number
        self._bytes = self.number.to_bytes(SHARE_BYTES, "big")

    def self_key(self, roster: str, round_number: int) -> bytes:
        """Return the key of the self mask."""
        return derive(self._bytes, "self mask", roster, round_number)

    def commitment(self) -> bytes:
        """Return what fixes the secret and tells nothing of it: 32 bytes."""
        return derive(self._bytes, "commitment")

    def mask_key(self) -> "KeyPair":
        """Return the X25519 pair for pairwise masks."""
        return KeyPair(derive(self._bytes, "mask key"))


class KeyPair:
    """An X25519 pair."""

    def __init__(self, raw: bytes | None = None) -> None:
        """Take a private key's 32 bytes, or draw one."""
        self._private = (
            X25519PrivateKey.generate() if raw is None else X25519PrivateKey.from_private_bytes(raw)
        )
        self.raw = self._private.private_bytes_raw()
        self.public = self._private.public_key().public_bytes_raw()

    def agreed(self, public: bytes, *purpose: str | int) -> bytes:
        """Return the key that both ends derive for one purpose.

        Raises:
            ValueError: if `public` is not 32 bytes, or a point that gives everybody the same key.
        """
        return derive(self._private.exchange(X25519PublicKey.from_public_bytes(public)), *purpose)


def pair_purpose(
    roster: str, round_number: int, asked: str, one: int, other: int
) -> tuple[str | int, ...]:
    """Return the purpose of two parties' mask in a round, in either order."""
    return ("pair mask", roster, round_number, asked, min(one, other), max(one, other))


def seal(key: bytes, plain: bytes, about: bytes) -> bytes:
    """Encrypt the one message of a key, bound to what it is about."""
    return AESGCM(key).encrypt(_ONCE, plain, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes | None:
    """Return what was sealed; None if it was altered or is about something else."""
    try:
        return AESGCM(key).decrypt(_ONCE, sealed, about)
    except (InvalidTag, ValueError):
        return None


def expand(key: bytes, length: int) -> NDArray[np.uint64]:
    """Return a mask: uint64 [length], uniform to whoever does not have the key."""
    stream = Cipher(AES(key), CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * length)), dtype="<u8").astype(
        np.uint64, copy=False
    )


def digest(*parts: bytes) -> str:
    """Return the SHA-256 of parts, each with its length before it: 64 hex digits."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()
