"""A server is set up, nodes join and leave it; both sides' real code, and Flower's own readers."""

import argparse
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from flwr.cli.supernode.register import try_load_public_key
from flwr.supernode.cli.flower_supernode import _try_setup_client_authentication

from client.deployment.provisioning import NodeFolder, finish_rotation, init_node, request_rotation
from common.errors import EnrolmentError, SettingsError
from common.identity.enrolment import Invite, Request
from common.identity.expiry import load_certificate
from common.identity.node_key import NodeKey
from server.operations.folder import ServerFolder, ServerSettings
from server.operations.key_folder import KeyFolder
from server.operations.provisioning import (
    enrol,
    init_server,
    make_invite,
    revoke,
    rotate_certificate,
    warnings,
    write_invite,
)
from server.operations.registry import changing, read_registry
from tests.support.doors import keys_of, set_up

pytestmark = pytest.mark.attack

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def server(tmp_path):
    return set_up(tmp_path / "server", ServerSettings(("fed.example", "10.0.0.7")), NOW)


@pytest.fixture
def keys(server):
    return keys_of(server.root)


@pytest.fixture
def join(server, keys, tmp_path):
    """Make a node's folder by an invite for `name`."""

    def make(name, folder=None):
        shop = tmp_path / f"shop-{name}"
        shop.mkdir(exist_ok=True)
        invite = Invite.from_bytes(make_invite(server, keys, name, NOW).to_bytes())
        return init_node(tmp_path / (folder or name), invite, shop, NOW)

    return make


def request_of(node):
    return Request.from_bytes(node.request.read_bytes())


def allowed(registry):
    """The keys that may connect, by name."""
    return {name: node.public_key for name, node in registry.nodes.items() if not node.revoked}


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_for_their_owner_only(server, keys, join, tmp_path):
    node = join("shop-a")
    request_rotation(node, NOW)
    write_invite(tmp_path / "x.invite", make_invite(server, keys, "shop-b", NOW))
    secret = [
        *(keys.authority_key, keys.pair("root").path, keys.pair("targets").path),
        *(keys.pair("enrolment").path, keys.pair("release").path, server.tls_key),
        *(server.online / "snapshot.key", server.online / "timestamp.key"),
        *(server.registry, node.key, node.new_key, node.request, tmp_path / "x.invite"),
    ]
    assert [mode(path) for path in secret] == [0o600] * len(secret)
    folders = [server.root, server.online, keys.root, keys.root / "main", node.root]
    assert [mode(folder) for folder in folders] == [0o700] * len(folders)


def test_no_key_but_the_two_online_ones_and_tls_lies_with_the_server(server):
    """The release key and the authority's once lay beside the proxy's, under its own user."""
    private = [
        path.relative_to(server.root).as_posix()
        for path in server.root.rglob("*")
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes()
    ]
    assert sorted(private) == ["online/snapshot.key", "online/timestamp.key", "tls/server.key"]


def test_a_node_that_was_invited_is_enrolled_and_flower_reads_both_halves(server, join):
    node = join("shop-a")
    key = enrol(server, keys_of(server.root), request_of(node), NOW)
    assert allowed(read_registry(server.registry)) == {"shop-a": NodeKey.load(node.key).public.line}
    arguments = argparse.Namespace(
        auth_supernode_private_key=str(node.key), auth_supernode_public_key=None
    )
    _, public = _try_setup_client_authentication(arguments)
    from flwr.supercore.primitives.asymmetric import public_key_to_bytes

    assert try_load_public_key(server.node_keys / "shop-a.pub") == public_key_to_bytes(public)
    assert key == NodeKey.load(node.key).public


def test_no_private_half_and_no_invites_secret_is_in_the_request(server, join):
    node = join("shop-a")
    (invite,) = read_registry(server.registry).invites.values()
    sent = node.request.read_bytes()
    assert invite.secret.encode() not in sent
    assert b"PRIVATE" not in sent


def test_an_invite_is_good_once(server, join):
    request = request_of(join("shop-a"))
    enrol(server, keys_of(server.root), request, NOW)
    with pytest.raises(EnrolmentError) as refused:
        enrol(server, keys_of(server.root), request, NOW)
    assert refused.value.field == "public_key"
    revoke(server, "shop-a", NOW)
    other = make_other_key(request, server)
    with pytest.raises(EnrolmentError) as refused:
        enrol(server, keys_of(server.root), other, NOW)
    assert refused.value.field == "invite"


def make_other_key(request, server):
    """The used invite's request, made again with another key by somebody without the secret."""
    key = NodeKey.generate()
    bare = request.model_copy(update={"public_key": key.public.line})
    return signed_anew(bare, key)


def signed_anew(request, key):
    from base64 import b64encode

    proof = b64encode(key.sign(request.message("possession"))).decode()
    return request.model_copy(update={"possession": proof})


def test_a_stolen_request_enrols_no_other_key(server, join):
    request = request_of(join("shop-a"))
    with pytest.raises(EnrolmentError) as refused:
        enrol(server, keys_of(server.root), make_other_key(request, server), NOW)
    assert refused.value.field == "permission"
    assert not read_registry(server.registry).nodes


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "shop-b"}, "possession"),
        ({"made": "2026-11-25T00:00:00+00:00"}, "possession"),
        ({"possession": ""}, "possession"),
        ({"public_key": "ssh-ed25519 AAAA"}, "public_key"),
    ],
)
def test_a_request_that_was_altered_is_refused(server, join, change, field):
    request = request_of(join("shop-a")).model_copy(update=change)
    with pytest.raises(EnrolmentError) as refused:
        enrol(server, keys_of(server.root), request, NOW)
    assert refused.value.field == field


def test_an_invite_ends(server, keys, join, tmp_path):
    node = join("shop-a")
    with pytest.raises(EnrolmentError) as refused:
        enrol(server, keys_of(server.root), request_of(node), NOW + 15 * DAY)
    assert refused.value.field == "expires"
    invite = make_invite(server, keys, "shop-b", NOW, valid_for=DAY)
    with pytest.raises(EnrolmentError) as refused:
        init_node(tmp_path / "late", invite, tmp_path, NOW + 2 * DAY)
    assert refused.value.field == "expires"


def test_an_altered_invite_is_refused_by_the_merchant(server, keys, tmp_path):
    invite = make_invite(server, keys, "shop-a", NOW).model_copy(
        update={"server": "evil.example:1"}
    )
    with pytest.raises(EnrolmentError) as refused:
        init_node(tmp_path / "node", invite, tmp_path, NOW)
    assert refused.value.field == "signature"
    assert not (tmp_path / "node").exists()


def test_a_newer_invite_ends_the_older(server, join):
    first = request_of(join("shop-a"))
    enrol(server, keys_of(server.root), request_of(join("shop-a", "again")), NOW)
    revoke(server, "shop-a", NOW)
    with pytest.raises(EnrolmentError) as refused:
        enrol(server, keys_of(server.root), first, NOW)
    assert refused.value.field == "invite"


def test_a_rotation_puts_the_new_key_in_the_old_ones_place(server, join):
    node = join("shop-a")
    enrol(server, keys_of(server.root), request_of(node), NOW)
    old = NodeKey.load(node.key).public
    request_rotation(node, NOW)
    new = enrol(server, keys_of(server.root), request_of(node), NOW)
    assert NodeKey.load(node.key).public == old  # until the operator has answered
    finish_rotation(node)
    assert NodeKey.load(node.key).public == new != old
    registry = read_registry(server.registry)
    assert allowed(registry) == {"shop-a": new.line}
    assert registry.barred == [old.line]
    with pytest.raises(EnrolmentError):
        finish_rotation(node)


def test_nobody_else_can_rotate_a_nodes_key(server, join):
    enrol(server, keys_of(server.root), request_of(join("shop-a")), NOW)
    other = join("shop-b")
    enrol(server, keys_of(server.root), request_of(other), NOW)
    request_rotation(other, NOW)
    key = NodeKey.load(other.new_key)
    forged = signed_anew(request_of(other).model_copy(update={"name": "shop-a"}), key)
    with pytest.raises(EnrolmentError) as refused:
        enrol(server, keys_of(server.root), forged, NOW)
    assert refused.value.field == "permission"


def test_a_revoked_key_never_comes_back(server, join):
    node = join("shop-a")
    enrol(server, keys_of(server.root), request_of(node), NOW)
    revoke(server, "shop-a", NOW)
    assert allowed(read_registry(server.registry)) == {}
    assert not (server.node_keys / "shop-a.pub").exists()
    for request in (request_of(node), Request.from_bytes(request_rotation(node, NOW).read_bytes())):
        with pytest.raises(EnrolmentError):
            enrol(server, keys_of(server.root), request, NOW)
    enrol(server, keys_of(server.root), request_of(join("shop-a", "fresh")), NOW)  # a new key may


def names_of(certificate):
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def test_the_certificate_names_the_hosts_and_the_loopback(server):
    names = names_of(load_certificate(server.tls_certificate))
    assert set(names.get_values_for_type(x509.DNSName)) == {"fed.example", "localhost"}
    addresses = {str(one) for one in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"10.0.0.7", "127.0.0.1"}
    authority = load_certificate(server.authority)
    load_certificate(server.tls_certificate).verify_directly_issued_by(authority)


def test_a_new_certificate_is_trusted_by_the_same_nodes(server, keys):
    before = server.tls_certificate.read_bytes()
    server.write_settings(ServerSettings(("other.example",)))
    rotate_certificate(server, keys, NOW)
    assert server.tls_certificate.read_bytes() != before
    renewed = load_certificate(server.tls_certificate)
    renewed.verify_directly_issued_by(load_certificate(server.authority))
    assert "other.example" in names_of(renewed).get_values_for_type(x509.DNSName)


def test_the_operator_is_warned_a_month_ahead(server):
    assert warnings(server, NOW + 334 * DAY) == []
    (soon,) = warnings(server, NOW + 336 * DAY)
    assert "expires in 29 days" in soon
    (late,) = warnings(server, NOW + 366 * DAY)
    assert "has expired" in late


@pytest.mark.parametrize("place", ["server", "server/keys", "server/../server/a/b"])
def test_the_operators_keys_may_not_lie_inside_the_servers_folder(tmp_path, place):
    inside = KeyFolder(tmp_path / place, "main")
    with pytest.raises(EnrolmentError) as caught:
        init_server(tmp_path / "server", inside, ServerSettings(("a.example",)), NOW)
    assert caught.value.field == "keys"
    assert not (tmp_path / "server").exists()


def test_a_folder_that_holds_something_is_left_alone(server, keys, join, tmp_path):
    before = keys.authority_key.read_bytes()
    with pytest.raises(EnrolmentError):
        init_server(server.root, keys, ServerSettings(("a.example",)), NOW)
    assert keys.authority_key.read_bytes() == before
    node = join("shop-a")
    with pytest.raises(EnrolmentError):
        init_node(node.root, make_invite(server, keys, "shop-a", NOW), tmp_path, NOW)


@pytest.mark.parametrize("host", ["https://a.example", "a.example:443", "", "a b", "-a.example"])
def test_a_host_is_an_address_or_a_plain_name(tmp_path, host):
    with pytest.raises((EnrolmentError, ValueError)):
        set_up(tmp_path / "new", ServerSettings((host or " ",)), NOW)
    assert list(tmp_path.iterdir()) == []


def test_a_policy_that_is_there_is_kept(server, join, tmp_path):
    from client.privacy.policy import Policy

    node = join("shop-a")
    policy = node.config().data / "policy.toml"
    assert Policy.from_toml(policy) == Policy(dp_models=("local", "distributed"))
    policy.write_text("max_epsilon = 1.0\n")
    join("shop-a", "again")
    assert Policy.from_toml(policy).max_epsilon == 1.0


def test_a_secret_that_others_can_read_is_not_used(server, keys, join):
    node = join("shop-a")
    node.key.chmod(0o644)
    with pytest.raises(EnrolmentError, match="644"):
        NodeKey.load(node.key)
    server.registry.chmod(0o640)
    with pytest.raises(EnrolmentError, match="640"):
        make_invite(server, keys, "shop-b", NOW)


def test_a_folder_of_another_kind_is_named(tmp_path):
    for folder in (ServerFolder(tmp_path).settings, NodeFolder(tmp_path).config):
        with pytest.raises(Exception, match="init"):
            folder()


@pytest.mark.parametrize(
    "name", ["it's", 'a "b"', "back\\slash", "\u5546\u5e97 \U0001f6d2", "tab\there"]
)
def test_a_shops_folder_of_any_name_is_read_back(server, keys, tmp_path, name):
    shop = tmp_path / name
    shop.mkdir()
    node = init_node(tmp_path / "node", make_invite(server, keys, "shop-a", NOW), shop, NOW)
    assert node.config().data == shop


def test_a_file_that_is_not_there_is_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(EnrolmentError, match="cannot be read"):
            Invite.load(path)


def test_two_commands_at_once_change_the_list_one_after_the_other(server):
    """The second waits for the first, and reads what it wrote: no invite is used twice."""
    inside, go_on = threading.Event(), threading.Event()
    seen = []

    def first():
        with changing(server.registry) as registry:
            inside.set()
            go_on.wait(30)
            registry.barred.append("one")

    def second():
        inside.wait(30)
        with changing(server.registry) as registry:
            seen.extend(registry.barred)
            registry.barred.append("two")

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    inside.wait(30)
    threads[1].join(0.3)  # without the lock it would be through by now
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert seen == ["one"]
    assert read_registry(server.registry).barred == ["one", "two"]


def test_keys_of_another_server_give_this_one_no_certificate(server, tmp_path):
    other = set_up(tmp_path / "another", ServerSettings(("fed.example",)), NOW)
    before = server.tls_certificate.read_bytes(), server.tls_key.read_bytes()
    with pytest.raises(SettingsError) as caught:
        rotate_certificate(server, keys_of(other.root), NOW)
    assert caught.value.field == "keys"
    assert (server.tls_certificate.read_bytes(), server.tls_key.read_bytes()) == before
