"""How a party of a secure sum is known to the others: its key, and who vouches for it.

The key is the one that signs the node's ledger. A deployed node has the operator's authority vouch
for it: the certificate over the key that the node enrolled with, and that key's signature over name
and ledger key. The authority's key lies off the server, so who runs a server cannot make up
merchants. Without a certificate, as in a simulation, a name is pinned to the key that it came with
first (`client.node.identities`).
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from common.errors import SecureSumError
from common.files import sha256_hex
from common.identity.node_key import NodeKey, NodePublicKey
from common.identity.signing_key import PublicKey

KEY_BYTES = 32
MOST_BYTES = 20_480  # of one as it travels, in hex


@dataclass(frozen=True, slots=True)
class Introduction:
    """One party's.

    Attributes:
        name: The merchant's.
        key: Of its ledger, Ed25519, raw.
        certificate: Over the key that the node enrolled with, PEM; empty where there is none.
        proof: That key's signature over name and ledger key; empty where there is none.
    """

    name: str
    key: bytes
    certificate: bytes = b""
    proof: bytes = b""

    @property
    def public_key(self) -> PublicKey:
        """The key by which the party's messages are checked.

        Raises:
            SecureSumError: `identity` if it is none.
        """
        if len(self.key) != KEY_BYTES:
            raise SecureSumError("A party's key is no key.", field="identity")
        return PublicKey(self.key)

    def message(self) -> bytes:
        """Return what the node's enrolled key signs."""
        return b"fedtail introduction\n" + self.key + self.name.encode()

    def vouched(self, certificate: bytes, node_key: NodeKey) -> "Introduction":
        """Return it with the certificate of `node_key` and that key's signature."""
        return Introduction(self.name, self.key, certificate, node_key.sign(self.message()))

    def check(self, authorities: bytes, now: datetime) -> str:
        """Return the fingerprint of the node's enrolled key.

        Args:
            authorities: Certificates of those that this node trusts, PEM.
            now: The time at which the certificate must hold.

        Raises:
            SecureSumError: `identity` unless an authority's certificate is over the key that signed
                name and ledger key.
        """
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate)
            key = certificate.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
            node = NodePublicKey.parse(key.decode())
            holds = certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
            signed = node.accepts(self.proof, self.message())
            uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            holds = holds and list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]  # and no server's
            trusted = x509.load_pem_x509_certificates(authorities)
        except Exception:  # noqa: BLE001 - whatever a stranger sent, it introduces nobody
            holds = signed = False
        if not (holds and signed and any(_issued(certificate, one) for one in trusted)):
            raise SecureSumError(
                "A party is vouched for by no authority that this node trusts.", field="identity"
            )
        return sha256_hex(node.line.encode())


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
