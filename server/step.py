"""One aggregation's outcome."""

from dataclasses import dataclass

from common.adapter import AdapterState
from server.optimiser import OptimiserState


@dataclass(frozen=True, eq=False)
class Step:
    """What one aggregation gives: the next adapter and optimiser, and what may be shown."""

    adapter: AdapterState
    optimiser: OptimiserState
    rate: float
    update_norm: float
    merchants: tuple[str, ...]

    @property
    def participants(self) -> int:
        """How many updates were used."""
        return len(self.merchants)
