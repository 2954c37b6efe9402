"""A merchant that keeps the release of a training holds its refreshes to it as they come."""

import shutil

import pytest

from client.deployment.release_download import fetch_release
from client.deployment.release_store import ReleaseStore
from common.audit.layout import PUBLIC_KEY, RELEASE
from common.errors import ReleaseError
from common.identity.signing_key import PublicKey
from common.release.manifest import ADAPTER_FILE, BASIS_FILE
from common.release.verify import version_order
from server.operations.publication.publishing import list_release
from tests.support.forging import Forger, export
from tests.support.refreshed_runs import give_another_adapter, honest_then_refreshed
from tests.support.repositories import now


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
    give_another_adapter(forger)
    fetched(node, earlier.out / RELEASE)
    before = node.current
    with pytest.raises(ReleaseError, match="is not the parent's"):
        fetched(node, forger.folder / RELEASE)
    assert node.current == before


def test_a_parent_that_was_damaged_on_disk_stops_no_refresh(node, runs):
    """There is nothing to hold it to, as where the parent is not kept."""
    parent = fetched(node, runs[0].out / RELEASE)
    (parent.place / BASIS_FILE).write_bytes(b"damaged")
    release = fetched(node, runs[1].out / RELEASE).release
    assert node.current == release.manifest.version


@pytest.mark.attack
def test_it_is_refused_from_the_operators_repository_too_and_is_not_kept(town, runs, tmp_path):
    operator = town.operator
    key = operator.keys.load("release")
    forgers = [Forger(run.out, export(run.out, tmp_path / run.out.name)) for run in runs]
    parent, child = forgers
    parent.release(key=key)
    publish(operator, key, parent)
    town.fetch()

    def refreshes(document):
        document["parent"] = document["adapter"]["settings"]["refresh_of"] = parent.manifest.digest

    child.release(refreshes, key=key)
    give_another_adapter(child, key)
    publish(operator, key, child)
    town.refused(ADAPTER_FILE)
    assert child.manifest.version not in ReleaseStore(town.node).versions()


def publish(operator, key, forger):
    version = forger.manifest.version
    shutil.copytree(forger.folder / RELEASE, operator.server.releases / version)
    list_release(operator.server, key, version, now())
