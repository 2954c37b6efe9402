"""Start a run on the operator's server and follow it to its end."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from common.catalogue import read_catalogue
from common.errors import FederationError, SettingsError
from common.settings.run import Scalar
from server.operations.door.keeping import narrow_to
from server.operations.experiment import Experiment, RunFolder
from server.operations.folder import ServerFolder
from server.operations.superlink import Control, RunState, control
from server.releases.decision import await_decision
from server.run.checkpoint import RoundRecord, read_history
from server.run.files import CATALOGUE_FILE
from server.run.oversight.run_state import mark_ended

POLL_SECONDS = 2.0
STILL_SECONDS = 60.0  # how long the operator hears nothing
AWAY_SECONDS = 60.0  # a busy SuperLink may not answer for a while; the run goes on meanwhile
APP_FILE = "pyproject.toml"
Say = Callable[[str], None]


def federate(server: ServerFolder, experiment: Experiment, app: Path, say: Say) -> None:
    """Run an experiment to its end, or go on from its last checkpoint.

    Ctrl-C stops the run after what is on disk; the same call goes on. If this process dies, the
    run goes on without it, and the same call follows it again.

    Args:
        server: The server's folder.
        experiment: What to run.
        app: The folder with fedtail's code, which is sent to the nodes.
        say: Told what happens, one line each.

    Raises:
        FederationError: if the server is not up, another run goes on, or the run failed.
        ReleaseError: if the release fails its gate on public shoppers.
        KeyboardInterrupt: as pressed, once the run is stopped.
    """
    run = RunFolder.prepare(server, experiment)
    if run.released:
        say(f"This run has ended before: release {run.released}.")
        return
    experiment = run.settled(experiment, datetime.now(UTC).date())
    for name, choice in experiment.chosen.items():
        say(f"auto: {name}={choice.value}, {choice.reason}")
    items = len(read_catalogue(run.root / CATALOGUE_FILE))
    if told := narrow_to(server, experiment.settings, items):
        say(told)
    if experiment.public_holdout is not None:
        await_decision(run.root)
    with control(server) as link:
        config = run.config(server, experiment.settings)
        run_id = _start_or_join(link, run, app, config, say)
        run.note_run_id(run_id)
        try:
            state = _follow(link, run_id, run.root, experiment.settings.rounds, say)
        except KeyboardInterrupt:
            link.stop_run(run_id)
            mark_ended(run.root)
            done = len(read_history(run.root))
            say(f"Stopped after round {done}. The same command goes on from there.")
            raise
    if not state.succeeded:
        why = (state.details or "no reason was given").rstrip(".")
        raise FederationError(
            f"The run ended as {state.outcome}: {why}. The log is {server.logs / 'superlink.log'}. "
            f"Once that is mended, the same command goes on from round "
            f"{len(read_history(run.root))}.",
            field="run",
        )
    _gate(server, run, experiment, say)
    season = "" if experiment.settings.rounds else " --season"
    say(f"Run {run.root.name} has ended. Sign its release: fedtail server publish{season}")


def app_folder() -> Path:
    """Return the folder that this code was started from, which holds the app to send.

    Raises:
        SettingsError: if it was installed without its checkout.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / APP_FILE).is_file():
        raise SettingsError(
            f"{folder} has no {APP_FILE}: name the checkout whose code the nodes shall run with "
            "--app.",
            field="app",
        )
    return folder


def _start_or_join(
    link: Control, run: RunFolder, app: Path, config: Mapping[str, Scalar], say: Say
) -> int:
    for going in link.runs():
        if going.finished:
            continue
        if going.folder != config["folder"]:
            raise FederationError(
                f"Another run goes on ({Path(going.folder).name}, number {going.run_id}); a node "
                "trains for one at a time. Wait for its end, or stop it.",
                field="run",
            )
        say(f"Run {going.run_id} goes on; following it.")
        return going.run_id
    done = len(read_history(run.root))
    run_id = link.start_run(app, config)
    after = f", going on after round {done}" if done else ""
    rounds = f"{config['rounds']} rounds" if config["rounds"] else "the season alone"
    say(f"Run {run_id} of {run.root.name}: {rounds}{after}.")
    say("Preparing: the catalogue is encoded here where it is new, then each node prepares.")
    return run_id


def _follow(link: Control, run_id: int, folder: Path, rounds: int, say: Say) -> RunState:
    shown, answered = len(read_history(folder)), time.monotonic()
    began = told = answered
    while True:
        try:
            state = link.run(run_id)  # first this, then the rounds: none is missed at the end
        except FederationError:
            if time.monotonic() - answered > AWAY_SECONDS:
                raise
            time.sleep(POLL_SECONDS)
            continue
        answered = time.monotonic()
        for record in read_history(folder)[shown:]:
            say(round_line(record, rounds))
            shown, began = record.round_number, time.monotonic()
            told = began
        if time.monotonic() - told > STILL_SECONDS and not state.finished:
            told = time.monotonic()
            first = "Preparing, and round 1" if rounds else "Preparing, and the season"
            what = f"Round {shown + 1}/{rounds}" if shown else first
            say(f"{what}: {told - began:.0f} s so far.")
        if state.finished:
            return state
        time.sleep(POLL_SECONDS)


def round_line(record: RoundRecord, rounds: int) -> str:
    """Return what an operator reads about a round."""
    spent = "" if record.epsilon is None else f", ε {record.epsilon:.2f}"
    lost = f", {record.failures} without an update" if record.failures else ""
    heard = f"{record.participants} nodes" if record.participants else "given up"
    kilobytes = (record.bytes_up + record.bytes_down) / 1000
    return (
        f"Round {record.round_number}/{rounds}: {heard}{lost}{spent}, "
        f"{kilobytes:,.0f} kB, {record.seconds:.1f} s"
    )


def _gate(server: ServerFolder, run: RunFolder, experiment: Experiment, say: Say) -> None:
    """Judge the run on the operator's public shoppers, if there are any.

    Raises:
        ReleaseError: if it does not pass; no release of it is signed then.
    """
    from server.releases.public_holdout import check_release  # noqa: PLC0415 - torch loads here

    holdout = experiment.public_holdout
    if not experiment.settings.rounds:
        say("Its adapter is that of the release it refreshes, which was judged or not, as it was.")
        return
    if holdout is None:
        say("No public shoppers are named: its release is not judged before it is signed.")
        return
    decision = check_release(run.root, experiment.settings, holdout, server.cache.resolve())
    say(f"Gate passed on {decision.cases} public shoppers: {decision.reason}")
