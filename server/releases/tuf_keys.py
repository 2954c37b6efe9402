"""Our keys as The Update Framework wants them.

A key's id is the one that people compare, `PublicKey.key_id`, so a fingerprint that was read out
over the phone is found again in the metadata.
"""

from typing import NoReturn

from securesystemslib.signer import Key, SecretsHandler, Signature, Signer, SSlibKey

from common.identity.signing_key import PublicKey, SigningKey


def tuf_key(key: PublicKey) -> SSlibKey:
    """Return a public key as metadata lists it."""
    return SSlibKey(key.key_id, "ed25519", "ed25519", {"public": key.raw.hex()})


def public_key(key: Key) -> PublicKey:
    """Return a key that metadata of ours lists."""
    return PublicKey(bytes.fromhex(key.keyval["public"]))


class KeySigner(Signer):
    """Signs metadata with one of our keys."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key

    @property
    def public_key(self) -> SSlibKey:
        """The public half."""
        return tuf_key(self._key.public)

    def sign(self, payload: bytes) -> Signature:
        """Return the signature over `payload`."""
        return Signature(self._key.public.key_id, self._key.sign(payload).hex())

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> NoReturn:
        """Refuse: keys are read from the operator's folders, by path and with their checks."""
        raise NotImplementedError
