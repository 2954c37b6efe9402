"""Whenever a fetch or a roll back dies, a whole release is in use, and the next command goes on."""

import itertools
import os
import shutil

import pytest

from client.deployment.release_download import roll_back
from client.deployment.release_store import ReleaseStore
from common.errors import ReleaseError, StorageError

CHANGES = ("replace", "rename", "symlink", "unlink", "mkdir")
SOME = (2, 9, 16, 23, 30)


class Death(BaseException):
    """A process that is killed: nothing catches it."""


def dying(patch, at, error):
    """Have the `at`-th change of the disk raise, and all that follow it, as of a dead process."""
    count = itertools.count(1)

    def guarded(change):
        def call(*arguments, **options):
            if next(count) >= at:
                raise error
            return change(*arguments, **options)

        return call

    for name in CHANGES:
        patch.setattr(os, name, guarded(getattr(os, name)))
    return count


@pytest.fixture
def ready(town2):
    """3.0 is out and the node uses 2.0; with it, what puts the node's folder back as it is now."""
    town2.operator.publish("3.0")
    kept = shutil.copytree(town2.node.root, town2.node.root.with_name("kept"), symlinks=True)

    def again():
        shutil.rmtree(town2.node.root)
        shutil.copytree(kept, town2.node.root, symlinks=True)

    return town2, again


def die_and_go_on(town, at, monkeypatch):
    """Kill a fetch at one change of the disk; return whether it got through before."""
    with monkeypatch.context() as patch:
        dying(patch, at, Death())
        try:
            town.fetch()
        except Death:
            died = True
        else:
            died = False
    assert town.current in {"2.0", "3.0"}
    ReleaseStore(town.node).verify(town.current)
    assert town.fetch().release.manifest.version == town.current == "3.0"
    assert not ReleaseStore(town.node).fetching.exists()
    return not died


@pytest.mark.parametrize("at", SOME)
def test_a_fetch_that_is_killed_leaves_a_whole_release_in_use(ready, at, monkeypatch):
    town, _ = ready
    die_and_go_on(town, at, monkeypatch)


@pytest.mark.slow
@pytest.mark.faults
def test_a_fetch_may_be_killed_at_every_change_of_the_disk(ready, monkeypatch):
    """Kill a fetch at each change of the disk: a whole release is in use; the next ends well."""
    town, again = ready
    for at in itertools.count(1):
        again()
        if die_and_go_on(town, at, monkeypatch):
            break
    assert at > 30


@pytest.mark.parametrize("at", SOME)
def test_a_disk_that_fails_is_an_error_of_ours_and_the_release_in_use_stays(ready, at, monkeypatch):
    town, _ = ready
    with monkeypatch.context() as patch:
        dying(patch, at, OSError(5, "Input/output error"))
        with pytest.raises((StorageError, ReleaseError)):
            town.fetch()
    assert town.current in {"2.0", "3.0"}
    ReleaseStore(town.node).verify(town.current)
    assert town.fetch().release.manifest.version == "3.0"


def test_a_roll_back_that_is_killed_is_not_undone_by_the_next_fetch(ready, monkeypatch):
    town, _ = ready
    town.fetch()
    for at in range(1, 9):
        with monkeypatch.context() as patch:
            dying(patch, at, Death())
            try:
                roll_back(town.node)
                break
            except Death:
                pass
        held = ReleaseStore(town.node).state().rolled_back
        assert town.current in {"2.0", "3.0"}
        if town.current == "2.0":
            assert held == "3.0"
            town.fetch()
            assert town.current == "2.0"
        town.fetch(again=True)
        assert town.current == "3.0"


def test_a_damaged_memory_is_said_and_not_taken_for_none(town2):
    (town2.node.releases / "state.json").write_bytes(b"{")
    with pytest.raises(ReleaseError, match="is damaged"):
        town2.fetch()
    assert town2.current == "2.0"


def test_the_switch_is_one_step(town2, monkeypatch):
    """Killed at each change of the disk that it makes, it leaves a link to a whole release."""
    store = ReleaseStore(town2.node)
    for at in range(1, 9):
        with monkeypatch.context() as patch:
            dying(patch, at, Death())
            try:
                store.use("1.0")
                break
            except Death:
                assert store.current == "2.0"
    else:
        pytest.fail("it never came to its end")
    assert store.current == "1.0"
