"""What a benchmark says: one row a figure, kept with the machine that it was measured on."""

from collections.abc import Sequence
from datetime import date
from typing import Final, Literal

import numpy as np
from pydantic import Field

from common.record import Record

Unit = Literal["times", "times as fast", "MB", "ms", "s", "%"]
_LEAST: Final[frozenset[Unit]] = frozenset({"times as fast"})  # more is better


class Row(Record):
    """One figure.

    Attributes:
        what: Was measured.
        against: What it is held against, by name; empty where there is no peer.
        figure: The median over the repeats.
        low: The least of the repeats, where they were several.
        high: The greatest of them.
        unit: Of the three. "times" is the time of ours by the peer's; "times as fast" the reverse.
        target: At most; at least, of "times as fast". None: nothing was promised.
        seconds: What ours took, of the processor where the unit is a ratio.
        peer_seconds: What the peer took.
    """

    what: str
    against: str = ""
    figure: float
    low: float | None = None
    high: float | None = None
    unit: Unit
    target: float | None = None
    seconds: float | None = Field(default=None, ge=0)
    peer_seconds: float | None = Field(default=None, ge=0)

    @property
    def at_least(self) -> bool:
        """Whether the target is a least figure."""
        return self.unit in _LEAST

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.figure >= self.target if self.at_least else self.figure <= self.target


class Machine(Record):
    """What was measured on: nothing that says whose machine it is."""

    processor: str
    cores: int = Field(ge=1)
    memory_gb: int = Field(ge=0)
    system: str
    versions: dict[str, str]


class Measured(Record):
    """All rows of one case."""

    case: str
    day: date
    machine: Machine
    rows: tuple[Row, ...]


def ratio_row(
    what: str,
    against: str,
    seconds: np.ndarray,
    *,
    target: float | None = None,
    faster: bool = False,
) -> Row:
    """Return the row of two sides that took turns.

    Args:
        what: Was measured.
        against: The peer's name.
        seconds: Of each repeat, ours in the first column and the peer's in the second.
        target: For the ratio.
        faster: Tell how many times as fast as the peer, instead of how many times its time.
    """
    own, peer = np.asarray(seconds, np.float64).T
    ratios = peer / own if faster else own / peer
    return Row(
        what=what,
        against=against,
        figure=float(np.median(ratios)),
        low=float(ratios.min()),
        high=float(ratios.max()),
        unit="times as fast" if faster else "times",
        target=target,
        seconds=float(np.median(own)),
        peer_seconds=float(np.median(peer)),
    )


def of_repeats(
    what: str,
    values: Sequence[float],
    unit: Unit,
    *,
    against: str = "",
    target: float | None = None,
) -> Row:
    """Return the row of one side's repeats."""
    return Row(
        what=what,
        against=against,
        figure=float(np.median(values)),
        low=min(values),
        high=max(values),
        unit=unit,
        target=target,
    )
