"""A node's work, opened once in a process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flwr.app import Context

from client.node.settings import NodeSettings, node_settings
from common.settings.run import run_digest
from common.wire.messages import Prepared, Scalar

if TYPE_CHECKING:
    from client.node.participant import MerchantWork


@dataclass(eq=False)
class OpenNode:
    """A node's work in this process, and the basis and settings it is prepared for."""

    work: "MerchantWork"
    prepared: Prepared | None = None
    key: str = ""

    def prepare(self, basis: bytes, settings: Mapping[str, Scalar]) -> Prepared:
        """Prepare the work once for each basis and settings."""
        key = run_digest(settings, basis)
        if self.prepared is None or key != self.key:
            self.prepared, self.key = self.work.prepare(basis, settings), key
        return self.prepared


_open_nodes: dict[NodeSettings, OpenNode] = {}


def open_node(context: Context) -> tuple[NodeSettings, OpenNode]:
    """Return this node's settings and its work, opened once in a process.

    Raises:
        SettingsError: as `node_settings`.
        FedtailError: as `MerchantWork`.
    """
    settings = node_settings(context.node_config, context.run_config)
    if settings not in _open_nodes:
        from client.node.participant import MerchantWork  # noqa: PLC0415 - torch loads here, not before

        _open_nodes[settings] = OpenNode(MerchantWork(settings))
    return settings, _open_nodes[settings]


def close_nodes() -> None:
    """Forget all opened nodes, as a restart of the process would."""
    _open_nodes.clear()
