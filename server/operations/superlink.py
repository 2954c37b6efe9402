"""What the operator asks of SuperLink, over TLS on the loopback: nodes and runs.

Flower's own client class is used, not its `flwr` command: the command takes over a second a call,
and its list of nodes does not say which key a node has.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import HEARTBEAT_PATIENCE, Status, SubStatus
from flwr.common.serde import fab_to_proto, run_from_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.run_pb2 import Run as ProtoRun
from flwr.supercore.constant import NodeStatus
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from common.errors import FederationError
from common.identity.node_key import NodePublicKey
from common.wire.messages import Scalar
from server.operations.folder import ServerFolder


@dataclass(frozen=True)
class RegisteredNode:
    """A node as SuperLink knows it.

    Attributes:
        node_id: Flower's number.
        name: The merchant's name, as registered.
        key: Its public key, PEM.
        connected: Whether its last heartbeat is recent.
        last_contact: Of its last heartbeat; None before the first connection.
    """

    node_id: int
    name: str
    key: bytes
    connected: bool
    last_contact: datetime | None


@dataclass(frozen=True)
class RunState:
    """A run as SuperLink knows it.

    Attributes:
        run_id: Flower's number.
        folder: Where it keeps checkpoints, below the server's folder.
        finished: Whether it has ended, in whatever way.
        succeeded: Whether it has ended well.
        outcome: Flower's words: `running`, `finished:failed` and so on.
        details: Why it ended, in Flower's words; may be empty.
        rounds: How many it has.
    """

    run_id: int
    folder: str
    finished: bool
    succeeded: bool
    outcome: str
    details: str
    rounds: int


class Control:
    """An open connection to the SuperLink of one server's folder."""

    def __init__(self, client: ControlHttpClient) -> None:
        self._client = client

    def nodes(self) -> list[RegisteredNode]:
        """Return the nodes that may connect."""
        with _explained():
            answer = self._client.ListNodes(ListNodesRequest())
        return [
            RegisteredNode(
                node_id=one.node_id,
                name=one.name,
                key=one.public_key,
                connected=one.status == NodeStatus.ONLINE,
                last_contact=_last_contact(one.online_until, one.heartbeat_interval),
            )
            for one in answer.nodes_info
            if one.status != NodeStatus.UNREGISTERED
        ]

    def register(self, name: str, key: NodePublicKey) -> int:
        """Let a key connect, under a name; return the node's number.

        Raises:
            FederationError: if SuperLink has had the key before: a key that was put out never
                comes back.
        """
        with _explained():
            request = RegisterNodeRequest(public_key=key.pem, name=name)
            return self._client.RegisterNode(request).node_id

    def unregister(self, node_id: int) -> None:
        """Refuse a node from now on, also one that is connected."""
        with _explained():
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def start_run(self, app: Path, config: Mapping[str, Scalar]) -> int:
        """Bundle the app at `app`, send it and start a run; return the run's number."""
        content = build_fab_from_disk(app)
        bundle = Fab(hashlib.sha256(content).hexdigest(), content, {})
        request = StartRunRequest(
            fab=fab_to_proto(bundle), override_config=user_config_to_proto(dict(config))
        )
        with _explained():
            answer = self._client.StartRun(request)
        if not answer.HasField("run_id"):
            raise FederationError("SuperLink did not start the run.", field="run")
        return answer.run_id

    def run(self, run_id: int) -> RunState:
        """Return the state of one run."""
        with _explained():
            answer = self._client.ListRuns(ListRunsRequest(run_id=run_id))
        return _states(answer.run_dict.values())[0]

    def runs(self) -> list[RunState]:
        """Return the runs that SuperLink remembers, the latest first."""
        with _explained():
            answer = self._client.ListRuns(ListRunsRequest())
        ordered = sorted(answer.run_dict.values(), key=lambda one: one.pending_at, reverse=True)
        return _states(ordered)

    def stop_run(self, run_id: int) -> None:
        """End a run; its last checkpoint stays."""
        with _explained():
            self._client.StopRun(StopRunRequest(run_id=run_id))


@contextmanager
def control(folder: ServerFolder) -> Iterator[Control]:
    """Give a connection to the SuperLink that serves `folder`.

    Raises:
        FederationError: in the block, if SuperLink does not answer or refuses.
        SettingsError: if this is no server's folder.
    """
    address = folder.settings().superlink
    client = ControlHttpClient.from_server_address(
        server_address=address,
        insecure=False,
        root_certificates=folder.authority.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )
    with client:
        yield Control(client)


def superlink_answers(folder: ServerFolder) -> bool:
    """Return whether a SuperLink with this folder's certificate is up."""
    try:
        with control(folder) as link:
            link.nodes()
    except FederationError:
        return False
    return True


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        told = FlowerError.from_json(error.response.text)
        what = f"HTTP {error.response.status_code}" if told is None else told.message
        raise FederationError(f"SuperLink refused: {what}", field="superlink") from error
    except httpx.HTTPError as error:
        raise FederationError(
            f"SuperLink does not answer ({type(error).__name__}). Is `fedtail server start` "
            "running?",
            field="superlink",
        ) from error


def _last_contact(online_until: float, interval: float) -> datetime | None:
    """Return when the last heartbeat came: Flower keeps when it will miss the next ones."""
    if not online_until:
        return None
    return datetime.fromtimestamp(online_until - HEARTBEAT_PATIENCE * interval, UTC)


def _states(runs: Iterable[ProtoRun]) -> list[RunState]:
    read = [run_from_proto(one) for one in runs]
    return [
        RunState(
            run_id=one.run_id,
            folder=str(one.override_config.get("folder", "")),
            finished=one.status.status == Status.FINISHED,
            succeeded=one.status.sub_status == SubStatus.COMPLETED,
            outcome=":".join(filter(None, (one.status.status, one.status.sub_status))),
            details=one.status.details,
            rounds=int(one.override_config.get("rounds", 0)),
        )
        for one in read
    ]
