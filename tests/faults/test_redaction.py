"""A product title in a node's exception, log line and metric is in no file of the server."""

import logging
import textwrap
import warnings

import pytest

from client.privacy.policy import POLICY_FILE
from common.release.app_bundle import app_digest
from server.run.cohort import Quorum
from tests.support.fake_node import shops
from tests.support.flower_engine import Engine, as_option, copy_app
from tests.support.ledger_node import LedgerWork, town

__all__ = ["shops", "town"]  # fixtures
pytestmark = pytest.mark.faults
TITLE = "WHITE QUOKKA HEART ZYX-LIGHT HOLDER"
PARTS = ("QUOKKA", "quokka", "ZYX-LIGHT")  # of the title, in whatever dress; no code has them


def test_a_planted_title_stays_on_the_node(town, caplog):
    """A title is in an exception, a log line, a warning and a metric: in no file of the server."""

    class Careless(LedgerWork):
        def before(self, kind, number):
            if self.merchant != "cedar":
                return
            logging.getLogger("client.shop").error("training on %s", TITLE)
            if number == 1:
                raise ValueError(TITLE)
            if number == 2:
                self.metrics = {TITLE: 1.0}
            if number == 3:
                self.metrics = {"epsilon": float("nan")}
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    warnings.warn(TITLE, stacklevel=1)

    town.shops.make = Careless
    strategy = town.run(quorum=Quorum(1, 0.5, 0.0))
    assert [one.participants for one in strategy.history] == [2, 2, 2, 2, 2, 2]
    server = [one for one in caplog.records if one.name.startswith(("server", "flwr"))]
    assert server
    assert {one.name for one in caplog.records if TITLE in one.getMessage()} == {"client.shop"}
    files = [path for path in town.run_folder.rglob("*") if path.is_file()]
    assert len(files) >= 3
    for path in files:
        assert not holds_title(path), path


def holds_title(path):
    content = path.read_bytes()
    return any(part.encode() in content for part in PARTS)


# ------------------------------------------------------- Flower's own processes
WORK = '''
"""A careless node: it lets a title into whatever it does, each round in another way."""
import logging, sys, warnings
import numpy as np

from common.adapter import AdapterUpdate
from common.wire.messages import Prepared


class Work:
    def __init__(self, settings):
        self.merchant, self.metrics = settings.merchant, {}
        self.title = (settings.data / "title.txt").read_text()

    def prepare(self, basis, settings):
        return Prepared(self.merchant, "digest", np.arange(1, 4, dtype=np.uint64))

    def commitment(self, plan, run_id):
        return ""

    def revealed_canaries(self, plan, run_id):
        return None

    def accept(self, note):
        pass

    def public_metrics(self):
        return self.metrics

    def train(self, adapter, popularity, plan, run_id, round_number):
        if self.merchant == "ash":
            for name in ("", "flwr", "client.node.participant"):
                logging.getLogger(name).error("training on %s", self.title)
            print(self.title, flush=True)
            print(self.title, file=sys.stderr, flush=True)
            warnings.warn(self.title)
            if round_number == 1:
                raise ValueError(self.title)
            if round_number == 2:
                self.metrics = {self.title: 1.0}
            if round_number == 3:
                raise SystemExit(self.title)
        return AdapterUpdate(np.ones(adapter.size, np.float32), round_number, plan.digest)

MerchantWork = Work
'''
COORDINATION = '''
"""A small run over whatever nodes there are."""
from pathlib import Path
import numpy as np
from common.adapter import AdapterState
from common.privacy.accounting.plan import PrivacyPlan
from client.privacy.policy import POLICY_FILE
from common.release.app_bundle import app_digest
from server.run.cohort import Quorum
from common.federation.optimiser import AdamScalar
from server.run.strategy import RunSetup

PLAN = PrivacyPlan(
    sample_rate=0.5, steps=4, noise_multiplier=1.0, max_grad_norm=1.0, size_bracket=100,
    delta=1e-3, dp_model="local",
)


def open_run(run_config):
    return RunSetup(
        adapter=AdapterState({"b": np.zeros((3, 4), dtype=np.float32)}),
        basis=b"public", plan=PLAN, settings={"seed": 1}, optimiser=AdamScalar(),
        learning_rate=0.1, quorum=Quorum(2, 0.5, 240.0), round_timeout=90.0,
        folder=Path(str(run_config["folder"])),
    )
'''


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_planted_title_stays_on_a_deployed_node(tmp_path):
    """The same with SuperLink and SuperNodes: database, logs and checkpoints hold no title."""
    app = copy_app(tmp_path)
    (app / "client" / "node" / "participant.py").write_text(textwrap.dedent(WORK))
    (app / "server" / "run" / "setup.py").write_text(textwrap.dedent(COORDINATION))
    # The server keeps the app's code, so a word of the code would count as a title.
    assert not any(holds_title(path) for path in app.rglob("*.*"))
    there = tmp_path / "there"
    with Engine(tmp_path / "home", simulation=False) as engine:
        for name in ("ash", "birch", "cedar"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "title.txt").write_text(TITLE)
            (tmp_path / name / POLICY_FILE).write_text(f'app_digests = ["{app_digest(app)}"]\n')
            engine.add_node(tmp_path / name)
        row = engine.run(app, "--run-config", as_option({"folder": str(there)}), timeout=6000)
        assert row["status"] == "finished:completed", engine.log()
    assert any(holds_title(path) for path in engine.home.glob("node-*.log"))  # it was said there
    server = [
        path
        for path in (*engine.home.rglob("*"), *there.rglob("*"))
        if path.is_file() and not path.relative_to(tmp_path).parts[1].startswith("node-")
    ]
    names = {path.name for path in server}
    assert {"superlink.log", "link.db", "checkpoint.json"} <= names
    for path in server:
        assert not holds_title(path), path
