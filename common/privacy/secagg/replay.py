"""A sum taken again from its transcript, with every signature checked: what an auditor does."""

from collections.abc import Mapping

from common.errors import MaskedReplyError
from common.identity.signing_key import PublicKey
from common.privacy.secagg.server import SecureSum, SecureSumServer
from common.privacy.secagg.setup import ShapeOf
from common.privacy.secagg.topology import topology
from common.privacy.secagg.transcript import Transcript


def sum_again(
    transcript: Transcript,
    identities: Mapping[str, PublicKey],
    *,
    shape_of: ShapeOf = topology,
) -> SecureSum:
    """Return the sum that a transcript shows, by the protocol's own server.

    Args:
        transcript: Of the sum.
        identities: The parties' keys by name, from elsewhere: for an auditor from the ledgers.
        shape_of: The rule for graph and thresholds.

    Raises:
        MaskedReplyError: if a message is not signed by its party, or is of another sum.
        QuorumError: if what is there does not open the sum.
    """
    server = SecureSumServer(transcript.terms, identities, shape_of=shape_of)
    for advertisement in transcript.roster.advertisements:
        server.receive_advertisement(advertisement)
    if server.roster() != transcript.roster:
        raise MaskedReplyError("A transcript's roster is not in order.", field="roster")
    server.start(transcript.round_number, transcript.asked)
    for masked in transcript.masked:
        server.receive_masked(masked)
    server.close()
    if server.stage == "view":
        for view in transcript.views:
            server.receive_view(view)
        server.unmask_request()
    for reply in transcript.replies:
        server.receive_unmask(reply)
    return server.finish()
