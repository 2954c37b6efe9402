"""Have the node's enrolled key vouch for the key that signs its ledger, for secure sums.

    python -P -m client.node.introduction NODE     in a process apart, as it opens the ledger

What others check stands in `common.identity.introduction`. The app, which an operator ships, reads
what is written here and never the enrolled key.
"""

import sys
from pathlib import Path

from client.deployment.provisioning import NodeFolder
from client.privacy.budget import LEDGER_FILE, open_ledger
from client.privacy.introductions import write_introduction
from common.errors import EnrolmentError, FedtailError
from common.identity.introduction import Introduction
from common.identity.node_certificate import certificate_pem
from common.identity.node_key import NodeKey


def introduce(folder: NodeFolder) -> Introduction:
    """Write the node's introduction, and whom it trusts, into its state folder; return it.

    A node that has no certificate yet has nobody to vouch for it: others refuse it in a secure sum.

    Raises:
        LedgerError: if the ledger cannot be opened.
        EnrolmentError: if the node's key cannot be read.
    """
    config = folder.config()
    ledger = open_ledger(config.state_folder / LEDGER_FILE, config.merchant)
    one, key = (
        Introduction(config.merchant, ledger.signing_key.public.raw),
        NodeKey.load(folder.key),
    )
    try:
        certificate = certificate_pem(folder.tls.read_bytes(), key.public)
    except (OSError, EnrolmentError):
        certificate = b""
    if certificate:
        one = one.vouched(certificate, key)
    write_introduction(config.state_folder, one, folder.authority.read_bytes())
    return one


def main() -> None:
    """Introduce the node in the folder that is named.

    Raises:
        SystemExit: if it cannot be.
    """
    try:
        introduce(NodeFolder(Path(sys.argv[1])))
    except (FedtailError, OSError) as error:
        raise SystemExit(f"{error}") from None


if __name__ == "__main__":
    main()
