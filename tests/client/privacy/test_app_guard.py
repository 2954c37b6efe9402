"""The node's check of app bundles: Flower's own functions for fetching one, with real bundles."""

import importlib
import subprocess
import sys
import warnings

import pytest
from flwr.app import Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.cli.install import install_from_fab
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeStateFactory

from client.app import app as client_app
from client.privacy.app_guard import check_bundle, check_guarded, guard, main
from client.privacy.app_guard_command import GUARDED, MARK, GuardLines
from client.privacy.budget import LEDGER_FILE, open_ledger
from client.privacy.policy import POLICY_FILE, Policy
from client.shop.dataset import save_merchant_data
from common.catalogue import write_catalogue
from common.errors import PolicyError
from common.files import sha256_hex
from common.release.app_bundle import app_digest
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.flower_engine import Engine, as_option, copy_app
from tests.support.shops import make_shop

OTHER = "f" * 64


def test_a_nodes_supernode_holds_no_library_that_only_its_messages_need():
    """It runs for months; Flower's SuperNode itself loads none of them either."""
    code = (
        "import sys, client.privacy.app_guard, flwr.supernode.cli.flower_supernode; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    python = [sys.executable, "-P", "-c", code]
    loaded = subprocess.run(python, check=True, capture_output=True, text=True).stdout.split()
    assert {"client", "flwr"} <= set(loaded)
    assert not {"opacus", "polars", "scipy", "torch", "transformers"} & set(loaded)


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The bundle of another checkout of the version that is installed here."""
    return build(copy_app(tmp_path_factory.mktemp("bundle")))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """An operator's: one line more, which sends what it likes."""
    app = copy_app(tmp_path_factory.mktemp("other"))
    with (app / "client" / "app.py").open("a") as file:
        file.write("\n# and a copy of the purchases\n")
    return build(app)


def build(app):
    with warnings.catch_warnings():  # a pattern library's new name, which Flower does not use yet
        warnings.simplefilter("ignore", DeprecationWarning)
        return build_fab_from_disk(app)


@pytest.fixture
def supernode():
    """Flower's module, as it was before."""
    yield importlib.reload(start_client_internal)
    importlib.reload(start_client_internal)


class Node:
    """What a SuperNode holds, and one message for it of a run it does not know."""

    def __init__(self, fab):
        objects = ObjectStoreFactory()
        self.state = NodeStateFactory(objectstore_factory=objects).state()
        self.objects = objects.store()
        self.state.set_node_id(7)
        self.fab = fab
        InProcessGrid(client_app, 1, {})  # says who builds messages in this process
        self.message = Message(RecordDict(), 7, "train")
        self.message.metadata.__dict__ |= {"_run_id": 5, "_message_id": "1"}

    def pull(self, supernode, trusted=None):
        run = Run.create_empty(5)
        run.fab_hash = self.fab.hash_str
        return supernode._pull_and_store_message(
            state=self.state,
            object_store=self.objects,
            node_config={},
            receive=lambda: (self.message, supernode.get_object_tree(self.message)),
            get_run=lambda _: run,
            get_fab=lambda *_: self.fab,
            pull_object=lambda *_: b"",
            confirm_message_received=lambda *_: None,
            trusted_entities=trusted,
        )


def shop_with(folder, text):
    folder.mkdir(exist_ok=True)
    (folder / POLICY_FILE).write_text(text)
    return folder


def test_a_bundle_is_hashed_whatever_is_claimed(bundle):
    digest, ours = sha256_hex(bundle), app_digest()
    assert "NOT the installed" in check_bundle(
        Policy(app_digests=(OTHER, digest)), bundle, digest, ours
    )
    for policy in (Policy(), Policy(app_digests=(OTHER,))):
        with pytest.raises(PolicyError, match=digest):
            check_bundle(policy, bundle, digest, ours)
    with pytest.raises(PolicyError) as caught:
        check_bundle(Policy(app_digests=(OTHER,)), bundle, ours, ours)  # told to be our own
    assert caught.value.field == "app"


def test_the_bundle_of_another_checkout_is_the_installed_one(own, tmp_path, monkeypatch):
    """Also where Flower has unpacked it, which is where an entry's `app_digest` is computed."""
    digest = sha256_hex(own)
    assert app_digest() == digest
    told = check_bundle(Policy(app_digests=(OTHER,)), own, digest, app_digest())
    assert told == f"App bundle {digest} runs here, the installed version."
    installed = install_from_fab(own, tmp_path, skip_prompt=True)
    assert app_digest(installed) == digest
    code = "from common.release.app_bundle import app_digest; print(app_digest())"
    python = [sys.executable, "-c", code]
    done = subprocess.run(python, check=True, capture_output=True, text=True, cwd=installed)
    assert done.stdout.split() == [digest]


def test_code_without_its_project_file_has_no_bundle_and_runs_none(own, tmp_path):
    (tmp_path / "client").mkdir()
    assert app_digest(tmp_path) == ""
    with pytest.raises(PolicyError, match="no pyproject"):
        check_bundle(Policy(), own, sha256_hex(own), "")


@pytest.mark.parametrize("mine", [True, False])
def test_with_no_list_a_supernode_runs_its_merchants_own_code_alone(
    own, bundle, supernode, tmp_path, mine
):
    told = []
    guard(supernode, shop_with(tmp_path, ""), told.append)
    content = own if mine else bundle
    node = Node(Fab(sha256_hex(content), content, {}))
    node.pull(supernode)
    assert (node.state.get_fab(node.fab.hash_str) is not None) == mine
    assert len(told) == 1
    assert told[0].startswith(("Refused:", "App bundle")[mine])
    assert sha256_hex(content) in told[0]


def test_what_the_guard_says_reaches_the_screen_line_by_line(tmp_path):
    log = tmp_path / "supernode.log"
    log.write_text(f"INFO : starting\n{MARK}one\n{MARK}tw")
    lines = GuardLines(log)
    assert list(lines.fresh()) == ["one"]
    assert list(lines.fresh()) == []
    with log.open("a") as file:
        file.write(f"o\nnot {MARK}this\n")
    assert list(lines.fresh()) == ["two"]


@pytest.mark.parametrize("guarded", [True, False])
def test_a_supernode_keeps_no_bundle_that_is_not_on_the_list(bundle, supernode, tmp_path, guarded):
    told = []
    if guarded:
        guard(supernode, shop_with(tmp_path, f'app_digests = ["{OTHER}"]'), told.append)
    node = Node(Fab(sha256_hex(bundle), bundle, {}))
    node.pull(supernode)
    kept = node.state.get_fab(node.fab.hash_str) is not None
    assert kept != guarded
    assert bool(told) == guarded
    replies = node.state.get_messages_legacy(is_reply=True)
    assert len(replies) == guarded
    if guarded:
        assert "could not be verified" in replies[0].error.reason


def test_a_supernode_keeps_a_bundle_on_the_list_and_the_list_may_change(
    bundle, supernode, tmp_path
):
    shop, told = shop_with(tmp_path, f'app_digests = ["{OTHER}"]'), []
    guard(supernode, shop, told.append)
    node = Node(Fab(sha256_hex(bundle), bundle, {}))
    node.pull(supernode)
    assert node.state.get_fab(node.fab.hash_str) is None
    shop_with(shop, f'app_digests = ["{sha256_hex(bundle)}"]')
    node.pull(supernode)
    assert node.state.get_fab(node.fab.hash_str) is not None
    assert len(told) == 2
    assert "NOT the installed version" in told[1]


def test_flowers_own_signatures_are_still_asked_for(own, supernode, tmp_path):
    bundle = own
    guard(supernode, shop_with(tmp_path, ""), lambda _: None)
    node = Node(Fab(sha256_hex(bundle), bundle, {}))
    node.pull(supernode, trusted={"somebody": "ssh-ed25519 AAAA"})
    assert node.state.get_fab(node.fab.hash_str) is None


@pytest.mark.parametrize(
    ("marks", "signed"),
    [({}, True), ({"valid_license": "yes"}, False), ({"valid_license": "y"}, True)],
)
def test_the_guard_adds_to_flowers_signatures_and_replaces_none(
    own, supernode, tmp_path, marks, signed
):
    bundle = own
    supernode._verify_fab = lambda *_: signed
    guard(supernode, shop_with(tmp_path, ""), lambda _: None)
    node = Node(Fab(sha256_hex(bundle), bundle, marks))
    node.pull(supernode, trusted={"somebody": "ssh-ed25519 AAAA"})
    assert (node.state.get_fab(node.fab.hash_str) is not None) == (bool(marks) and signed)


def test_a_broken_policy_lets_no_bundle_in(bundle, supernode, tmp_path):
    guard(supernode, shop_with(tmp_path, "max_epsilonn = 3"), lambda _: None)
    node = Node(Fab(sha256_hex(bundle), bundle, {}))
    node.pull(supernode)
    assert node.state.get_fab(node.fab.hash_str) is None


def test_a_flower_that_cannot_be_guarded_is_refused(tmp_path):
    with pytest.raises(PolicyError):
        guard(object(), tmp_path, lambda _: None)


def test_inside_the_bundle_a_missing_guard_is_noticed(tmp_path, monkeypatch):
    monkeypatch.delenv(GUARDED, raising=False)
    with pytest.raises(PolicyError) as caught:
        check_guarded(tmp_path)
    assert caught.value.public() == "policy:app_digests"
    monkeypatch.setenv(GUARDED, str(tmp_path.resolve()))
    check_guarded(tmp_path)
    with pytest.raises(PolicyError):
        check_guarded(tmp_path / "other")


def test_the_command_wants_a_shop_with_a_sound_policy(tmp_path, monkeypatch):
    for arguments, said in (
        ([], "usage"),
        ([tmp_path / "nowhere"], "usage"),
        ([shop_with(tmp_path, "delta = 2")], "delta"),
    ):
        monkeypatch.setattr(sys, "argv", ["guard", *map(str, arguments)])
        with pytest.raises(SystemExit, match=said):
            main()


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_deployed_node_runs_the_allowed_bundle_only(tmp_path, tiny_bert):
    """A SuperLink and one guarded SuperNode: the operator's code, then the merchant's own."""
    app = copy_app(tmp_path)
    with (app / "server" / "app.py").open("a") as file:
        file.write("\n# another version\n")
    shop, data = tmp_path / "ash", make_shop(items=40, shoppers=30)
    save_merchant_data(data, shop)
    write_catalogue(data.catalogue, tmp_path / "catalogue.jsonl")
    allow = "max_epsilon = 50.0\nmax_run_epsilon = 50.0\n"
    config = {
        "catalogue": str(tmp_path / "catalogue.jsonl"),
        "folder": str(tmp_path / "out"),
        "base_model": str(tiny_bert),
        "rounds": 2,
        "min_merchants": 1,
        "rank": 3,
        "negatives": 40,
        "wait_seconds": 25.0,
        "round_timeout": 60.0,
    }
    with Engine(tmp_path / "flower", simulation=False) as engine:
        shop_with(shop, allow + f'app_digests = ["{OTHER}"]\n')
        engine.add_node(shop)
        refused = engine.run(app, "--run-config", as_option(config))
        assert refused["status"] == "finished:failed", engine.log()
        assert "is not among the policy's app_digests" in engine.log()
        assert not (shop / "node").exists()
        patient = as_option(config | {"wait_seconds": 180.0})
        passed = engine.run(copy_app(tmp_path / "same"), "--run-config", patient)
        assert passed["status"] == "finished:completed", engine.log()
        assert f"{MARK}App bundle {app_digest()} runs here, the installed version." in engine.log()
        entries = open_ledger(shop / "node" / LEDGER_FILE, "ash").entries()
        assert {one.app_digest for one in entries if one.kind != "data"} == {app_digest()}
