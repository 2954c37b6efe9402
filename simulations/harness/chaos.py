"""Kill a node at random moments, again and again, and look at its ledger each time.

    python -m simulations.harness.chaos --kills 200      (make chaos)

A child process trains on a small synthetic shop: real model, real ledger file, secure noise. It is
killed with SIGKILL, started again on what it left, and killed again. Where it was when it died is
known from marks that it writes to a file opened for appending: what a dead process has written
stays. Just before noise is drawn it also notes how many steps the ledger file has on disk, read
through a connection of its own. After each death this process copies the ledger with its
write-ahead log, so that what the child left stays as it was, and asserts on the copy:

- it opens, and its chain and signatures hold;
- each draw of noise had its step on disk before it;
- what is charged stays within the policy's ceiling, by the filter and by all three accountants;
- nothing that was on the ledger at an earlier death is gone.

At the end a child runs until the budget refuses it.
"""

import os
import random
import select
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from client.privacy.budget import LEDGER_FILE
from client.privacy.policy import Policy, read_policy
from common.encoder.catalogue_encoder import encode_catalogue, fit_public_basis
from common.errors import PrivacyError
from common.privacy.accounting.accountants import account, budget_share
from common.privacy.ledger.entry import Entry, spent_events
from common.privacy.ledger.ledger import Ledger
from common.settings.run import RunSettings
from simulations.data.marketplace import make_marketplace
from simulations.data.marketplace_settings import MarketplaceSettings
from simulations.data.shop import Shop
from simulations.federation.folders import write_federation
from simulations.harness.chaos_child import ENDED, MERCHANT, READY, Ground, read_marks, run_child

OPENING_SHARE = 0.25  # of the kills that may come while the node still opens
PATIENCE = 120.0  # seconds after which a child that does nothing is a failure
ROUNDS_A_KILL = 2.5  # how many the budget pays for, so that it lasts to the last kill


@dataclass
class Outcome:
    """What happened over all kills.

    Attributes:
        phases: How often a child died in each phase.
        draws: Draws of noise noted so far.
        entries: The ledger's entries at the last death.
    """

    phases: Counter[str] = field(default_factory=Counter)
    draws: int = 0
    entries: tuple[Entry, ...] = ()


def torment(folder: Path, kills: int, seed: int) -> Outcome:
    """Train, kill and check `kills` times, then run to the end of the budget.

    Args:
        folder: An empty folder; the shop, the ledger and the marks stay in it.
        kills: How often.
        seed: Of the moments at which a child is killed; its noise is not seeded.

    Raises:
        PrivacyError: saying which promise was broken.
    """
    ground = prepare(folder, kills)
    chooser, outcome = random.Random(seed), Outcome()  # noqa: S311 - when to kill, no secret
    opening, one_round = _durations(ground)
    check(ground, outcome)
    for _ in range(kills):
        marked = len(read_marks(ground.marks))
        in_opening = chooser.random() < OPENING_SHARE
        after = chooser.uniform(0, opening if in_opening else 2 * one_round)
        one = replace(ground, encoded=None) if in_opening else ground
        _kill(one, after, wait_until_ready=not in_opening)
        fresh = read_marks(ground.marks)[marked:]
        outcome.phases[fresh[-1].phase if fresh else "before its first mark"] += 1
        check(ground, outcome)
    status = _wait(_start(ground)[0])
    check(ground, outcome)
    last = read_marks(ground.marks)[-1]
    if status != 0 or last.phase != ENDED:
        raise PrivacyError(
            f"Training did not end by refusal: status {status}, last in {last.phase}.",
            field="budget",
        )
    return outcome


def prepare(folder: Path, kills: int) -> Ground:
    """Make the shop, and encode its catalogue in this process: what a child finds warm."""
    torch.set_num_threads(1)  # a thread would not survive the fork
    settings = RunSettings(
        rounds=int(ROUNDS_A_KILL * kills) + 10, epsilon=4.0, rank=4, negatives=64, max_history=30
    )
    size = MarketplaceSettings(merchants=1, min_shoppers=40, max_shoppers=40, items=120)
    shop, merchants = Shop.of(make_marketplace(size, seed=0).data), folder / "merchants"
    writer = os.fork()  # Polars starts threads: they must not be in the process that forks children
    if writer == 0:
        try:
            write_federation([shop], merchants, settings.plan())
            os._exit(0)
        finally:
            os._exit(1)
    if _wait(writer) != 0:
        raise PrivacyError("The shop could not be written.", field="shop")
    cache = folder / "cache"
    basis = fit_public_basis(shop.data.catalogue, settings, cache)
    encoded = encode_catalogue(shop.data.catalogue, basis, settings, cache)
    data = next(path for path in merchants.iterdir() if path.is_dir())
    return Ground(
        data,
        cache,
        folder / "marks.log",
        basis.to_bytes(),
        settings,
        encoded.encoder.adapter(),
        encoded,
    )


def check(ground: Ground, outcome: Outcome) -> None:
    """Assert every promise on a copy of what the child left.

    Raises:
        PrivacyError: saying which one was broken; also a LedgerError, if the copy is not one.
    """
    entries = entries_of_copy(ground)
    known = outcome.entries
    if entries[: len(known)] != known:
        raise PrivacyError("An entry that was on the ledger is gone.", field="entries")
    draws = [mark for mark in read_marks(ground.marks) if mark.steps is not None]
    for number, mark in enumerate(draws, 1):
        if mark.steps is not None and mark.steps < number:
            raise PrivacyError(
                f"Noise was drawn {number} times with {mark.steps} step(s) on disk.", field="draws"
            )
    policy, events = read_policy(ground.data), spent_events(entries)
    if sum(event.count for event in events) < len(draws):
        raise PrivacyError("The ledger has fewer steps than draws.", field="draws")
    _check_ceiling(policy, entries)
    outcome.draws, outcome.entries = len(draws), entries


def _check_ceiling(policy: Policy, entries: tuple[Entry, ...]) -> None:
    events = spent_events(entries)
    report = account(events, policy.delta)
    worst = max(report.pld, report.prv, report.rdp)
    if budget_share(events, policy.delta, policy.max_epsilon) > 1 or worst > policy.max_epsilon:
        raise PrivacyError(
            f"Epsilon is {worst:.4f}, above the ceiling of {policy.max_epsilon:.4f}.",
            field="max_epsilon",
        )


def entries_of_copy(ground: Ground) -> tuple[Entry, ...]:
    """Return the ledger's entries, each checked, from a copy of its files.

    Raises:
        LedgerError: if it cannot be read or trusted.
    """
    if not ground.ledger.exists():
        return ()
    with TemporaryDirectory() as elsewhere:
        copy = Path(elsewhere)
        for path in ground.ledger.parent.glob(f"{LEDGER_FILE}*"):
            shutil.copy2(path, copy / path.name)
        path = copy / LEDGER_FILE
        return Ledger.open(path, MERCHANT).entries()


def _durations(ground: Ground) -> tuple[float, float]:
    """Let a first child live for some rounds; return seconds to open and seconds a round."""
    child, ready = _start(replace(ground, encoded=None))
    began = time.perf_counter()
    _await_ready(child, ready)
    opening = time.perf_counter() - began
    time.sleep(max(1.0, opening))
    os.kill(child, signal.SIGKILL)
    _wait(child)
    rounds = [mark.time for mark in read_marks(ground.marks) if mark.phase == READY]
    if len(rounds) < 3:
        return opening, opening
    return opening, (rounds[-1] - rounds[0]) / (len(rounds) - 1)


def _kill(ground: Ground, after: float, *, wait_until_ready: bool) -> None:
    """Start a child and kill it `after` seconds, counted from its first round or its start."""
    child, ready = _start(ground)
    if wait_until_ready:
        _await_ready(child, ready)
    else:
        os.close(ready)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    status = _wait(child)
    if status != -signal.SIGKILL:
        raise PrivacyError(f"A child ended by itself with status {status}.", field="child")


def _start(ground: Ground) -> tuple[int, int]:
    """Fork a child that trains; return its number, and the pipe on which it says it is ready."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        run_child(ground, writer)
    os.close(writer)
    return child, reader


def _await_ready(child: int, ready: int) -> None:
    heard, _, _ = select.select([ready], [], [], PATIENCE)
    said = os.read(ready, 1) if heard else b""
    os.close(ready)
    if not said:
        os.kill(child, signal.SIGKILL)
        raise PrivacyError(f"A child came to no round: status {_wait(child)}.", field="child")


def _wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def show(outcome: Outcome, policy: Policy) -> None:
    """Print where children died and what their ledger holds."""
    table = Table(title=f"{outcome.phases.total()} kills")
    table.add_column("killed in")
    table.add_column("times", justify="right")
    for phase, times in outcome.phases.most_common():
        table.add_row(phase, str(times))
    console = Console()
    console.print(table)
    report = account(spent_events(outcome.entries), policy.delta)
    console.print(
        f"{len(outcome.entries)} entries on the ledger, {outcome.draws} draws of noise, each with "
        f"its step on disk before it. Epsilon {report.pld:.3f} by PLD, {report.prv:.3f} by PRV, "
        f"{report.rdp:.3f} by RDP; ceiling {policy.max_epsilon:.3f}; training ended by refusal."
    )


def main(
    kills: Annotated[int, typer.Option(min=1, help="How often the node is killed.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the moments of the kills.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="An empty folder to keep; else one that is removed.")
    ] = None,
) -> None:
    """Kill a node at random moments and check its ledger after each."""
    with TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        outcome = torment(folder, kills, seed)
        policy = read_policy(next((folder / "merchants").glob("*/")))
        show(outcome, policy)
        Console().print(f"{time.perf_counter() - began:.0f} s; seed {seed}.")


if __name__ == "__main__":
    typer.run(main)
