"""All a run needs to start, or to go on after a stop."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.adapter import AdapterState
from common.federation.aggregation import Aggregator
from common.federation.bounds import Part
from common.federation.optimiser import Optimiser, Schedule
from common.privacy.accounting.plan import PrivacyPlan
from common.wire import messages
from server.run.admission_checks import Conditions
from server.run.cohort import Quorum
from server.run.exchange import Patience
from server.run.oversight.run_log import LogFormat


@dataclass(frozen=True, eq=False)
class RunSetup:
    """All a run needs to start, or to go on after a stop.

    Attributes:
        adapter: The adapter before the first round.
        basis: A safetensors file of frozen public tensors, sent to each node once.
        plan: The privacy plan; it also says how many rounds there are.
        settings: The run's flat settings, sent to each node once.
        optimiser: The coordinator's step.
        learning_rate: The size of the first step.
        schedule: How the size changes over the plan's rounds.
        quorum: How many nodes are needed.
        round_timeout: Seconds a node has for one round.
        prepare_timeout: Seconds a node has to encode its catalogue.
        folder: Where checkpoints go; None keeps none.
        journal: The journal's file, which outlives the run; None keeps none.
        conditions: What a node must be and have to take part.
        patience: For the rest of the nodes, once enough have answered.
        aggregate: From a round's updates to its step.
        parts: The trained tensors, and the coordinates in which noise is even; empty where those
            are the tensors' own.
        log_format: Of the run's log.
        season_ends: When the season is taken, microseconds since 1970 UTC; empty: it is not.
        vector_width: Numbers in an item's vector, and in a season's for each end.
    """

    adapter: AdapterState
    basis: bytes
    plan: PrivacyPlan
    settings: Mapping[str, messages.Scalar]
    optimiser: Optimiser
    learning_rate: float
    schedule: Schedule = "constant"
    quorum: Quorum = field(default_factory=Quorum)
    round_timeout: float = 600.0
    prepare_timeout: float = 3600.0
    folder: Path | None = None
    journal: Path | None = None
    conditions: Conditions = field(default_factory=Conditions)
    patience: Patience = field(default_factory=Patience)
    aggregate: Aggregator = field(default_factory=Aggregator)
    parts: tuple[Part, ...] = ()
    log_format: LogFormat = "json"
    season_ends: tuple[int, ...] = ()
    vector_width: int = 0

    @property
    def season_size(self) -> int:
        """How many numbers a merchant's season vector has."""
        return len(self.season_ends) * self.vector_width


def plain_parts(adapter: AdapterState) -> tuple[Part, ...]:
    """Return an adapter's tensors where noise is even in their own coordinates."""
    return tuple(Part(tensor.shape) for tensor in adapter.tensors.values())
