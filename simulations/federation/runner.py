"""Run a federation's folder in this process: the deployed app, without Flower's processes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from client.app import app
from client.node.session import close_nodes
from client.node.settings import merchant_folders
from common.adapter import AdapterState
from common.encoder.public_basis import PublicBasis
from common.federation.contribution_files import FOLDER as CONTRIBUTIONS
from common.privacy.accounting.accountants import AccountantReport, account
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.mechanism.canaries import CanaryRecord
from common.privacy.mechanism.sum_canaries import CanarySums
from common.season import Season
from common.settings.run import RunSettings
from common.wire.messages import Scalar
from server.run.checkpoint import RoundRecord
from server.run.setup import open_run
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run's outcome.

    Attributes:
        adapter: The global adapter.
        basis: The frozen tensors beside it.
        plan: The privacy plan it ran under.
        history: One record a round, those before a stop included.
        audits: Revealed canaries, by the merchant's folder name.
        journal: The server's journal; None where none was kept.
        contributions: The folder of the protected vectors; None where none were kept.
        season: The merchants' season; None where the settings name none.
        canary_sums: What secure sums showed of the canaries; None where there were none.
        federation: The merchants' folder.
        run_ids: A refresh's number on the journal, which other runs of its plan may be on; empty
            with rounds, whose plan no other run there has.
        parent: The folder of the release whose adapter a refresh keeps; None with rounds.
        versions: Of the releases that a refresh goes on from: its own is another.
    """

    adapter: AdapterState
    basis: PublicBasis
    plan: PrivacyPlan
    history: tuple[RoundRecord, ...]
    audits: Mapping[str, CanaryRecord]
    journal: Path | None = None
    contributions: Path | None = None
    season: Season | None = None
    canary_sums: CanarySums | None = None
    federation: Path | None = None
    run_ids: frozenset[str] = frozenset()
    parent: Path | None = None
    versions: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Beside:
    """What a refresh goes on with.

    Attributes:
        parent: The folder of the release whose season is taken anew.
        journal: Of the run that made it, and goes on.
        run_id: The refresh's number there.
        versions: As in `FinishedRun`.
    """

    parent: Path
    journal: Path
    run_id: int
    versions: frozenset[str]


@dataclass(frozen=True)
class Watch:
    """Who is told what while a run goes on."""

    on_encoded: Callable[[int, int], None] | None = None
    on_round: Callable[[RoundRecord, AdapterState], None] | None = None
    on_basis: Callable[[PublicBasis], object] | None = None
    on_answer: Callable[[str, int, int], None] | None = None


def run_config(
    federation: Path, settings: RunSettings, folder: Path, cache: Path
) -> dict[str, Scalar]:
    """Return Flower's run config for a federation's folder."""
    return {
        **settings.to_flat(),
        "federation": str(federation),
        "folder": str(folder),
        "cache": str(cache),
        "merchants": len(merchant_folders(federation)),
    }


def run_federation(  # noqa: PLR0917 - each is of another type, or named as its caller has it
    federation: Path,
    settings: RunSettings,
    folder: Path,
    cache: Path,
    watch: Watch | None = None,
    beside: Beside | None = None,
) -> FinishedRun:
    """Train on a federation's folder, or go on from its last checkpoint.

    Args:
        federation: As `write_federation` made it.
        settings: The run's.
        folder: For checkpoints.
        cache: For encodings of public text.
        watch: Told of progress.
        beside: With settings of a refresh: what it goes on with.

    Raises:
        FedtailError: whatever stops a run; the last checkpoint stays.
        KeyboardInterrupt: as pressed; the last checkpoint stays.
    """
    watch = watch or Watch()
    config = run_config(federation, settings, folder, cache)
    if beside is not None:
        config |= {"parent": str(beside.parent), "journal": str(beside.journal)}
    setup = open_run(config, watch.on_encoded)
    # All nodes are in this process: for one that is refused nobody comes in its place.
    setup = replace(setup, quorum=replace(setup.quorum, wait_seconds=0.0))
    basis = PublicBasis.from_bytes(setup.basis)
    if watch.on_basis is not None:
        watch.on_basis(basis)

    def on_round(record: RoundRecord) -> None:
        if watch.on_round is not None:
            watch.on_round(record, strategy.state.adapter)

    strategy = FedtailStrategy(
        setup, on_round=on_round, epsilon=lambda rounds: epsilon_after(setup.plan, rounds).pld
    )
    number = {} if beside is None else {"run_id": beside.run_id}
    nodes = len(merchant_folders(federation))
    grid = InProcessGrid(app, nodes, config, on_answer=watch.on_answer, **number)
    try:
        strategy.start(grid)
    finally:
        close_nodes()
    return FinishedRun(
        adapter=strategy.state.adapter,
        basis=basis,
        plan=setup.plan,
        history=strategy.history,
        audits=strategy.audits,
        journal=setup.journal,
        contributions=folder / CONTRIBUTIONS
        if setup.plan.dp_model in {"local", "distributed"}
        else None,
        season=strategy.state.season,
        canary_sums=strategy.canary_sums,
        federation=federation,
        run_ids=frozenset() if beside is None else frozenset({str(beside.run_id)}),
        parent=None if beside is None else beside.parent,
        versions=frozenset() if beside is None else beside.versions,
    )


def epsilon_after(plan: PrivacyPlan, rounds: int) -> AccountantReport:
    """Return what `rounds` rounds of a plan cost, by all accountants.

    Raises:
        PrivacyError: if the accountants disagree.
    """
    return account(plan.events(rounds), plan.delta)
