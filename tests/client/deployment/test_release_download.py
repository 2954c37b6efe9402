"""A release is used once all of it is verified; whatever fails, the last good one stays."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from client.cli import app
from client.deployment.release_download import fetch_release, roll_back
from client.deployment.release_store import ReleaseStore
from common.errors import EnrolmentError, FederationError, ReleaseError, StorageError
from common.files import sha256_hex, write_atomic
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from server.operations.provisioning import rotate_certificate
from server.operations.publication.key_rotation import retire_authority
from server.operations.publication.publishing import withdraw
from tests.support.doors import web_server
from tests.support.repositories import Bent, Operator, now, static_server


def use(node, **changes):
    write_atomic(node.settings_file, replace(node.config(), **changes).to_toml())


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def said(node, source=""):
    lines = []
    fetch_release(node, source, say=lines.append)
    return lines


# ------------------------------------------------------------- over TLS
def test_a_release_comes_from_the_server_itself(town):
    node, server = town.node, town.operator.server
    with web_server(server.public, server.tls_certificate, server.tls_key) as port:
        use(node, server=f"127.0.0.1:{port}")
        fetched = fetch_release(node)
    trusted = PublicKey.load(node.current / "operator.pub")
    assert dict(verify_release(node.current / "release", trusted).files) == fetched.release.files


def test_a_node_that_has_fetched_trusts_a_new_authority_before_the_server_uses_it(town):
    node, server = town.node, town.operator.server
    town.rotate("authority")
    with web_server(server.public, server.tls_certificate, server.tls_key) as port:
        use(node, server=f"127.0.0.1:{port}")
        assert "certificate authority has changed" in said(node)[0]
    rotate_certificate(server, town.operator.keys, now())
    retire_authority(server, town.operator.keys, now())
    with web_server(server.public, server.tls_certificate, server.tls_key) as port:
        use(node, server=f"127.0.0.1:{port}")
        fetch_release(node)
        assert node.authority.read_bytes() == server.authority.read_bytes()
        assert said(node) == []


def test_a_node_that_missed_a_new_authority_gets_it_on_another_way(town):
    node, server = town.node, town.operator.server
    town.rotate("authority")
    rotate_certificate(server, town.operator.keys, now())
    with web_server(server.public, server.tls_certificate, server.tls_key) as port:
        use(node, server=f"127.0.0.1:{port}")
        with pytest.raises(FederationError):
            fetch_release(node)
        fetch_release(node, str(town.place))
        fetch_release(node)


# ------------------------------------------------------- cut short and resumed
def test_what_came_before_a_cut_is_not_fetched_again(town):
    town.operator.publish("2.0", **{"notes.txt": bytes(range(256)) * 4000})
    town.web.bent["notes.txt"] = Bent(cut=300_000)
    town.refused("server", FederationError)
    town.web.bent["notes.txt"] = Bent(cut=700_000)
    town.refused("server", FederationError)
    town.web.bent.clear()
    town.web.asked.clear()
    fetched = town.fetch()
    assert fetched.release.files["notes.txt"] == bytes(range(256)) * 4000
    (notes,) = [one for one in town.web.asked if "notes.txt" in one]
    assert int(notes.partition("bytes=")[2].rstrip("-")) > 300_000
    assert not [one for one in town.web.asked if "basis.safetensors" in one]


def test_a_server_without_ranges_sends_all_of_it_again(town, tmp_path):
    town.web.bent["notes.txt"] = Bent(cut=100)
    town.refused("server", FederationError)
    with static_server(town.place, ranges=False) as plain:
        assert plain.fetch(town.node).release.manifest.version == "1.0"


@pytest.mark.parametrize("left", [b"", b"x" * 100, b"x" * 550, b"x" * 5000])
def test_a_part_that_is_none_of_this_file_is_dropped(town, left):
    (notes,) = (town.place / "targets/main/1.0").glob("*.notes.txt")
    part = ReleaseStore(town.node).fetching / "parts" / notes.name.partition(".")[0]
    write_atomic(part, left)
    assert town.fetch().release.files["notes.txt"] == notes.read_bytes()


def test_what_is_left_of_another_release_of_the_same_version_does_no_harm(town):
    stray = ReleaseStore(town.node).fetching / "1.0" / "release" / "adapter" / "stray.txt"
    write_atomic(stray, b"left")
    town.fetch()
    assert not ReleaseStore(town.node).fetching.exists()


def test_a_full_disk_leaves_the_release_in_use(town2, monkeypatch):
    from client.deployment import release_repository

    def full(*_):
        raise OSError(28, "No space left on device")

    town2.operator.publish("3.0")
    with monkeypatch.context() as patch:
        patch.setattr(release_repository, "sync_folder", full)
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="No space left"):
            town2.fetch()
    assert town2.current == "2.0"
    assert town2.fetch().release.manifest.version == "3.0"


def test_a_kept_release_that_was_damaged_is_fetched_again(town2):
    notes = ReleaseStore(town2.node).place("2.0") / "notes.txt"
    notes.write_bytes(b"damaged")
    assert town2.fetch().release.files["notes.txt"] == b"release 2.0" * 50


def test_two_fetches_at_once_do_not_meet(town):
    with ReleaseStore(town.node).locked(), pytest.raises(FederationError, match="Another command"):
        town.fetch()


def test_before_the_first_release_it_says_so(tmp_path, no_power_cuts):
    operator = Operator(tmp_path / "server")
    node = operator.node(tmp_path)
    with static_server(operator.place) as web, pytest.raises(FederationError, match="no release"):
        web.fetch(node)


# --------------------------------------------------- the merchant's own act
def test_a_merchant_goes_back_and_fetch_leaves_it_so(town):
    town.fetch()
    town.operator.publish("2.0")
    town.fetch()
    assert roll_back(town.node) == town.current == "1.0"
    for _ in range(2):
        told = town.told()
        assert len(told) == 1
        assert told[0].startswith("You rolled back from 2.0")
        assert town.current == "1.0"
    assert town.told(again=True) == []
    assert town.current == "2.0"


def test_a_newer_release_ends_a_roll_back(town):
    town.fetch()
    town.operator.publish("2.0")
    town.fetch()
    roll_back(town.node)
    town.operator.publish("3.0")
    town.fetch()
    assert town.current == "3.0"
    assert ReleaseStore(town.node).state().rolled_back is None
    assert roll_back(town.node, "1.0") == town.current == "1.0"
    assert ReleaseStore(town.node).state().rolled_back == "3.0"


@pytest.mark.parametrize("to", [None, "0.5", "2.0", "3.0"])
def test_there_must_be_something_older_to_go_back_to(town2, to):
    with pytest.raises(ReleaseError):
        roll_back(town2.node, to)
    assert town2.current == "2.0"


def test_a_damaged_release_is_not_gone_back_to(town):
    town.fetch()
    town.operator.publish("2.0")
    town.fetch()
    (ReleaseStore(town.node).place("1.0") / "notes.txt").write_bytes(b"damaged")
    with pytest.raises(ReleaseError):
        roll_back(town.node)
    assert town.current == "2.0"
    assert ReleaseStore(town.node).state().rolled_back is None


# ------------------------------------------------------------ withdrawn
def test_a_release_that_was_withdrawn_gives_way_to_the_one_before(town):
    town.fetch()
    town.operator.publish("2.0")
    town.fetch()
    server, keys = town.operator.server, town.operator.keys
    assert withdraw(server, keys, "2.0", "its tail is too heavy", now()) == "1.0"
    assert not (town.place / "targets/main/2.0").exists()
    (told,) = town.told()
    assert told == "The operator has withdrawn release 2.0: its tail is too heavy"
    assert town.current == "1.0"
    town.operator.publish("3.0")
    town.fetch()
    with pytest.raises(ReleaseError):
        roll_back(town.node, "2.0")


def test_when_the_only_release_is_withdrawn_the_merchant_is_told_and_keeps_it(town):
    town.fetch()
    withdraw(town.operator.server, town.operator.keys, "1.0", "wrong catalogue", now())
    lines = []
    with pytest.raises(FederationError, match="no release to use"):
        town.fetch(say=lines.append)
    assert lines == ["The operator has withdrawn release 1.0: wrong catalogue"]
    assert town.current == "1.0"


def test_a_withdrawal_is_told_also_where_the_release_before_cannot_be_fetched(town2):
    withdraw(town2.operator.server, town2.operator.keys, "2.0", "its tail", now())
    town2.web.bent["notes.txt"] = Bent(status=500)
    lines = []
    with pytest.raises(FederationError):
        town2.fetch(say=lines.append)
    assert lines == ["The operator has withdrawn release 2.0: its tail"]
    assert ReleaseStore(town2.node).state().reason("2.0") == "its tail"


# ------------------------------------------------------------ from a folder
def test_a_copy_of_the_repository_does_as_well(town, tmp_path):
    copied = shutil.copytree(town.place, tmp_path / "stick")
    assert fetch_release(town.node, str(copied)).release.manifest.version == "1.0"
    use(town.node, releases=str(copied))
    assert said(town.node) == []


def test_one_signed_release_in_a_folder_is_taken_by_the_operators_key_alone(town2, simulated):
    """As `fedtail simulate` leaves it, with no repository around it."""
    shutil.copy(simulated / "operator.pub", town2.node.release_key)
    assert "nothing says whether it is the newest" in said(town2.node, str(simulated))[0]
    trusted = PublicKey.load(simulated / "operator.pub")
    version = verify_release(simulated / "release", trusted).manifest.version
    assert town2.current == version
    shutil.copy(town2.operator.server.release_public_key, town2.node.release_key)
    with pytest.raises(ReleaseError, match="older than"):
        fetch_release(town2.node, str(town2.operator.server.releases / "1.0"))


def test_a_release_from_a_folder_does_not_stand_in_for_the_listed_one_of_its_version(town2):
    """A thief of the release key signs a 3.0 of its own; the operator's 3.0 takes its place."""
    place = town2.operator.build("3.0", **{"notes.txt": b"of a thief"})
    fetch_release(town2.node, str(place))
    assert town2.current == "3.0"
    shutil.rmtree(place)
    town2.operator.publish("3.0")
    assert town2.fetch().release.files["notes.txt"] == b"release 3.0" * 50


def test_a_folder_with_another_keys_release_is_refused(town2, simulated):
    with pytest.raises(ReleaseError, match="not a signature"):
        fetch_release(town2.node, str(simulated))
    assert town2.current == "2.0"


# ------------------------------------------------------------ roots of trust
def test_a_node_without_a_root_says_how_to_get_one_and_takes_it(town):
    node, root = town.node, town.place / "metadata" / "1.root.json"
    node.trusted_root.unlink()
    with pytest.raises(ReleaseError, match="client trust"):
        town.fetch()
    wrong = ("trust", "--folder", node.root, "--root", root, "--fingerprint", "0" * 64)
    with pytest.raises(EnrolmentError, match="fingerprint is"):
        command(*wrong)
    digits = sha256_hex(root.read_bytes()).upper()
    assert command("trust", "--folder", node.root, "--root", root, "--fingerprint", digits).output
    assert town.fetch().release.manifest.version == "1.0"


def test_what_is_no_root_is_not_trusted(town, tmp_path):
    for name in ("timestamp.json", "nothing.json"):
        (tmp_path / "nothing.json").write_bytes(b"{}")
        path = town.place / "metadata" / name
        path = path if path.exists() else tmp_path / name
        digits = sha256_hex(path.read_bytes())
        with pytest.raises(ReleaseError):
            command("trust", "--folder", town.node.root, "--root", path, "--fingerprint", digits)


# ------------------------------------------------------------ the commands
def test_the_commands_say_what_they_did(town):
    place = ("--folder", town.node.root)
    assert "Verified: " in command("fetch", *place, "--from", town.web.address).output
    town.operator.publish("2.0")
    command("fetch", *place, "--from", town.web.address)
    assert "Release 1.0 is in use." in command("rollback", *place).output
    told = command("fetch", *place, "--from", town.web.address).output
    assert "You rolled back from 2.0" in told
    assert "1.0" in command("fetch", *place, "--from", str(town.place)).output
    again = command("fetch", *place, "--from", town.web.address, "--again").output
    assert again.rstrip().endswith("2.0/release")


def test_commands_of_a_merchant_load_no_framework_before_they_need_it():
    script = "import sys, client.cli, client.deployment.provisioning; print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd="."
    )
    assert {"tuf", "securesystemslib", "httpx"} & set(ran.stdout.split()) == set()
