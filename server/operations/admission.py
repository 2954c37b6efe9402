"""Make a running SuperLink let in exactly the keys that the operator's list of nodes says."""

from dataclasses import dataclass

from common.identity.node_key import NodePublicKey
from server.operations.folder import ServerFolder
from server.operations.registry import read_registry
from server.operations.superlink import Control
from server.run.admission_checks import write_members


@dataclass(frozen=True)
class Admission:
    """What changed at SuperLink.

    Attributes:
        admitted: Names whose key may connect from now on.
        refused: Names whose key may not any more; Flower's number where it has no name.
    """

    admitted: tuple[str, ...]
    refused: tuple[str, ...]


def admit(folder: ServerFolder, link: Control) -> Admission:
    """Register keys that SuperLink lacks and unregister those that are not enrolled.

    A key is refused from SuperLink's next request on: it looks up the key each time. The file of
    members says afterwards which merchant each node is (`server.run.admission_checks`).

    Raises:
        FederationError: if SuperLink does not answer or refuses. What was done until then stands,
            and the same call does the rest.
    """
    nodes = read_registry(folder.registry).nodes
    wanted = {
        NodePublicKey(node.public_key).pem: (name, NodePublicKey(node.public_key))
        for name, node in nodes.items()
        if not node.revoked
    }
    known = {node.key: node for node in link.nodes()}
    refused, admitted, members = [], [], {}
    for pem, node in known.items():
        if pem not in wanted:  # first out, then in: a name that changed its key is never twice in
            link.unregister(node.node_id)
            refused.append(node.name or str(node.node_id))
    for pem, (name, key) in wanted.items():
        if pem not in known:
            members[link.register(name, key)] = name
            admitted.append(name)
        else:
            members[known[pem].node_id] = name
    write_members(folder.members, members)
    return Admission(tuple(sorted(admitted)), tuple(sorted(refused)))
