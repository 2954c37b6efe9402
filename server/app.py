"""The coordinator's Flower app: settings in, a finished run's checkpoint and adapter out."""

import logging

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.privacy.accounting.accountants import account
from server.run.outcome import write_outcome
from server.run.polling_grid import PromptGrid
from server.run.strategy import FedtailStrategy

app = ServerApp()
logger = logging.getLogger("flwr.fedtail")  # a child of Flower's logger: shown where Flower's is


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Open the run that `run_config` describes, run what is left of it, and write the adapter."""
    from server.run.setup import open_run  # noqa: PLC0415 - torch loads here, not before

    setup = open_run(context.run_config)
    plan = setup.plan
    strategy = FedtailStrategy(
        setup,
        on_round=lambda record: logger.info("%s", record),
        epsilon=lambda rounds: account(plan.events(rounds), plan.delta).pld,
    )
    strategy.start(PromptGrid(grid))
    if setup.folder is not None:
        adapter = strategy.state.adapter
        write_outcome(setup.folder, adapter, setup.basis, strategy.audits, strategy.canary_sums)
    logger.info("Adapter digest: %s", strategy.state.adapter.digest)
