"""Kill -9 of deployed nodes in each phase of a secure sum, with SuperLink and the real app."""

import shutil
import threading

import pytest

from client.node.settings import merchant_folders
from client.privacy.budget import LEDGER_FILE
from client.privacy.policy import POLICY_FILE
from common.federation.contribution_files import FOLDER as CONTRIBUTIONS
from common.identity.signing_key import PublicKey
from common.privacy.ledger.ledger import Ledger
from common.privacy.secagg.replay import sum_again
from common.privacy.secagg.transcript import Transcript
from common.release.app_bundle import app_digest
from common.release.verify import verify_release
from common.settings.run import RunSettings
from server.run.checkpoint import read_history
from server.run.files import CATALOGUE_FILE
from simulations.data.marketplace import make_marketplace
from simulations.data.marketplace_settings import MarketplaceSettings
from simulations.data.partition import partition_merchants
from simulations.data.shop import Shop
from simulations.federation.folders import write_federation
from simulations.harness.deployment import Deployment, experiment_text, free_port
from simulations.harness.hosts import Host, Hosts
from tests.faults.test_deployment import all_up, child_of, federate, kill_all, publish, up
from tests.support.flower_engine import copy_app

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(3600)]
NAMES = ("ash", "birch", "cedar", "dogwood", "elm", "fir", "gorse", "hazel")
ROUNDS = 5
# Added to the app: a party that has done what `dies` says is on disk, and tells nobody any more.
DYING = """

import time as _time


def _dying(name, act):
    def done(self, *arguments):
        found = act(self, *arguments)
        spec = self._state / "dies"
        phase, times = (spec.read_text().split() if spec.exists() else ("", "0"))
        if phase == name:
            spec.write_text(f"{phase} {int(times) - 1}")
            if int(times) == 1:
                spec.rename(self._state / "died")
                _time.sleep(3600)
        return found

    return done


for _name in ("advertise", "share", "accept", "mask", "view", "unmask"):
    setattr(SecureParty, _name, _dying(_name, getattr(SecureParty, _name)))
"""


@pytest.fixture
def deployment(tiny_bert, tmp_path, monkeypatch):
    """A server and eight nodes with small shops."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("simulations.harness.deployment.START_SECONDS", 600.0)
    settings = RunSettings(
        base_model=str(tiny_bert),
        noise="distributed",
        rounds=ROUNDS,
        rank=3,
        negatives=40,
        max_tokens=24,
        size_bracket=50,
        min_merchants=len(NAMES),
        quorum=0.5,
        wait_seconds=400.0,
        round_timeout=400.0,
        prepare_timeout=400.0,
        grace_seconds=30.0,
    )
    size = MarketplaceSettings(merchants=8, min_shoppers=40, max_shoppers=60, items=200)
    data = make_marketplace(size, seed=0).data
    parts = partition_merchants(data, how="column", merchants=len(NAMES), seed=0)
    write_federation([Shop.of(part) for part in parts], tmp_path / "shops", settings.plan())
    hosts = Hosts("127.0.0.1", tuple(Host((), "127.0.0.1") for _ in NAMES), separate=False)
    one = Deployment(tmp_path, hosts, port=free_port(), superlink_port=free_port())
    one.set_up()
    for name, shop in zip(NAMES, merchant_folders(tmp_path / "shops"), strict=True):
        one.enrol(name, shop, hosts.nodes[0])
    text = experiment_text(settings, tmp_path / "shops" / CATALOGUE_FILE)
    (tmp_path / "first.toml").write_text(text)
    app = copy_app(tmp_path)
    with (app / "client" / "node" / "secure_party.py").open("a") as file:
        file.write(DYING)
    allowed = f'app_digests = ["{app_digest(app)}"]\n'  # it is not the installed version
    for shop in merchant_folders(tmp_path / "shops"):
        with (shop / POLICY_FILE).open("a") as file:
            file.write(allowed)
    with all_up(one, NAMES):
        yield one


def restart_the_dead(one, states, ended):
    """Kill -9 whoever has come to where it dies, and start it again."""
    killed = set()
    while not ended.wait(0.2):
        for name in set(states) - killed:
            if (states[name] / "died").exists():
                killed.add(name)
                kill_all(child_of(one, name))
                up(one, name)


@pytest.mark.parametrize(
    ("dies", "members"),
    [
        ({"birch": "advertise 1", "cedar": "share 1"}, 6),
        ({"birch": "accept 1", "cedar": "mask 2"}, 6),
        ({"birch": "mask 4", "cedar": "view 1"}, 8),
        ({"birch": "unmask 4"}, 8),
    ],
    ids=["keys", "shares", "view", "unmask"],
)
def test_a_deployed_run_outlives_a_node_that_is_killed_in_each_phase(
    deployment, tmp_path, dies, members
):
    """Who dies in the setup is not in the run; who dies in a sum is back some sums later.

    Of eight, two may be missing in a sum. Views are asked for where somebody is.
    """
    shops = dict(zip(NAMES, merchant_folders(tmp_path / "shops"), strict=True))
    states = {name: shops[name] / "node" for name in dies}
    for name, spec in dies.items():
        (states[name] / "dies").write_text(spec)
    ended = threading.Event()
    person = threading.Thread(target=restart_the_dead, args=(deployment, states, ended))
    person.start()
    try:
        deployment.command(*federate("first"))
    finally:
        ended.set()
        person.join()
    assert all((state / "died").exists() for state in states.values())
    assert "is signed" in deployment.command(*publish("first"))
    run = tmp_path / "server" / "runs" / "first"
    history = read_history(run)
    assert [one.round_number for one in history] == list(range(1, ROUNDS + 1))
    assert max(one.participants for one in history) == members
    check_sums(run, shops)
    version = next((tmp_path / "server" / "releases").glob("2*"))
    verify_release(version, PublicKey.load(tmp_path / "ash" / "operator.pub"))
    told = deployment.command("audit", "run", *export(deployment, version, shops))
    assert "Passed: nothing is wrong" in told


def export(one, version, shops):
    """Lay out what each party sends an auditor, and return what `audit run` is given."""
    to, run = one.out / "exported", one.server / "runs" / "first"
    shutil.copytree(version, to / "release")
    shutil.copytree(run / CONTRIBUTIONS, to / CONTRIBUTIONS)
    shutil.copy(one.server / "journal" / "journal.jsonl", to)
    (to / "ledgers").mkdir()
    for name, shop in shops.items():
        ledger = str(to / "ledgers" / f"{name}.jsonl")
        one.command("client", "export-ledger", "--shop", str(shop), "--out", ledger)
    return str(to), "--key", str(one.out / "ash" / "operator.pub")


def check_sums(run, shops):
    """Each round's sum is made again from signed messages; whoever is in it paid once."""
    ledgers = {name: Ledger.open(shop / "node" / LEDGER_FILE, name) for name, shop in shops.items()}
    identities = {name: one.signing_key.public for name, one in ledgers.items()}
    for number in range(1, ROUNDS + 1):
        content = (run / CONTRIBUTIONS / f"round-{number:05d}.sum").read_bytes()
        total = sum_again(Transcript.from_bytes(content), identities)
        assert len(total.survivors) >= 5
        for name in total.survivors:
            paid = [one.round_number for one in ledgers[name].entries() if one.kind == "train"]
            assert paid.count(number) == 1
