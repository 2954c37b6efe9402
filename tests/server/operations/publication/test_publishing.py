"""What a server keeps fresh by itself, what it warns of, and federations that share."""

import shutil
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from client.deployment.provisioning import init_node
from common.errors import ReleaseError, SettingsError
from common.privacy.ledger.journal import read_journal
from common.release.verify import verify_release
from server.cli import app
from server.operations.experiment import Experiment, RunFolder
from server.operations.folder import ServerFolder, ServerSettings
from server.operations.key_folder import KeyFolder
from server.operations.provisioning import init_server, make_invite
from server.operations.publication.publishing import (
    changing_repository,
    hourly_refresh,
    join_repository,
    metadata_warnings,
    publish,
    refresh_metadata,
    renew_metadata,
    withdraw,
)
from server.releases.decision import keep_decision
from server.releases.lifetimes import Lifetimes
from tests.support.doors import keys_of, node_of, now
from tests.support.repositories import Operator, static_server

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.fixture
def operator(tmp_path):
    return Operator(tmp_path / "server")


def test_what_is_half_over_is_signed_anew_and_what_is_not_stays(operator):
    before = operator.repository().timestamp()
    assert not refresh_metadata(operator.server, now() + 35 * HOUR)
    assert operator.repository().timestamp() == before
    assert refresh_metadata(operator.server, now() + 37 * HOUR)
    after = operator.repository().timestamp()
    assert after.version > before.version
    assert after.expires - before.expires > 36 * HOUR


def test_a_running_server_looks_once_an_hour_and_survives_a_failure(operator):
    said, clock = [], [0.0]
    look = hourly_refresh(operator.server, said.append, lambda: clock[0])
    key = operator.server.online / "timestamp.key"
    key.chmod(0o644)
    look()
    look()
    assert len(said) == 1
    assert "644" in said[0]
    key.chmod(0o600)
    clock[0] = 3600.0
    look()
    assert len(said) == 1


def test_the_operator_is_warned_a_month_ahead_and_signs_anew(operator):
    assert metadata_warnings(operator.server, now() + 330 * DAY) == []
    soon = metadata_warnings(operator.server, now() + 340 * DAY)
    assert len(soon) == 3
    assert "The root metadata expires in 2" in soon[0]
    assert "no merchant can fetch" in metadata_warnings(operator.server, now() + 366 * DAY)[0]
    renew_metadata(operator.server, operator.keys, now() + 340 * DAY)
    assert metadata_warnings(operator.server, now() + 340 * DAY) == []


@pytest.mark.parametrize(
    ("name", "value"), [("root", 0), ("timestamp", 3651), ("snapshot", 1.5), ("releases", True)]
)
def test_lifetimes_are_whole_days_within_bounds(name, value):
    with pytest.raises(SettingsError, match=f"`{name}_days`"):
        Lifetimes(**{name: value})


def test_lifetimes_are_settings_of_the_server(operator):
    path = operator.server.settings_file
    path.write_text(path.read_text().replace("timestamp_days = 3", "timestamp_days = 7"))
    refresh_metadata(operator.server, now(), force=True)
    assert operator.repository().timestamp().expires - now() > 6.9 * DAY


def test_settings_are_read_back(tmp_path):
    settings = ServerSettings(
        ("a.example",), federation="west", repository="x y", lifetimes=Lifetimes(timestamp=1)
    )
    folder = ServerFolder(tmp_path)
    folder.write_settings(settings)
    assert folder.settings() == settings
    for name in ("No Name", "", 7):
        with pytest.raises(SettingsError, match="federation"):
            ServerSettings(("a.example",), federation=name)


@pytest.fixture
def two(operator, tmp_path):
    """Two federations, each with a server, in the first one's repository."""
    settings = ServerSettings(
        ("127.0.0.1",), federation="west", repository=str(operator.server.root)
    )
    keys = KeyFolder(operator.keys.root, "west")
    west = Operator.of(init_server(tmp_path / "west", keys, settings, now()))
    west.__class__ = type("West", (Operator,), {"keys": property(lambda _: keys)})
    return operator, west


def test_several_federations_share_a_repository_and_each_has_its_own_releases(two, tmp_path):
    main, west = two
    main.publish("1.0")
    west.publish("7.0")
    with static_server(main.place) as web:
        first = web.fetch(main.node(tmp_path))
        assert first.release.manifest.version == "1.0"
        (tmp_path / "shop").mkdir()
        invite = make_invite(west.server, west.keys, "shop-w", now())
        node = init_node(tmp_path / "shop-w", invite, tmp_path / "shop", now())
        assert web.fetch(node).release.manifest.version == "7.0"
        assert node.config().federation == "west"
    assert main.place == west.place
    keys = {one.load("release").public.key_id for one in (main.keys, west.keys)}
    assert len(keys) == 2


def test_one_federations_key_lists_nothing_for_another(two):
    main, west = two
    with changing_repository(main.server, now()) as federation:
        main.build("1.0", key=west.keys.load("release"))
        release = verify_release(main.server.releases / "1.0", west.keys.load("release").public)
        with pytest.raises(ReleaseError, match="lists another"):
            federation.release(release, b"", west.keys.load("release"))
        assert federation.versions() == []


def test_a_repository_of_another_root_is_not_joined(operator, tmp_path):
    settings = ServerSettings(
        ("127.0.0.1",), federation="west", repository=str(operator.server.root)
    )
    with pytest.raises(ReleaseError, match="another root key"):
        init_server(tmp_path / "west", keys_of(tmp_path / "west", "west"), settings, now())
    with pytest.raises(SettingsError, match="not a server"):
        ServerFolder(tmp_path / "west").settings()


def test_a_server_put_back_from_a_copy_goes_on_ahead_of_what_nodes_have_seen(operator, tmp_path):
    operator.publish("1.0")
    copied = shutil.copytree(operator.server.root, tmp_path / "copy")
    operator.publish("2.0")
    node = operator.node(tmp_path)
    with static_server(operator.place) as web:
        web.fetch(node)
        shutil.rmtree(operator.server.root)
        shutil.copytree(copied, operator.server.root)
        operator.publish("3.0", at=now() + HOUR)
        assert web.fetch(node).release.manifest.version == "3.0"


def test_only_what_is_published_can_be_withdrawn_and_only_with_a_plain_reason(operator):
    operator.publish("1.0")
    for version, reason in (("2.0", "no"), ("1.0", "two\nlines"), ("1.0", "x" * 201)):
        with pytest.raises(ReleaseError):
            withdraw(operator.server, operator.keys, version, reason, now())
    assert withdraw(operator.server, operator.keys, "1.0", "ok", now()) is None


def test_an_older_release_is_not_published_after_a_newer_one(operator):
    operator.publish("2.0")
    with pytest.raises(ReleaseError, match="members use"):
        operator.publish("1.0")
    with pytest.raises(ReleaseError):
        operator.publish("2.0", **{"notes.txt": b"other"})


def test_a_repository_that_was_cut_short_is_made_whole(operator):
    (operator.place / "metadata/timestamp.json").unlink()
    join_repository(operator.server, operator.keys, now())
    operator.publish("1.0")


def test_the_release_of_a_run_is_signed_and_what_merchants_fetch(ended, settings, tmp_path):
    server, run = ended
    folder = RunFolder(run)
    for number in {entry.run_id for entry in read_journal(server.journal.read_bytes())}:
        folder.note_run_id(int(number))
    experiment = Experiment("first", (), settings)
    manifest = publish(server, keys_of(server.root), experiment, now())
    assert folder.released == manifest.version
    with static_server(server.repository) as web:
        fetched = web.fetch(node_of(server, tmp_path))
    assert fetched.release.manifest == manifest
    with pytest.raises(ReleaseError, match="is published"):
        publish(server, keys_of(server.root), experiment, now())


@pytest.mark.parametrize(
    ("told", "holdout"),
    [
        pytest.param(
            {"passed": False, "cases": 60, "reason": "ndcg@10 is lower"}, True, id="failed"
        ),
        pytest.param(
            {"passed": False, "cases": 60, "reason": "ndcg@10 is lower"}, False, id="undone"
        ),
        pytest.param(None, True, id="not judged"),
    ],
)
def test_a_run_that_has_not_passed_its_gate_is_not_signed(ended, settings, tmp_path, told, holdout):
    """Also where the experiment names the public shoppers no more, once they were judged on."""
    server, run = ended
    if told is not None:
        keep_decision(run, **told)
    experiment = Experiment("first", (), settings, tmp_path / "shoppers" if holdout else None)
    with pytest.raises(ReleaseError) as caught:
        publish(server, keys_of(server.root), experiment, now())
    assert caught.value.field == "gate"
    assert not RunFolder(run).released
    assert not [*server.releases.glob("*")]


def test_another_servers_keys_sign_no_release(ended, settings, tmp_path):
    server, _ = ended
    other = Operator(tmp_path / "other")
    with pytest.raises(SettingsError, match="not this server"):
        publish(server, other.keys, Experiment("first", (), settings), now())


def test_the_commands_say_what_they_did(operator):
    def command(*words):
        line = [*words, "--folder", str(operator.server.root)]
        return CliRunner().invoke(app, line, catch_exceptions=False).output

    keys = ("--keys", str(operator.keys.root))
    assert "Nothing is half over yet." in command("refresh-metadata")
    assert "signed anew" in command("refresh-metadata", "--force")
    assert "Everything is signed anew." in command("refresh-metadata", *keys)
    for version in ("1.0", "2.0"):
        operator.publish(version)
    told = command("withdraw", "2.0", "--reason", "its tail", *keys)
    assert "Release 2.0 is withdrawn. Merchants are told to use 1.0." in told
    assert "There is no other release." in command("withdraw", "1.0", "--reason", "it too", *keys)
