"""The child of `simulations.harness.chaos`: a node that trains until killed, and says where."""

import os
import sqlite3
import time
import traceback
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import client.node.participant
import client.training.dp_trainer
from client.node.participant import MerchantWork
from client.node.settings import NodeSettings
from client.privacy.app_guard_command import guarded_environment
from client.privacy.budget import LEDGER_FILE
from client.privacy.canaries import CanaryBook
from client.training.dp_trainer import PrivateTrainer
from common.adapter import AdapterState
from common.encoder.catalogue_encoder import EncodedCatalogue
from common.errors import BudgetError
from common.privacy.ledger.entry import Entry
from common.privacy.mechanism.noise import NoiseSource
from common.settings.run import RunSettings

READY, ENDED = "between rounds", "refused by the budget"
MERCHANT, RUN = "chaos", 1


@dataclass(frozen=True)
class Ground:
    """What a child needs.

    Attributes:
        data: The shop's folder.
        cache: Where its catalogue lies encoded.
        marks: The file it appends to.
        basis: The public basis, as the server sends it.
        settings: The run's.
        start: The adapter of each round; a server would move it on.
        encoded: The catalogue as the parent has it in memory. A child that is to die in a round
            takes it, as reading it is most of a start; one that is to die as it opens reads it.
    """

    data: Path
    cache: Path
    marks: Path
    basis: bytes
    settings: RunSettings
    start: AdapterState
    encoded: EncodedCatalogue | None = None

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.data / "node" / LEDGER_FILE


@dataclass(frozen=True)
class Mark:
    """Where a child was: in which phase, when, and how many steps were on disk as it drew noise."""

    phase: str
    time: float
    steps: int | None


def read_marks(path: Path) -> list[Mark]:
    """Return all marks, oldest first; none where there is no file."""
    if not path.exists():
        return []
    marks = []
    for line in path.read_text(encoding="ascii").splitlines():
        phase, moment, steps = line.split("\t")
        marks.append(Mark(phase, float(moment), int(steps) if steps else None))
    return marks


def run_child(ground: Ground, ready: int) -> NoReturn:
    """Open the node on what is on disk, and train until the budget ends or somebody kills."""
    status = 1
    try:
        _train(ground, ready)
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the child must not run the parent's code
        ground.marks.with_suffix(".errors").open("a").write(traceback.format_exc())
    os._exit(status)


def _train(ground: Ground, ready: int) -> None:
    file = os.open(ground.marks, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def mark(phase: str, steps: int | None = None) -> None:
        # One write of a short line to a file opened for appending: it is whole or not there.
        text = f"{phase}\t{time.monotonic():.6f}\t{'' if steps is None else steps}\n"
        os.write(file, text.encode("ascii"))

    watch(ground.ledger, mark)
    if ground.encoded is not None:
        encoded = ground.encoded
        setattr(client.node.participant, "encode_catalogue", lambda *_: encoded)  # noqa: B010 - this process only
    mark("opening data and ledger")
    os.environ |= guarded_environment(ground.data)  # this process runs the installed code itself
    node = NodeSettings(MERCHANT, ground.data, ground.ledger.parent, ground.cache, simulated=False)
    work = MerchantWork(node)
    mark("preparing the model")
    work.prepare(ground.basis, ground.settings.to_flat())
    plan = ground.settings.plan()
    adapter = ground.start
    done = sum(entry.kind == "train" for entry in work._ledger.entries())  # noqa: SLF001 - the server's part, played here
    try:
        if done == 0:
            work.popularity(plan, RUN, 0)
        for number in range(done + 1, 1_000_000):
            mark(READY)
            with suppress(BrokenPipeError):  # nobody listens any more
                os.write(ready, b".")
            work.train(adapter, None, plan, RUN, number)
    except BudgetError:
        mark(ENDED)


def watch(ledger: Path, mark: Callable[..., None]) -> None:
    """Put a mark before and after the parts of a round, in this process only."""

    def marked(owner: Any, name: str, before: str, after: str) -> None:
        held = getattr(owner, name)

        @wraps(held)
        def function(*arguments: Any, **named: Any) -> Any:
            mark(before)
            result = held(*arguments, **named)
            mark(after)
            return result

        setattr(owner, name, function)

    marked(client.node.participant, "check_once", "preflight", "before charging")
    marked(
        client.node.participant, "charge_round", "charging the ledger", "charged, before sampling"
    )
    marked(client.training.dp_trainer, "poisson_sample", "sampling", "sampled, before gradients")
    marked(PrivateTrainer, "clipped_sum", "gradients and clipping", "clipped, before noise")
    marked(
        client.training.dp_trainer, "protect", "taking the charge's step", "noised, update in hand"
    )
    marked(CanaryBook, "save", "writing the canaries' record", "canaries on disk")
    drawn = NoiseSource.gaussians

    @wraps(drawn)
    def gaussians(self: NoiseSource, count: int) -> Any:
        mark("drawing noise", steps_on_disk(ledger))
        return drawn(self, count)

    NoiseSource.gaussians = gaussians  # type: ignore[method-assign]  # this process only


def steps_on_disk(ledger: Path) -> int:
    """Return how many steps the file's committed entries pay for, as any other process sees it."""
    address = f"file:{ledger}?mode=ro"
    with closing(sqlite3.connect(address, uri=True)) as connection:
        rows = connection.execute("SELECT body FROM entries").fetchall()
    return sum(Entry.from_body(body).steps for (body,) in rows)
