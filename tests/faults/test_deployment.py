"""A deployment as an operator and merchants start it, and kill -9 at the worst time."""

import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from client.node.settings import merchant_folders
from client.privacy.budget import LEDGER_FILE
from client.privacy.policy import POLICY_FILE, Policy
from client.shop.dataset import load_merchant_data
from common.encoder.base_model import load_base_model
from common.identity.signing_key import PublicKey
from common.privacy.accounting.accountants import ceiling_for, epsilon_rdp
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.ledger import Ledger
from common.processes import start_child, stopping
from common.release.app_bundle import app_digest
from common.release.parent import differences
from common.release.verify import verify_release
from common.settings.run import RunSettings
from server.monitoring.journal_view import read_view
from server.run.checkpoint import read_history
from server.run.files import CATALOGUE_FILE
from simulations.data.marketplace import MarketplaceSettings, make_marketplace
from simulations.data.partition import partition_merchants
from simulations.data.shop import Shop
from simulations.federation.folders import write_federation
from simulations.federation.memory import descendants
from simulations.harness.deployment import KEYS, Deployment, experiment_text, free_port
from simulations.harness.hosts import Host, Hosts
from tests.support.flower_engine import copy_app

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(7200)]
NAMES = ("ash", "birch", "cedar")
WORK = '''
"""A node with its real ledger and policy, whose updates need no model: quick, for tests."""
import numpy as np
from client.privacy.budget import charge_round
from client.privacy.contributions import sign_contribution
from client.privacy.policy import POLICY_FILE, Policy
from client.privacy.receipts import accept, covered
from common.adapter import AdapterUpdate
from common.encoder.public_basis import PublicBasis
from common.privacy.ledger.ledger import Ledger
from common.settings.run import RunSettings
from common.wire.messages import Prepared

LEDGER_FILE = "ledger.sqlite"


class Work:
    def __init__(self, node):
        self.node = node
        self.policy = Policy.from_toml(node.data / POLICY_FILE)
        self.ledger = Ledger.open(node.state / LEDGER_FILE, node.merchant)

    def prepare(self, basis, settings):
        ends = len(RunSettings.from_flat(settings).season_moments)
        numbers = ends * PublicBasis.from_bytes(basis).vector_width
        (self.node.state / "season.txt").write_text(str(numbers))
        keys = np.load(self.node.data / "keys.npy")
        model = (self.node.data / "model.txt").read_text()
        return Prepared(self.node.merchant, "digest", keys, base_model=model)

    def charge(self, plan, run_id, number, kind):
        charge_round(self.ledger, plan, self.policy, str(run_id), number, kind)

    def popularity(self, plan, run_id, round_number):
        self.charge(plan, run_id, round_number, "popularity")
        return np.ones(len(np.load(self.node.data / "keys.npy")), np.float32)

    def season(self, plan, run_id):
        self.charge(plan, run_id, 0, "season")
        return np.ones(int((self.node.state / "season.txt").read_text()), np.float32)

    def train(self, adapter, popularity, plan, run_id, round_number):
        self.charge(plan, run_id, round_number, "train")
        return AdapterUpdate(np.full(adapter.size, 0.01, np.float32), round_number, plan.digest)

    def accept(self, note):
        accept(self.ledger, note)

    def head(self, journal):
        return self.ledger.signed_head(covered(self.ledger, journal))

    def contribution(self, vector, purpose):
        return sign_contribution(self.ledger, vector, purpose)

    def commitment(self, plan, run_id):
        return ""

    def public_metrics(self):
        return {}

MerchantWork = Work
'''

BAD_LINE = '''
"""Cuts a SuperNode's line: what it sends of a reply has come, and the answer to that is lost."""
import os, sys
from collections import Counter

if "client.deployment.supernode_process" in sys.orig_argv:
    import httpx

    lost, send = Counter(), httpx.HTTPTransport.handle_request

    def cut(transport, request):
        answer = send(transport, request)
        path = request.url.path.rpartition("/")[2]
        if path in {"push-object", "push-messages"}:
            answer.read()
            digest = hash(request.content)
            with open(os.environ["CUT_LINES"], "a") as file:
                file.write(f"{path} {digest} {answer.status_code} {lost[digest]}\\n")
            lost[digest] += 1
            if lost[digest] <= 2:
                answer.close()
                raise httpx.ReadError("the line broke", request=request)
        return answer

    httpx.HTTPTransport.handle_request = cut
'''


def settings_for(tiny_bert):
    return RunSettings(
        base_model=str(tiny_bert),
        rounds=4,
        rank=3,
        negatives=40,
        max_tokens=24,
        size_bracket=50,
        min_merchants=2,
        quorum=0.5,
        wait_seconds=180.0,
        round_timeout=100.0,
        audit_canaries=0,
    )


def kill_all(child):
    """SIGKILL to a process and all that it has started."""
    for pid in (child.process.pid, *descendants(child.process.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.process.wait()


def wait_for(what, seconds=240.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.3)


@pytest.fixture
def deployment(tiny_bert, tmp_path, monkeypatch):
    """A server and three nodes with small shops, up and connected."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("simulations.harness.deployment.START_SECONDS", 400.0)
    settings = settings_for(tiny_bert)
    size = MarketplaceSettings(merchants=3, min_shoppers=40, max_shoppers=60, items=200)
    data = make_marketplace(size, seed=0).data
    parts = partition_merchants(data, how="column", merchants=3, seed=0)
    write_federation([Shop.of(part) for part in parts], tmp_path / "shops", settings.plan())
    hosts = Hosts("127.0.0.1", tuple(Host((), "127.0.0.1") for _ in NAMES), separate=False)
    one = Deployment(tmp_path, hosts, port=free_port(), superlink_port=free_port())
    one.set_up()
    for name, shop in zip(NAMES, merchant_folders(tmp_path / "shops"), strict=True):
        one.enrol(name, shop, hosts.nodes[0])
    (tmp_path / "first.toml").write_text(
        experiment_text(settings, tmp_path / "shops" / CATALOGUE_FILE)
    )
    app = copy_app(tmp_path)
    (app / "client" / "node" / "participant.py").write_text(WORK)
    allowed = f'app_digests = ["{app_digest(app)}"]\n'  # it is not the installed version
    model = load_base_model(str(tiny_bert)).digest
    for shop in merchant_folders(tmp_path / "shops"):
        np.save(shop / "keys.npy", load_merchant_data(shop).catalogue.text_keys)
        (shop / "model.txt").write_text(model)
        with (shop / POLICY_FILE).open("a") as file:
            file.write(allowed)
    with all_up(one, NAMES):
        yield one


@contextlib.contextmanager
def all_up(one, names):
    """Have server and nodes up while open."""
    with stopping(one.children):
        for who in ("server", *names):
            up(one, who)
        yield


def up(one, who):
    """Start the server or a node, as its owner does after a power cut."""
    one.children[:] = [child for child in one.children if child.name != who]
    if who == "server":
        command = ("server", "start", "--folder", "server")
        return one.start(who, *command, ready="Merchants connect to")
    return one.start(who, "client", "start", "--folder", who, ready="is connected")


def federate(name):
    return ("server", "federate", "--folder", "server", "--app", "fedtail", f"{name}.toml")


def publish(name):
    return ("server", "publish", "--folder", "server", "--keys", "keys", f"{name}.toml")


def child_of(one, who):
    return next(child for child in one.children if child.name == who)


def test_server_and_node_killed(deployment, tmp_path):
    """Kill -9 to the server and a node in a run: the same commands again end with a release."""
    run = tmp_path / "server" / "runs" / "first"
    line = deployment._line(federate("first"), None)
    first = start_child("federate", line, tmp_path / "federate.out")
    deployment.children.append(first)
    wait_for(lambda: len(read_history(run)) >= 1 or first.ended is not None, 600.0)
    assert first.ended is None, first.last_output()
    kill_all(child_of(deployment, "birch"))
    kill_all(child_of(deployment, "server"))
    wait_for(lambda: first.ended is not None)
    assert first.ended != 0
    up(deployment, "server")
    up(deployment, "birch")
    deployment.command(*federate("first"))
    assert "is signed" in deployment.command(*publish("first"))
    version = next((tmp_path / "server" / "releases").glob("2*"))
    verify_release(version, PublicKey.load(tmp_path / "ash" / "operator.pub"))
    view = read_view(tmp_path / "server")
    assert [one.name for one in view.merchants] == list(NAMES)  # nobody enrolled again
    assert [one.round_number for one in view.runs[0].rounds] == [1, 2, 3, 4]
    assert view.refusals == ()
    for name, shop in zip(NAMES, merchant_folders(tmp_path / "shops"), strict=True):
        check_ledger(shop, name, [one for one in view.runs[0].rounds if name in one.merchants])


def test_the_answer_to_a_reply_is_lost(deployment, tmp_path, monkeypatch):
    """Whatever a node sends of a reply is sent three times: charged and counted once each round."""
    (tmp_path / "line").mkdir()
    (tmp_path / "line" / "sitecustomize.py").write_text(BAD_LINE)
    child_of(deployment, "birch").stop()
    with monkeypatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path / "line"))
        patch.setenv("CUT_LINES", str(tmp_path / "cuts"))
        up(deployment, "birch")
    deployment.command(*federate("first"))
    cuts = [line.split() for line in (tmp_path / "cuts").read_text().splitlines()]
    times = Counter(digest for _, digest, _, _ in cuts)
    replies = [
        digest for path, digest, _, number in cuts if path == "push-messages" and number == "0"
    ]
    assert len(replies) >= 7  # a preparation, the histogram, the season, four rounds
    assert set(times.values()) == {3}
    assert {status for _, _, status, _ in cuts} == {"200"}
    view = read_view(tmp_path / "server")
    assert [one.merchants for one in view.runs[0].rounds] == [NAMES] * 4
    assert view.refusals == ()
    shop = dict(zip(NAMES, merchant_folders(tmp_path / "shops"), strict=True))["birch"]
    entries = Ledger.open(shop / "node" / LEDGER_FILE, "birch").entries()
    assert Counter((one.kind, one.round_number) for one in entries) == Counter(
        [("popularity", 0), ("season", 0), *(("train", number) for number in (1, 2, 3, 4))]
    )


def check_ledger(shop: Path, name: str, used):
    policy = Policy.from_toml(shop / POLICY_FILE)
    entries = Ledger.open(shop / "node" / LEDGER_FILE, name).entries()
    assert epsilon_rdp(spent_events(entries), policy.delta) <= policy.max_epsilon
    counts = Counter(one.round_number for one in entries if one.kind == "train")
    assert all(counts[one.round_number] >= 1 for one in used)
    assert max(counts.values()) <= 2


def test_the_commands_of_the_how_to_pages(deployment, tmp_path):
    """Rotate a key, put a merchant out, lose a disk, start anew: each as its page says."""
    run, shop = deployment.command, tmp_path / "shops"
    places = dict(zip(NAMES, merchant_folders(shop), strict=True))
    for place in places.values():  # it was for one run, and here are two
        allowed = (place / POLICY_FILE).read_text().splitlines()[-1]
        (place / POLICY_FILE).write_text(f"max_epsilon = 50.0\nmax_run_epsilon = 50.0\n{allowed}\n")
    # rotate
    run("client", "rotate", "--folder", "ash")
    told = run("server", "enrol", "--folder", "server", *KEYS, "--request", "ash/enrol.json")
    assert "The running server lets ash in." in told
    assert "refuses the old key of ash" in told
    wait_for(lambda: child_of(deployment, "ash").ended is not None)
    run("client", "rotate", "--folder", "ash", "--done")
    up(deployment, "ash")
    # remove
    run("server", "revoke", "--folder", "server", "--name", "cedar")
    gone = child_of(deployment, "cedar")
    wait_for(lambda: gone.ended is not None)
    assert "does not know this node's key" in " ".join(gone.last_output().split())
    assert "cedar" in run("server", "nodes", "--folder", "server")
    # a run of the two that are left, and its journal
    run(*federate("first"))
    assert "is signed" in run(*publish("first"))
    printed = run("server", "journal", "server")
    assert "first: 4 of 4 rounds" in printed
    view = read_view(tmp_path / "server")
    assert {one.merchants for one in view.runs[0].rounds} == {("ash", "birch")}
    # a lost disk, the ledger and its key with it
    child_of(deployment, "birch").stop()
    shutil.rmtree(places["birch"] / "node")
    recover = ("client", "recover", "--shop", str(places["birch"]), "--merchant", "birch")
    journal = ("--journal", "server/journal/journal.jsonl", "--key", view.signer)
    assert "The ledger is whole." in run(*recover, *journal)
    # an upgrade: stop, keep a copy, start
    child_of(deployment, "server").stop()
    shutil.copytree(tmp_path / "server", tmp_path / "server.before")
    up(deployment, "server")
    up(deployment, "birch")
    (tmp_path / "second.toml").write_bytes((tmp_path / "first.toml").read_bytes())
    run(*federate("second"))
    assert "is signed" in run(*publish("second"))
    again = read_view(tmp_path / "server")
    assert {one.merchants for one in again.runs[1].rounds} == {("ash", "birch")}
    keys = [{one.name: one.key for one in seen.merchants}["birch"] for seen in (view, again)]
    assert keys[0] != keys[1]  # the new ledger's key was taken, as the node is enrolled
    assert again.refusals == ()


def test_a_season_is_refreshed_between_trainings(deployment, tmp_path):
    """Train, refresh, fetch: a new release with the old adapter, charged once more on each node."""
    run, shops = deployment.command, merchant_folders(tmp_path / "shops")
    for place in shops:  # a policy for the run alone would not cover a refresh
        allowed = (place / POLICY_FILE).read_text().splitlines()[-1]
        (place / POLICY_FILE).write_text(f"max_epsilon = 50.0\nmax_run_epsilon = 50.0\n{allowed}\n")
    later = datetime.now(UTC).date()
    with (tmp_path / "first.toml").open("a") as file:
        file.write(f'season_ends = "{later - timedelta(days=7)}"\n')
    run(*federate("first"))
    run(*publish("first"))
    run("client", "fetch", "--folder", "ash")
    refresh = ("server", "refresh", "--folder", "server", "--app", "fedtail", "first.toml")
    told = run(*refresh, "--day", later.isoformat(), "--epsilon", "0.3")
    assert "the season alone" in told
    assert "is signed" in run(*publish("first"), "--season")
    assert "is published" in publish_again(deployment)
    run("client", "fetch", "--folder", "ash")
    key = PublicKey.load(tmp_path / "ash" / "operator.pub")
    places = sorted(
        (tmp_path / "server" / "releases").glob("2*"), key=lambda one: one.stat().st_mtime
    )
    parent, child = (verify_release(one, key) for one in places)
    assert (tmp_path / "ash" / "current").resolve().name == child.manifest.version
    assert child.manifest.parent == parent.manifest.digest
    assert differences(child, parent) == {}
    assert child.season.ends[-1] > parent.season.ends[-1]
    for name, shop in zip(NAMES, shops, strict=True):
        entries = Ledger.open(shop / "node" / LEDGER_FILE, name).entries()
        assert Counter(one.kind for one in entries) == {"popularity": 1, "season": 2, "train": 4}
        told = child.manifest.privacy.merchants[name]
        assert told.epsilon == pytest.approx(
            ceiling_for(spent_events(entries), told.delta), rel=2e-3
        )
    assert [one.name for one in read_view(tmp_path / "server").runs] == [
        "first",
        f"first-season-{later}",
    ]


def publish_again(deployment):
    with pytest.raises(RuntimeError) as caught:
        deployment.command(*publish("first"), "--season")
    return str(caught.value)
