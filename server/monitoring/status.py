"""What goes on, for the operator: nodes, runs, and what each merchant's ledger has spent."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from common.errors import InputError
from common.privacy.accounting.accountants import epsilon_rdp
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.heads import Head
from common.privacy.ledger.journal import last_receipts, read_journal
from server.operations.folder import ServerFolder
from server.operations.registry import read_registry
from server.operations.superlink import RegisteredNode, control
from server.operations.superlink import RunState as FlowerRun
from server.run.checkpoint import read_history
from server.run.oversight.run_state import NodeNote, RunState, read_state


@dataclass(frozen=True)
class Spent:
    """What a merchant's ledger says it has spent, by the head it signed last.

    Attributes:
        entries: How many charges are on the ledger.
        steps: How many noised steps, of all runs.
        epsilon: Of all of it, by Renyi, which ledgers gate on.
        delta: For that epsilon.
    """

    entries: int
    steps: int
    epsilon: float
    delta: float


@dataclass(frozen=True)
class NodeStatus:
    """One enrolled merchant.

    Attributes:
        name: The merchant's.
        node: As SuperLink knows it; None where it does not.
        spent: By its last head; None before its first round here.
    """

    name: str
    node: RegisteredNode | None
    spent: Spent | None

    def seen(self, now: datetime) -> str:
        """Return when the node was heard of last, in words."""
        if self.node is None or self.node.last_contact is None:
            return "never"
        seconds = max((now - self.node.last_contact).total_seconds(), 0)
        for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
            if seconds >= 2 * size:
                return f"{seconds / size:.0f} {unit} ago"
        return f"{seconds:.0f} seconds ago"


@dataclass(frozen=True)
class RunStatus:
    """One run.

    Attributes:
        name: Its folder's.
        outcome: Flower's word for how it stands.
        done: How many rounds are done.
        rounds: Of how many.
        state: What it does now, and how its nodes stand; None where it does not go on.
    """

    name: str
    outcome: str
    done: int
    rounds: int
    state: RunState | None


@dataclass(frozen=True)
class Status:
    """All of it; runs are the latest start of each, the latest first."""

    nodes: tuple[NodeStatus, ...]
    runs: tuple[RunStatus, ...]

    def standing(self, merchant: str) -> NodeNote | None:
        """Return how a merchant's node stands in the run that goes on; None where there is none."""
        state = next((run.state for run in self.runs if run.state is not None), None)
        notes = () if state is None else state.nodes
        return next((one for one in notes if one.merchant == merchant), None)

    def to_json(self) -> str:
        """Return all of it as JSON; times as seconds since 1970 UTC or ISO 8601."""
        return json.dumps(asdict(self), indent=2, default=str)


def read_status(folder: ServerFolder) -> Status:
    """Ask SuperLink, and read the journal and the checkpoints.

    Raises:
        FederationError: if the server is not up.
        JournalError: if the journal was altered.
    """
    with control(folder) as link:
        nodes, runs = link.nodes(), link.runs()
    registered = {node.name: node for node in nodes}
    heads = spent_by_heads(folder.journal)
    enrolled = read_registry(folder.registry).nodes
    names = sorted(name for name, one in enrolled.items() if not one.revoked)
    return Status(
        tuple(NodeStatus(name, registered.get(name), heads.get(name)) for name in names),
        tuple(_latest(runs, folder.root)),
    )


def spent_by_heads(journal: Path) -> Mapping[str, Spent]:
    """Return what each merchant's last head in a journal says, by name; nothing without a journal.

    Raises:
        JournalError: if it was altered.
    """
    if not journal.exists():
        return {}
    content = journal.read_bytes()
    entries = read_journal(content[: content.rfind(b"\n") + 1])  # the last line may be half there
    plans = [PrivacyPlan.from_json(entry.plan) for entry in entries if entry.plan]
    if not plans:
        return {}
    delta = plans[-1].delta
    return {name: _spent(one.head, delta) for name, one in last_receipts(entries).items()}


def _spent(head: Head, delta: float) -> Spent:
    steps = sum(event.count for event in head.spent)
    return Spent(head.number, steps, epsilon_rdp(head.spent, delta), delta)


def _latest(runs: list[FlowerRun], root: Path) -> list[RunStatus]:
    found: dict[str, RunStatus] = {}
    for run in runs:
        name = Path(run.folder).name or str(run.run_id)
        if name not in found:
            folder = root / run.folder
            state = None if run.finished or not run.folder else read_state(folder)
            found[name] = RunStatus(name, run.outcome, _done(folder), run.rounds, state)
    return list(found.values())


def _done(folder: Path) -> int:
    try:
        return len(read_history(folder))
    except InputError:
        return 0
