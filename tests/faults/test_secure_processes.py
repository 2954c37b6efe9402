"""Kill -9 of a node in each phase of a secure sum: nodes and server are processes of their own."""

import os
import signal
import time
from dataclasses import replace

import pytest

from common.federation.contribution_files import FOLDER
from common.identity.signing_key import PublicKey
from common.privacy.ledger.journal import read_journal
from common.privacy.ledger.ledger import Ledger
from common.privacy.secagg.replay import sum_again
from common.privacy.secagg.transcript import Transcript
from server.run.checkpoint import read_checkpoint
from server.run.cohort import Quorum
from tests.support.fake_node import make_setup
from tests.support.ledger_node import DATASET
from tests.support.process_town import FINISHED, ROUND_SECONDS, ProcessTown
from tests.support.secure_town import BARE, NAMES, SecureWork

pytestmark = pytest.mark.faults
SECONDS, SLOW = 300.0, pytest.mark.slow
PLAN = replace(BARE, steps=5)


class DyingWork(SecureWork):
    """Kills its own process once, when its party has done what `dies` says and told nobody."""

    dies: dict = {}  # noqa: RUF012 - set before the processes are forked
    flags = None

    def party(self, plan, run_id):
        party = super().party(plan, run_id)
        phase = self.dies.get(self.merchant)
        if phase is not None:
            act, flag = getattr(party, phase), self.flags / self.merchant

            def dying(*arguments):
                found = act(*arguments)  # on disk when this returns
                if not flag.exists():
                    flag.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return found

            setattr(party, phase, dying)
        return party


class SecureProcesses(ProcessTown):
    names, make = NAMES, DyingWork

    def setup(self):
        return make_setup(
            plan=PLAN,
            quorum=Quorum(6, 0.5, 30.0),
            round_timeout=ROUND_SECONDS,
            prepare_timeout=ROUND_SECONDS,
            folder=self.run_folder,
            journal=self.run_folder / "journal.jsonl",
        )


@pytest.fixture
def processes(tmp_path):
    town = SecureProcesses(tmp_path)
    DyingWork.flags = tmp_path
    yield town
    DyingWork.dies = {}
    town.stop_all()


def finish(town, dies):
    """Run to the end; who dies is started again."""
    DyingWork.dies = dies
    for who in NAMES:
        town.start(who)
    while len(list(town.post.glob("*.alive"))) < len(NAMES):
        time.sleep(0.05)
    town.start("server")
    end, restarted = time.monotonic() + SECONDS, []
    while time.monotonic() < end:
        status = town.ended("server")
        if status is not None:
            assert status == FINISHED, (town.root / "server.log").read_text()[-3000:]
            return restarted
        for who in NAMES:
            if town.ended(who) is not None:
                restarted.append(who)
                town.start(who)
        time.sleep(0.02)
    raise AssertionError("The run did not end.")


@pytest.mark.parametrize(
    ("dies", "first", "last"),
    [
        pytest.param({NAMES[3]: "advertise"}, 7, 7, marks=SLOW),
        pytest.param({NAMES[3]: "share"}, 7, 7, marks=SLOW),
        pytest.param({NAMES[3]: "accept"}, 7, 7, marks=SLOW),
        pytest.param({NAMES[3]: "mask"}, 7, 8, marks=SLOW),
        pytest.param({NAMES[3]: "unmask"}, 8, 8, marks=SLOW),
        ({NAMES[7]: "mask", NAMES[3]: "view"}, 7, 8),
    ],
    ids=lambda value: "+".join(value.values()) if isinstance(value, dict) else "",
)
def test_a_run_outlives_a_node_that_is_killed_in_a_phase(processes, dies, first, last):
    """It ends whole; the node that was killed has its party on disk and is in a later round again.

    One that is killed in the setup is not in the run, and is asked for nothing of its shoppers.
    """
    assert sorted(finish(processes, dies)) == sorted(dies)
    processes.stop_all()
    checkpoint = read_checkpoint(processes.run_folder)
    assert checkpoint.round_number == PLAN.rounds
    counts = [one.participants for one in checkpoint.history]
    assert (counts[0], max(counts)) == (first, last)
    ledgers = {
        name: Ledger.open(processes.federation / name / "node/ledger.sqlite", name, DATASET)
        for name in NAMES
    }
    identities = {name: PublicKey(bytes.fromhex(one.signer)) for name, one in ledgers.items()}
    journal = read_journal((processes.run_folder / "journal.jsonl").read_bytes())
    rounds = [one for one in journal if one.kind == "train"]
    for number, entry in enumerate(rounds, 1):
        content = (processes.run_folder / FOLDER / f"round-{number:05d}.sum").read_bytes()
        total = sum_again(Transcript.from_bytes(content), identities)
        assert total.survivors == entry.participants
        for name in total.survivors:
            charged = [one.round_number for one in ledgers[name].entries() if one.run_id]
            assert charged.count(number) == 1
