"""What an operator does with a run that goes on: pause, resume, stop it, put a merchant out of it.

All but an immediate stop are orders in the run's folder, which the run reads before each round.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from common.errors import FederationError, InputError, SettingsError
from server.operations.folder import ServerFolder
from server.operations.registry import read_registry
from server.operations.superlink import Control, RunState, control
from server.run.oversight.orders import Orders, read_orders, write_orders
from server.run.oversight.run_state import mark_ended, read_state

POLL_SECONDS = 0.5


def pause_run(server: ServerFolder) -> str:
    """Let the run that goes on begin no other round; return its name.

    Raises:
        FederationError: if the server is not up, or no run goes on.
    """
    return _order(server, lambda orders: replace(orders, paused=True))


def resume_run(server: ServerFolder) -> str:
    """Let a paused run go on; return its name.

    Raises:
        FederationError: as `pause_run`.
    """
    return _order(server, lambda orders: replace(orders, paused=False))


def evict_node(server: ServerFolder, merchant: str) -> str:
    """Ask a merchant for nothing more in this run; its certificate stays. Return the run's name.

    Raises:
        FederationError: as `pause_run`.
        SettingsError: if no such merchant is enrolled.
    """
    if merchant not in read_registry(server.registry).nodes:
        raise SettingsError(f"No merchant {merchant!r} is enrolled.", field="name")
    return _order(server, lambda orders: replace(orders, evicted=orders.evicted | {merchant}))


def readmit_node(server: ServerFolder, merchant: str) -> str:
    """Take back a merchant that was evicted, quarantined or refused; return the run's name.

    Raises:
        FederationError: as `pause_run`.
    """

    def back(orders: Orders) -> Orders:
        counts = dict(orders.readmitted)
        counts[merchant] = counts.get(merchant, 0) + 1
        return replace(
            orders,
            evicted=orders.evicted - {merchant},
            readmitted=tuple(sorted(counts.items())),
        )

    return _order(server, back)


def stop_run(server: ServerFolder, say: Callable[[str], None], *, now: bool) -> str:
    """End the run that goes on; the same experiment goes on later. Return its name.

    Args:
        server: The server's folder.
        say: Told what is waited for, one line each.
        now: Whether to end it in the middle of a round, which nodes have then paid for in vain.

    Raises:
        FederationError: as `pause_run`.
    """
    with control(server) as link:
        run = _going(link)
        folder = server.root / run.folder
        if not now:
            _change(folder, lambda orders: replace(orders, paused=True))
            _wait_for_round(link, run, folder, say)
        if not link.run(run.run_id).finished:
            link.stop_run(run.run_id)
            mark_ended(folder)
        _change(folder, lambda orders: replace(orders, paused=False))
    return folder.name


def _wait_for_round(link: Control, run: RunState, folder: Path, say: Callable[[str], None]) -> None:
    told = ""
    while not link.run(run.run_id).finished:
        state = read_state(folder)
        if state is not None and state.phase in {"paused", "ended"}:
            return
        where = "the run starts" if state is None else f"{state.phase}, round {state.round_number}"
        if where != told:
            say(f"Waiting for the end of: {where}. Ctrl-C leaves the run paused.")
            told = where
        time.sleep(POLL_SECONDS)


def _order(server: ServerFolder, change: Callable[[Orders], Orders]) -> str:
    with control(server) as link:
        folder = server.root / _going(link).folder
    _change(folder, change)
    return folder.name


def _change(folder: Path, change: Callable[[Orders], Orders]) -> None:
    orders = read_orders(folder)
    if orders is None:
        raise InputError(f"The orders of {folder.name} cannot be read; remove them.", field="run")
    write_orders(folder, change(orders))


def _going(link: Control) -> RunState:
    for run in link.runs():
        if not run.finished and run.folder:
            return run
    raise FederationError("No run goes on.", field="run")
