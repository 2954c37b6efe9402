"""Each key is rotated by itself, what was cut short is taken up, and wrong keys sign nothing."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import FedtailError, ReleaseError, SettingsError
from common.identity.enrolment import Invite, Request
from common.identity.expiry import load_certificate, load_certificates
from common.identity.node_certificate import check_node_certificate
from common.identity.node_key import NodeKey
from server.cli import app
from server.operations.certificates import fingerprint, pem_of
from server.operations.door.node_certificates import certificate_path
from server.operations.provisioning import enrol, make_invite
from server.operations.publication import key_rotation
from server.operations.publication.key_rotation import (
    KEY_NAMES,
    list_keys,
    retire_authority,
    rotate_key,
)
from server.operations.publication.publishing import changing_repository
from server.operations.registry import read_registry
from tests.support.doors import keys_of, node_of, now
from tests.support.repositories import Operator


@pytest.fixture
def operator(tmp_path):
    return Operator(tmp_path / "server")


def listed(operator):
    return {one.name: one for one in list_keys(operator.server, now())}


def rotate(operator, name):
    return rotate_key(operator.server, operator.keys, name, now())


@pytest.mark.parametrize("name", KEY_NAMES)
def test_a_rotation_changes_one_key_and_says_both_fingerprints_whole(operator, name):
    before = listed(operator)
    told = rotate(operator, name)
    after = listed(operator)
    changed = {one for one in after if after[one].fingerprint != before[one].fingerprint}
    assert changed == {name}
    assert (told.old, told.new) == (before[name].fingerprint, after[name].fingerprint)
    assert len(told.new) == 64
    rotate(operator, name)  # and once more


PUBLISH, PROMOTE = "releases.repository.Repository.publish", "operations.key_folder.KeyPair.promote"
CUT = [(name, PUBLISH) for name in ("targets", "snapshot", "timestamp", "release")]
CUT += [(name, PROMOTE) for name in ("root", "targets", "snapshot", "timestamp", "release")]


@pytest.mark.parametrize(("name", "at"), CUT)
def test_a_rotation_that_was_cut_short_is_taken_up(operator, name, at, monkeypatch):
    """The root is out, or all is and the new key not yet in its place: the same command ends it."""

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"server.{at}", die)
        with pytest.raises(KeyboardInterrupt):
            rotate(operator, name)
    new = rotate(operator, name).new
    assert listed(operator)[name].fingerprint == new
    operator.publish("1.0")
    operator.refresh()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "place",
    [
        *("authority.new.key", "authority.new.crt", "server/authority.crt"),
        *("timestamp.json", "CERTIFICATE", "authority.key", "authority.crt"),
    ],
)
def test_a_rotation_of_the_authority_that_was_cut_short_anywhere_is_taken_up(
    operator, tmp_path, place, before, monkeypatch
):
    """No file of the old one is lost, and what is signed at the end is signed by the new one."""
    server, node = operator.server, node_of(operator.server, tmp_path, "shop-a")
    enrol(server, operator.keys, Request.load(node.request), now())
    key = NodeKey.load(node.key).public
    old, secret = operator.keys.authority(), operator.keys.authority_key.read_bytes()
    whole = certificate_path(server, key) if place == "CERTIFICATE" else Path(place)
    real = Path.replace

    def cut(path):
        if path.parts[-len(whole.parts) :] == whole.parts:
            if place == "authority.crt" and path.parent == server.root:
                return
            raise KeyboardInterrupt

    def replace(path, target):
        if before:
            cut(Path(target))
        made = real(path, target)
        if not before:
            cut(Path(target))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            rotate(operator, "authority")
    rotated = rotate(operator, "authority")
    new = operator.keys.authority()
    assert rotated.new == fingerprint(new.certificate)
    assert server.authority.read_bytes().startswith(new.pem)
    kept = operator.keys.authority_key.parent / "retired"
    assert secret in {path.read_bytes() for path in kept.iterdir()}
    assert old.pem in {path.read_bytes() for path in kept.iterdir()}
    found = check_node_certificate(certificate_path(server, key).read_bytes(), key)
    found.verify_directly_issued_by(new.certificate)
    if place != "authority.crt" or before:
        assert server.authority.read_bytes() == new.pem + old.pem
        assert len(list(kept.iterdir())) == 2


@pytest.mark.parametrize("name", KEY_NAMES)
def test_keys_of_another_operator_change_nothing(operator, tmp_path, name):
    Operator(tmp_path / "other")
    before = state(operator)
    with pytest.raises(FedtailError, match="lists another"):
        rotate_key(operator.server, keys_of(tmp_path / "other"), name, now())
    assert state(operator) == before


def state(operator):
    """All that is served or steers the server; files that no list names yet, and locks, do not."""
    return {
        path: path.read_bytes()
        for path in operator.server.root.rglob("*")
        if path.is_file() and "targets/" not in path.as_posix() and ".new." not in path.name
    }


def test_open_invites_end_with_the_enrolment_key_and_enrolled_nodes_stay(operator, tmp_path):
    server = operator.server
    enrol(server, operator.keys, Request.load(node_of(server, tmp_path, "shop-a").request), now())
    invited = node_of(server, tmp_path, "shop-b")
    old = Invite.from_bytes(make_invite(server, operator.keys, "shop-c", now()).to_bytes())
    assert "2 open invites have ended" in rotate(operator, "enrolment").then
    assert list(read_registry(server.registry).nodes) == ["shop-a"]
    with pytest.raises(Exception, match="invite is unknown"):
        enrol(server, operator.keys, Request.load(invited.request), now())
    new = make_invite(server, operator.keys, "shop-c", now())
    assert new.enrolment_key != old.enrolment_key


def test_the_new_authority_issues_at_once_and_the_old_one_is_trusted_until_it_is_dropped(operator):
    server, old = operator.server, operator.server.authority.read_bytes()
    rotate(operator, "authority")
    both = server.authority.read_bytes()
    assert both.endswith(old)
    assert len(both) > len(old)
    issuer = fingerprint(load_certificate(server.authority))
    assert issuer == fingerprint(operator.keys.authority().certificate)
    retire_authority(server, operator.keys, now())
    assert server.authority.read_bytes() == both.removesuffix(old)
    with changing_repository(server, now()) as federation:
        told = federation.repository.content(federation.repository.targets(), "_trust/main.json")
    assert server.authority.read_text().splitlines()[1].encode() in told


def test_authorities_of_before_are_trusted_until_all_of_them_are_dropped(operator):
    """A node that missed the first of two rotations is not locked out by the second."""
    server, held = operator.server, [operator.keys.authority().certificate]
    for _ in range(3):
        rotate(operator, "authority")
        held.insert(0, operator.keys.authority().certificate)
        assert load_certificates(server.authority) == held
    with changing_repository(server, now()) as federation:
        told = federation.repository.content(federation.repository.targets(), "_trust/main.json")
    for one in held:
        assert pem_of(one).decode().splitlines()[1].encode() in told
    retire_authority(server, operator.keys, now())
    assert load_certificates(server.authority) == held[:1]


def test_the_old_authority_is_dropped_by_its_own_operator_only(operator, tmp_path):
    Operator(tmp_path / "other")
    before = state(operator)
    with pytest.raises(SettingsError, match="not this server's"):
        retire_authority(operator.server, keys_of(tmp_path / "other"), now())
    assert state(operator) == before


def command(*words):
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def test_the_command_takes_known_names_only(operator):
    place = ("--folder", operator.server.root, "--keys", operator.keys.root)
    for words in (("rotate", "moon", *place), ("rotate", "root", "--done", *place)):
        with pytest.raises(Exception, match="NAME must be one of"):
            command("keys", *words)
    assert set(KEY_NAMES) == {
        *("root", "targets", "snapshot", "timestamp", "release", "enrolment", "authority")
    }


def test_keys_are_listed_whole(operator):
    shown = command("keys", "list", "--folder", operator.server.root).output
    for one in listed(operator).values():
        assert one.fingerprint in shown
    assert "root of trust: 1.root.json" in shown


def test_a_passphrase_comes_from_a_file_or_the_keyboard_and_never_from_the_command(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"correct horse\n")
    secret.chmod(0o600)
    place = ("--folder", tmp_path / "s", "--keys", tmp_path / "k")
    with_file = ("--passphrase-file", secret)
    command("init", *place, "--host", "127.0.0.1", *with_file)
    assert "is now" in command("keys", "rotate", "root", *place, *with_file).output
    words = ["keys", "rotate", "release", *(str(word) for word in place)]
    assert "is now" in CliRunner().invoke(app, words, input="correct horse\n").output
    wrong = CliRunner().invoke(app, words, input="battery\n")
    assert isinstance(wrong.exception, ReleaseError)
    secret.write_bytes(b"\n")
    with pytest.raises(FedtailError, match="is empty"):
        command("keys", "rotate", "root", *place, *with_file)
    secret.chmod(0o644)
    with pytest.raises(Exception, match="644"):
        command("keys", "rotate", "root", *place, *with_file)
    flags = {
        option for name in ("init", "invite") for option in command(name, "--help").output.split()
    }
    assert "--passphrase" not in flags


def test_the_folder_of_keys_must_be_this_servers(operator, tmp_path):
    with pytest.raises(SettingsError, match="keys new"):
        rotate_key(operator.server, keys_of(tmp_path / "none"), "root", now())
    assert key_rotation.KEY_NAMES is KEY_NAMES
