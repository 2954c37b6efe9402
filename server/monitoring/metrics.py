"""Numbers for Prometheus, from the files of an operator's folder, read anew at each request.

A label is a run, a merchant's public name, a state or a reason; a reason is a code and a field of
ours. Nothing of a shopper is on a server.
"""

import time
from collections import Counter
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from server.monitoring.journal_view import JournalView, read_view
from server.run.checkpoint import RoundRecord, read_history
from server.run.oversight.run_state import RunState, read_state

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_GAUGES = {
    "run_round": ("The last round that is done.", ("run",)),
    "run_rounds": ("How many rounds the run has.", ("run",)),
    "run_phase": ("What the run does: 1.", ("run", "phase")),
    "run_phase_seconds": ("For how long it has done that.", ("run",)),
    "run_overdue_seconds": ("By how much it is past the end of its wait.", ("run",)),
    "run_answers_missing": ("Usable answers that a round still needs.", ("run",)),
    "run_nodes": ("Nodes by how they stand.", ("run", "state")),
    "run_strikes": ("Answers of a merchant that were none.", ("run", "merchant")),
    "round_seconds": ("What the last round took.", ("run",)),
    "round_participants": ("Updates that the last round used.", ("run",)),
    "round_failures": ("Nodes that gave none.", ("run",)),
    "refusals": ("Refusals on the journal.", ("reason",)),
    "merchant_epsilon": ("Spent on a merchant's ledger, by Rényi.", ("merchant",)),
    "journal_entries": ("Entries of the journal, all checked.", ()),
    "releases": ("Releases in the public folder.", ()),
}


def metrics_page(folder: Path) -> bytes:
    """Return the numbers of a server's folder, or a run's, as Prometheus reads them.

    Raises:
        InputError: if there is no journal, or a checkpoint or release cannot be read.
        JournalError: if the journal was altered.
    """
    registry, now = CollectorRegistry(), time.time()
    gauges = {
        name: Gauge(f"fedtail_{name}", help_, labels, registry=registry)
        for name, (help_, labels) in _GAUGES.items()
    }
    _journal(gauges, read_view(folder))
    runs = sorted(one for one in (folder / "runs").glob("*") if one.is_dir()) or [folder]
    for run in runs:
        state, history = read_state(run), read_history(run)
        if state is not None:
            _run(gauges, run.resolve().name, state, now)
        if history:
            _last_round(gauges, run.resolve().name, history[-1])
    return generate_latest(registry)


def _journal(gauges: dict[str, Gauge], view: JournalView) -> None:
    gauges["journal_entries"].set(view.entries)
    gauges["releases"].set(len(view.releases))
    for reason, count in Counter(one.reason for one in view.refusals).items():
        gauges["refusals"].labels(reason).set(count)
    for merchant in view.merchants:
        gauges["merchant_epsilon"].labels(merchant.name).set(merchant.epsilon)


def _run(gauges: dict[str, Gauge], name: str, state: RunState, now: float) -> None:
    waits = state.until > 0 and state.phase not in {"ended", "paused"}
    gauges["run_rounds"].labels(name).set(state.rounds)
    gauges["run_phase"].labels(name, state.phase).set(1)
    gauges["run_phase_seconds"].labels(name).set(max(now - state.since, 0.0))
    gauges["run_overdue_seconds"].labels(name).set(max(now - state.until, 0.0) if waits else 0.0)
    missing = max(state.needed - state.answered, 0) if waits else 0
    gauges["run_answers_missing"].labels(name).set(missing)
    for kind, count in Counter(one.state for one in state.nodes).items():
        gauges["run_nodes"].labels(name, kind).set(count)
    for node in state.nodes:
        gauges["run_strikes"].labels(name, node.merchant).set(node.strikes)


def _last_round(gauges: dict[str, Gauge], name: str, last: RoundRecord) -> None:
    gauges["run_round"].labels(name).set(last.round_number)
    gauges["round_seconds"].labels(name).set(last.seconds)
    gauges["round_participants"].labels(name).set(last.participants)
    gauges["round_failures"].labels(name).set(last.failures)
