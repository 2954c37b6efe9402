"""How each node stands in a run: what it sent that was no answer, and when it was silent.

A node that sends what is no answer three times is quarantined: it is not asked again in this run.
A silent node is left out until it answers a preparation, which costs its shoppers nothing, and each
time in a row it sits out twice as many rounds, so that neither waiting for it nor its charges for
answers that come too late add up.

An error is an answer, and may be an honest refusal, such as of a shop whose budget is spent: it is
no strike, and nobody waits for it. A node that gives nothing else, several times in a row, is shown
to the operator as failing, and is asked again: what is wrong may be mended on its side.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from common.errors import FederationError
from server.run.oversight.run_log import RunLog
from server.run.oversight.run_state import NodeNote, NodeState, StateFile

STRIKES = 3
FAILURES = 3
MOST_ROUNDS_OUT = 64
QUARANTINE = "quarantine"
SILENT = "silent"


@dataclass
class Standing:
    """One node's.

    Attributes:
        strikes: Answers that were none.
        misses: How often in a row it was silent.
        failures: Errors since its last usable answer to what it is charged for.
        rounds_out: Rounds it has yet to sit out.
        refused: Why it is not asked any more, a public code and field; empty where it is.
    """

    strikes: int = 0
    misses: int = 0
    failures: int = 0
    rounds_out: int = 0
    refused: str = ""

    @property
    def state(self) -> NodeState:
        """How it stands that is asked: `failing` after errors alone."""
        return "failing" if self.failures >= FAILURES else "in"


@dataclass(eq=False)
class Standings:
    """All nodes', by Flower's numbers, and whoever is told of a change.

    Attributes:
        name_of: Gives the merchant's name of a node; empty where it is not known.
        log: The run's.
        state: What other processes see.
        journal: Told merchant and reason of each refusal, for the journal.
        evicted: Merchants that the operator has put out, by name.
    """

    name_of: Callable[[int], str] = lambda _node: ""
    log: RunLog = field(default_factory=RunLog)
    state: StateFile = field(default_factory=StateFile)
    journal: Callable[[str, str], None] = lambda _merchant, _reason: None
    evicted: frozenset[str] = frozenset()
    _held: dict[int, Standing] = field(default_factory=dict)

    def of(self, node: int) -> Standing:
        """Return a node's."""
        return self._held.setdefault(node, Standing())

    @property
    def refused(self) -> dict[int, str]:
        """Nodes that are not asked any more, with the reason."""
        return {node: one.refused for node, one in self._held.items() if one.refused}

    def may_be_asked(self, node: int) -> bool:
        """Return whether a node may be asked for anything now."""
        if self.name_of(node) in self.evicted:
            return False
        held = self.of(node)
        return not held.refused and not held.rounds_out

    # ------------------------------------------------------------ what happens
    def strike(self, node: int, merchant: str, phase: str, error: FederationError) -> None:
        """Count an answer that was none, and quarantine the node after three."""
        held, reason = self.of(node), error.public()
        held.strikes += 1
        self.journal(merchant, reason)
        self.log.note(
            "answer refused", "warning", phase=phase, node=node, merchant=merchant, reason=reason,
            strikes=held.strikes, why=str(error),
        )  # fmt: skip
        if held.strikes >= STRIKES:
            held.refused = f"{QUARANTINE}:{error.field}" if error.field else QUARANTINE
            self.journal(merchant, held.refused)
            self.log.note("node quarantined", "warning", node=node, merchant=merchant)
        self._show(node, merchant, "quarantined" if held.refused else "in", held.refused or reason)

    def failed(self, node: int, merchant: str, phase: str, reason: str) -> None:
        """Note an error that a node, or Flower for it, gave instead of an answer."""
        held = self.of(node)
        held.failures += 1
        self.log.note(
            "node failed", "warning", phase=phase, node=node, merchant=merchant, reason=reason,
            failures=held.failures,
        )  # fmt: skip
        self._show(node, merchant, held.state, reason)

    def silent(self, node: int, merchant: str, phase: str) -> None:
        """Note that nothing came in time of what the node is charged for: it sits out."""
        held = self.of(node)
        held.misses += 1
        held.rounds_out = min(2 ** (held.misses - 1), MOST_ROUNDS_OUT)  # this round is one
        self.late(node, merchant, phase)

    def late(self, node: int, merchant: str, phase: str) -> None:
        """Note that nothing came in time."""
        self.log.note(
            "node silent", "warning", phase=phase, node=node, merchant=merchant,
            rounds_out=self.of(node).rounds_out,
        )  # fmt: skip
        self._show(node, merchant, "silent", SILENT)

    def answered(self, node: int, merchant: str) -> None:
        """Note a usable answer to something that the node was charged for."""
        held = self.of(node)
        held.misses = held.failures = 0
        self._show(node, merchant, "in", "")

    def prepared(self, node: int, merchant: str) -> None:
        """Note that a node is ready to take part."""
        self.state.forget(f"node {node}")
        self.log.note("node joined", node=node, merchant=merchant)
        self._show(node, merchant, self.of(node).state, "")

    def asked(self, node: int) -> None:
        """Note that a node's preparation is under way."""
        self._show(node, self.name_of(node), "asked", "")

    def refuse(self, node: int, merchant: str, reason: str) -> None:
        """Ask a node for nothing any more: it has refused to prepare, or was refused."""
        self.of(node).refused = reason
        self.journal(merchant, reason)
        self.log.note("node refused", "warning", node=node, merchant=merchant, reason=reason)
        self._show(node, merchant, "refused", reason)

    def round_over(self) -> None:
        """Let those who sit out come one round nearer."""
        for held in self._held.values():
            held.rounds_out = max(held.rounds_out - 1, 0)

    # ------------------------------------------------------- what an operator asks
    def evict(self, merchants: frozenset[str]) -> None:
        """Ask these merchants for nothing, until another call leaves them out."""
        for name in sorted(merchants - self.evicted):
            self.log.note("node evicted", "warning", merchant=name)
            self.journal(name, "evicted")
            self.state.node(NodeNote(name, "evicted", "evicted"))
        for name in sorted(self.evicted - merchants):
            self.state.forget(name)
        self.evicted = merchants

    def readmit(self, merchant: str) -> None:
        """Wipe out why a merchant's nodes were left out."""
        for node in list(self._held):
            if self.name_of(node) == merchant:
                self._held[node] = Standing()
        self.log.note("node readmitted", merchant=merchant)
        self.state.forget(merchant)

    def _show(self, node: int, merchant: str, state: NodeState, reason: str) -> None:
        name = merchant or f"node {node}"
        self.state.node(NodeNote(name, state, reason, self.of(node).strikes))
