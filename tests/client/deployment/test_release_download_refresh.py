"""A merchant that keeps the release of a training holds its refreshes to it as they come."""

import numpy as np
import pytest

from client.deployment.release_download import fetch_release
from client.deployment.release_store import ReleaseStore
from common.adapter import AdapterState
from common.audit.layout import PUBLIC_KEY, RELEASE
from common.errors import ReleaseError
from common.identity.signing_key import PublicKey
from common.release.manifest import ADAPTER_FILE
from common.release.verify import version_order
from tests.support.forging import Forger, export
from tests.support.refreshed_runs import honest_then_refreshed


@pytest.fixture(scope="module")
def runs(tiny_bert, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return honest_then_refreshed(tmp_path_factory.mktemp("runs"), tiny_bert, cache)


@pytest.fixture
def node(town, runs):
    """A node that trusts the operator of these runs, and has no release yet."""
    PublicKey.load(runs[0].out / PUBLIC_KEY).save(town.node.release_key)
    return town


def fetched(node, folder):
    return fetch_release(node.node, str(folder))


def test_a_refresh_takes_the_place_of_its_parent(node, runs):
    earlier, later = runs
    first = fetched(node, earlier.out / RELEASE).release
    second = fetched(node, later.out / RELEASE).release
    assert node.current == second.manifest.version
    assert version_order(second.manifest.version) > version_order(first.manifest.version)
    store = ReleaseStore(node.node)
    assert store.kept_parent(second).manifest == first.manifest
    assert store.kept_parent(first) is None


def test_a_refresh_whose_parent_is_not_kept_is_taken_on_the_operators_word(node, runs):
    release = fetched(node, runs[1].out / RELEASE).release
    assert node.current == release.manifest.version
    assert ReleaseStore(node.node).kept_parent(release) is None


@pytest.mark.attack
def test_another_adapter_as_the_kept_parents_is_refused_and_the_parent_stays(node, runs, tmp_path):
    """The operator signed it, and the merchant has what the operator signed before."""
    earlier, later = runs
    forger = Forger(earlier.out, export(later.out, tmp_path / "forged"))
    held = AdapterState.from_bytes((forger.folder / RELEASE / ADAPTER_FILE).read_bytes())
    tensors = {name: one + np.float32(".lora_B." in name) for name, one in held.tensors.items()}
    only_b = {name: one for name, one in tensors.items() if ".lora_B." in name}
    forger.release(
        lambda document: document["adapter"].update(digest=AdapterState(only_b).digest),
        **{ADAPTER_FILE: AdapterState(tensors).to_bytes()},
    )
    fetched(node, earlier.out / RELEASE)
    before = node.current
    with pytest.raises(ReleaseError, match="is not the parent's"):
        fetched(node, forger.folder / RELEASE)
    assert node.current == before
