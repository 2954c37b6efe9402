"""Where this node's shop lies: the only code that knows in which way the app is run.

    deployment   the merchant starts its SuperNode with --node-config 'data="/path/to/shop"'
    simulation   Flower gives a partition number, the run gives `federation`: a folder with one
                 sub-folder a merchant

Everything after `node_settings` sees a folder and a name. What a node can do is behind
`NodeWork`, which `client.work` implements: this module stays free of the model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from flwr.app import Context
from numpy.typing import NDArray

from common.adapter import AdapterState, AdapterUpdate
from common.errors import PolicyError, SettingsError
from common.files import sha256_hex
from common.privacy.heads import Head
from common.privacy.lanes import LaneRecord
from common.privacy.plan import PrivacyPlan
from common.wire import Prepared, Scalar
from common.wire_heads import JournalNote


@dataclass(frozen=True)
class NodeSettings:
    """One merchant's place on this machine.

    Attributes:
        merchant: Its name in the federation.
        data: The folder with its catalogue and events.
        state: The folder for what the node writes, the privacy ledger first of all.
        cache: The folder for encodings of public text; simulated merchants share one.
        simulated: Whether one person runs the whole federation on this machine.
    """

    merchant: str
    data: Path
    state: Path
    cache: Path
    simulated: bool


class NodeWork(Protocol):
    """What a node does with its shop's data, once it is opened."""

    def prepare(self, basis: bytes, settings: Mapping[str, Scalar]) -> Prepared:
        """Encode the catalogue, or find it encoded on disk, and return the public facts.

        Called again after a restart, so it must be cheap the second time.
        """

    def popularity(self, plan: PrivacyPlan, run_id: int, round_number: int) -> NDArray[np.float32]:
        """Charge the plan's popularity release; return the noised counts, float32 [items]."""

    def train(
        self,
        adapter: AdapterState,
        popularity: NDArray[np.float32] | None,
        plan: PrivacyPlan,
        run_id: int,
        round_number: int,
    ) -> AdapterUpdate:
        """Charge the plan's round and return the protected update."""

    def accept(self, note: JournalNote | None) -> None:
        """Keep the receipt that a request brings, or refuse because the ledger went back."""

    def head(self, journal: str) -> Head:
        """Return the ledger's head, signed, as it builds on this journal's last receipt."""

    def commitment(self, plan: PrivacyPlan, run_id: int) -> str:
        """Return the commitment to the run's canary lanes; empty where it is not audited."""

    def opened_lanes(self, plan: PrivacyPlan, run_id: int) -> LaneRecord | None:
        """Open the run's canary lanes and return them; None where it is not audited."""

    def public_metrics(self) -> Mapping[str, float]:
        """Return numbers that may leave the node: a part of `ALLOWED_METRICS` of plans."""


def node_settings(
    node_config: Mapping[str, Scalar], run_config: Mapping[str, Scalar]
) -> NodeSettings:
    """Return where the shop lies, from what Flower gives a node.

    In deployment the run's own settings are not looked at: an operator cannot point a merchant's
    node at another folder.

    Raises:
        SettingsError: if neither way of running is configured, or a folder is missing.
    """
    if "data" in node_config:
        data = _folder(node_config["data"], "data")
        merchant = str(node_config.get("merchant", data.name))
        state = Path(str(node_config.get("state", data / "node")))
        return NodeSettings(merchant, data, state, state / "cache", simulated=False)
    if "partition-id" not in node_config:
        raise SettingsError(
            "The node's configuration has no `data`; start the SuperNode with "
            "--node-config 'data=\"/path/to/shop\"'.",
            field="data",
        )
    return _simulated(node_config, run_config)


def _simulated(node_config: Mapping[str, Scalar], run_config: Mapping[str, Scalar]) -> NodeSettings:
    federation = _folder(run_config.get("federation", ""), "federation")
    shops = merchant_folders(federation)
    place, count = int(node_config["partition-id"]), int(node_config.get("num-partitions", 0))
    if count != len(shops):
        raise SettingsError(
            f"The federation folder holds {len(shops)} merchants and Flower simulates {count} "
            f"nodes; set num-supernodes to {len(shops)}.",
            field="federation",
        )
    data = shops[place]
    cache = Path(str(run_config.get("cache") or federation / ".cache"))
    return NodeSettings(data.name, data, data / "node", cache, simulated=True)


def merchant_folders(federation: Path) -> list[Path]:
    """Return a simulated federation's merchants: its visible sub-folders, sorted by name."""
    return sorted(
        path for path in federation.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _folder(value: Scalar, field: str) -> Path:
    path = Path(str(value)).expanduser()
    if not value or not path.is_dir():
        raise SettingsError(f"`{field}` must name a folder that exists.", field=field)
    return path.resolve()


def check_placement(plan: PrivacyPlan, settings: NodeSettings) -> None:
    """Refuse a plan whose updates leave without noise, unless nobody else is there to see them.

    Raises:
        PolicyError: if the node is a real one and the plan does not place noise at the node.
    """
    if plan.placement != "local" and not settings.simulated:
        raise PolicyError(
            f"The plan's noise placement is {plan.placement}: what leaves this node would not be "
            "protected. Only a simulation may do that.",
            field="placement",
        )


@dataclass(eq=False)
class OpenNode:
    """A node's work in this process, and the basis and settings it is prepared for."""

    work: NodeWork
    prepared: Prepared | None = None
    key: str = ""

    def prepare(self, basis: bytes, settings: Mapping[str, Scalar]) -> Prepared:
        """Prepare the work once for each basis and settings."""
        key = sha256_hex(basis + repr(sorted(settings.items())).encode())
        if self.prepared is None or key != self.key:
            self.prepared, self.key = self.work.prepare(basis, settings), key
        return self.prepared


_open_nodes: dict[NodeSettings, OpenNode] = {}


def open_node(context: Context) -> tuple[NodeSettings, OpenNode]:
    """Return this node's settings and its work, opened once in a process.

    Raises:
        SettingsError: as `node_settings`.
    """
    settings = node_settings(context.node_config, context.run_config)
    if settings not in _open_nodes:
        from client.work import open_node as open_work  # noqa: PLC0415 - torch loads here, not before

        _open_nodes[settings] = OpenNode(open_work(settings))
    return settings, _open_nodes[settings]


def close_nodes() -> None:
    """Forget all opened nodes, as a restart of the process would."""
    _open_nodes.clear()
