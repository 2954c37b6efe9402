"""Between a run and its operator: names of nodes, orders in, state and log out."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from common.errors import InputError
from server.run.admission_checks import read_members
from server.run.oversight.orders import Orders, read_orders
from server.run.oversight.run_log import LOG_FILE, LogFormat, RunLog
from server.run.oversight.run_state import StateFile
from server.run.oversight.standing import Standings

_LOOK_SECONDS = 1.0  # between two looks into the operator's files


class Oversight:
    """What a run shows its operator, and what the operator asks of it.

    Attributes:
        log: Of the run.
        standings: How each node stands.
        state: What other processes see.
    """

    def __init__(
        self,
        folder: Path | None,
        members: Path | None,
        style: LogFormat,
        prepared: Callable[[int], str],
    ) -> None:
        """Watch one run.

        Args:
            folder: The run's; None keeps nothing on disk.
            members: The operator's file of enrolled nodes, if there is one.
            style: Of the log.
            prepared: Gives the name under which a node was prepared; empty where it was not.
        """
        self._folder, self._members_file, self._prepared = folder, members, prepared
        self.log = RunLog(None if folder is None else folder / LOG_FILE, style)
        self.state = StateFile(folder)
        self.standings = Standings(self.name_of, self.log, self.state)
        self._members: dict[int, str] = {}
        self._orders = Orders()
        self._looked = -_LOOK_SECONDS

    def name_of(self, node: int) -> str:
        """Return the merchant's name of a node, prepared or enrolled; empty where unknown."""
        self._look()
        return self._prepared(node) or self._members.get(node, "")

    def may_begin(self) -> bool:
        """Return whether a round may begin, and do what else the operator asks."""
        self._look(at_once=True)
        orders, paused = self._orders, self.state.state.phase == "paused"
        self.standings.evict(orders.evicted)
        if orders.paused and not paused:
            self.log.note("run paused", "warning")
            self.state.enter("paused", self.state.state.round_number)
        if paused and not orders.paused:
            self.log.note("run resumed")
            self.state.enter("preparing", self.state.state.round_number)
        return not orders.paused

    def show_wait(
        self, nodes: Iterable[int], answered: int, needed: int, seconds_left: float
    ) -> None:
        """Say who is waited for."""
        names = [self.name_of(node) or f"node {node}" for node in nodes]
        self.state.wait(names, answered=answered, needed=needed, seconds=seconds_left)

    def _look(self, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        found = read_orders(self._folder)
        if found is not None and found != self._orders:
            before, self._orders = dict(self._orders.readmitted), found
            for name, count in found.readmitted:
                if count > before.get(name, 0):
                    self.standings.readmit(name)
        if self._members_file is not None:
            try:
                self._members = read_members(self._members_file)
            except InputError:  # it is being replaced, or broken: names are for eyes only
                return
