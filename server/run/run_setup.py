"""All a run needs to start, or to go on after a stop."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.adapter import AdapterState
from common.federation.aggregation import Aggregator
from common.federation.bounds import Part
from common.federation.optimiser import Optimiser, OptimiserState, Schedule
from common.privacy.accounting.plan import PrivacyPlan
from common.settings.run import run_digest
from common.wire import messages
from server.run.admission_checks import Conditions
from server.run.checkpoint import Checkpoint, read_matching
from server.run.cohort import Quorum
from server.run.exchange import Patience
from server.run.oversight.run_log import LogFormat


@dataclass(frozen=True, eq=False)
class RunSetup:
    """All a run needs to start, or to go on after a stop.

    Attributes:
        adapter: The adapter before the first round; that of the parent, in a refresh.
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
    def kept_adapter(self) -> str:
        """Digest of the adapter that a refresh leaves as it is; empty where there are rounds."""
        return "" if self.plan.trains else self.adapter.digest

    @property
    def season_size(self) -> int:
        """How many numbers a merchant's season vector has."""
        return len(self.season_ends) * self.vector_width


def plain_parts(adapter: AdapterState) -> tuple[Part, ...]:
    """Return an adapter's tensors where noise is even in their own coordinates."""
    return tuple(Part(tensor.shape) for tensor in adapter.tensors.values())


def restored(setup: RunSetup) -> Checkpoint:
    """Return the checkpoint to go on from, or the state before the first round.

    Raises:
        InputError: as `server.run.checkpoint.read_matching`.
    """
    settings = run_digest(setup.settings, setup.basis)
    found = None
    if setup.folder is not None:
        found = read_matching(setup.folder, setup.plan.digest, settings)
    return found or Checkpoint(
        round_number=0,
        adapter=setup.adapter,
        optimiser=OptimiserState.empty(setup.adapter.size),
        popularity=None,
        history=(),
        plan_digest=setup.plan.digest,
        settings_digest=settings,
    )
