"""The node's check of app bundles: Flower's own functions for fetching one, with real bundles."""

import importlib
import subprocess
import sys
import warnings

import pytest
from flwr.app import Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate import NodeStateFactory

from client.app import app as client_app
from client.privacy.app_guard import check_bundle, check_guarded, guard, main
from client.privacy.app_guard_command import GUARDED, guarded_command
from client.privacy.policy import POLICY_FILE, Policy
from client.shop.dataset import save_merchant_data
from common.catalogue import write_catalogue
from common.errors import PolicyError
from common.files import sha256_hex
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
def bundle(tmp_path_factory):
    return build(copy_app(tmp_path_factory.mktemp("bundle")))


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
    digest = sha256_hex(bundle)
    check_bundle(Policy(app_digests=(OTHER, digest)), bundle, digest)
    check_bundle(Policy(), bundle, digest)  # an empty list allows any
    with pytest.raises(PolicyError, match=digest):
        check_bundle(Policy(app_digests=(OTHER,)), bundle, digest)
    with pytest.raises(PolicyError) as caught:
        check_bundle(Policy(app_digests=(OTHER,)), bundle, OTHER)
    assert caught.value.field == "app"


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
    assert len(told) == 1


def test_flowers_own_signatures_are_still_asked_for(bundle, supernode, tmp_path):
    guard(supernode, shop_with(tmp_path, ""), lambda _: None)
    node = Node(Fab(sha256_hex(bundle), bundle, {}))
    node.pull(supernode, trusted={"somebody": "ssh-ed25519 AAAA"})
    assert node.state.get_fab(node.fab.hash_str) is None


@pytest.mark.parametrize(
    ("marks", "signed"),
    [({}, True), ({"valid_license": "yes"}, False), ({"valid_license": "y"}, True)],
)
def test_the_guard_adds_to_flowers_signatures_and_replaces_none(
    bundle, supernode, tmp_path, marks, signed
):
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
    policy = Policy(app_digests=(OTHER,))
    monkeypatch.delenv(GUARDED, raising=False)
    check_guarded(Policy(), tmp_path)
    with pytest.raises(PolicyError) as caught:
        check_guarded(policy, tmp_path)
    assert caught.value.public() == "policy:app_digests"
    monkeypatch.setenv(GUARDED, str(tmp_path.resolve()))
    check_guarded(policy, tmp_path)
    with pytest.raises(PolicyError):
        check_guarded(policy, tmp_path / "other")


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
    """A SuperLink and one guarded SuperNode: refused, then allowed once the merchant lists it."""
    app = copy_app(tmp_path)
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
        engine.add_node(shop, guarded_command(shop))
        refused = engine.run(app, "--run-config", as_option(config))
        assert refused["status"] == "finished:failed", engine.log()
        assert "is not among the policy's app_digests" in engine.log()
        assert not (shop / "node").exists()
        digest = sha256_hex(build(app))
        shop_with(shop, allow + f'app_digests = ["{digest}"]\n')
        patient = as_option(config | {"wait_seconds": 180.0})
        passed = engine.run(app, "--run-config", patient)
        assert passed["status"] == "finished:completed", engine.log()
