"""Our keys as The Update Framework wants them.

A key's id is the one that people compare, `PublicKey.key_id`, so a fingerprint that was read out
over the phone is found again in the metadata.
"""

from typing import Any

from securesystemslib.signer import Key, Signature, SSlibKey
from tuf.api.metadata import Metadata

from common.identity.signing_key import PublicKey, SigningKey


def tuf_key(key: PublicKey) -> SSlibKey:
    """Return a public key as metadata lists it."""
    return SSlibKey(key.key_id, "ed25519", "ed25519", {"public": key.raw.hex()})


def public_key(key: Key) -> PublicKey:
    """Return a key that metadata of ours lists."""
    return PublicKey(bytes.fromhex(key.keyval["public"]))


def sign_metadata(metadata: Metadata[Any], key: SigningKey) -> None:
    """Add the signature of one of our keys to metadata."""
    key_id = key.public.key_id
    metadata.signatures[key_id] = Signature(key_id, key.sign(metadata.signed_bytes).hex())
