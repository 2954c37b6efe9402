"""Who somebody is at the door: certificates, signatures and names that are not theirs."""

from base64 import b64encode
from datetime import timedelta

import pytest
from flwr.common.constant import TIMESTAMP_TOLERANCE
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node

from common.identity.node_key import NodeKey
from server.operations.certificates import Authority
from server.operations.key_folder import KeyFolder
from simulations.harness.deployment import KEYS
from tests.support.doors import now

pytestmark = [pytest.mark.attack, pytest.mark.slow]
PATH = "/v1/fleet/activate-node"
DAY = timedelta(days=1)


def pair(tmp_path, key, certificate):
    path = tmp_path / "pair.pem"
    path.write_bytes(key.pem + certificate)
    return path


def own(door):
    return KeyFolder(door.deployment.out / KEYS[1], "main").authority()


def refused(door, pair_, signer="ash"):
    answer = door.ask(PATH, door.activation(signer), pair=pair_, headers=door.signed(signer))
    return answer.status_code


@pytest.mark.parametrize(
    ("begins", "days"), [(-30 * DAY, 20), (2 * DAY, 20)], ids=["expired", "not valid yet"]
)
def test_a_certificate_out_of_its_time(door, tmp_path, begins, days):
    key = NodeKey.load(door.nodes["ash"].key)
    certificate = own(door).issue_node(key.public, now() + begins, days=days)
    assert refused(door, pair(tmp_path, key, certificate)) == 401


def test_a_certificate_of_another_authority(door, tmp_path):
    key = NodeKey.load(door.nodes["ash"].key)
    certificate = Authority.create(now()).issue_node(key.public, now())
    assert refused(door, pair(tmp_path, key, certificate)) == 401


def test_a_certificate_that_names_an_enrolled_key_over_another(door, tmp_path):
    """The name alone is nothing: only the authority could put it there, over that key."""
    other = NodeKey.generate()

    class Posing:
        pem = other.public.pem
        fingerprint = NodeKey.load(door.nodes["ash"].key).public.fingerprint

    certificate = Authority.create(now()).issue_node(Posing(), now())
    assert refused(door, pair(tmp_path, other, certificate)) == 401


def test_the_servers_own_certificate_lets_nobody_in(door, tmp_path):
    path = tmp_path / "pair.pem"
    path.write_bytes(door.server.tls_key.read_bytes() + door.server.tls_certificate.read_bytes())
    assert refused(door, path) == 401


def test_a_certificate_of_the_authority_for_a_key_that_is_not_enrolled(door, tmp_path):
    key = NodeKey.generate()
    assert refused(door, pair(tmp_path, key, own(door).issue_node(key.public, now()))) == 401


def test_a_nodes_certificate_serves_no_server(door, tmp_path):
    """A merchant cannot pose as the operator's server to another."""
    from tests.support.doors import web_server

    key = NodeKey.load(door.nodes["ash"].key)
    path = pair(tmp_path, key, own(door).issue_node(key.public, now()))
    import httpx

    with (
        web_server(tmp_path, path, path) as port,
        httpx.Client(verify=door.context()) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.get(f"https://127.0.0.1:{port}/")


def test_another_merchants_signature_behind_ones_own_certificate(door):
    """The proxy writes the key itself, from the certificate: what birch signed is not ash's."""
    answer = door.ask(PATH, door.activation("birch"), name="ash", headers=door.signed("birch"))
    assert answer.status_code == 401


def test_another_merchants_key_in_the_header(door):
    headers = door.signed("ash") | {
        "flwr-public-key": b64encode(NodeKey.load(door.nodes["birch"].key).public.pem).decode()
    }
    answer = door.ask(PATH, door.activation("birch"), name="ash", headers=headers)
    assert answer.status_code == 401


@pytest.mark.parametrize("number", [0, 1, 2**63 - 1])
def test_another_nodes_number_in_the_body(door, number):
    body = PullMessagesRequest(node=Node(node_id=number)).SerializeToString()
    answer = door.ask("/v1/fleet/pull-messages", body, name="ash", headers=door.signed("ash"))
    assert answer.status_code == 401


def test_headers_that_were_seen_too_long_ago(door):
    headers = door.signed("ash", ago=TIMESTAMP_TOLERANCE + 60)
    answer = door.ask(PATH, door.activation("ash"), name="ash", headers=headers)
    assert answer.status_code == 401


def test_headers_of_tomorrow(door):
    answer = door.ask(
        PATH, door.activation("ash"), name="ash", headers=door.signed("ash", ago=-900)
    )
    assert answer.status_code == 401


def test_a_request_for_enrolment_that_was_used_is_used(door):
    request = ("server", "enrol", "--folder", "server", *KEYS, "--request", "ash/enrol.json")
    with pytest.raises(RuntimeError, match="enrolled already"):
        door.deployment.command(*request)


def test_a_request_for_enrolment_under_another_name(door):
    out = door.deployment.out
    text = (out / "ash" / "enrol.json").read_text().replace('"ash"', '"birch"')
    (out / "posing.json").write_text(text)
    with pytest.raises(RuntimeError, match="not signed"):
        door.deployment.command(
            *("server", "enrol", "--folder", "server", *KEYS, "--request", "posing.json")
        )


def test_a_revoked_merchant_is_out_at_the_next_request(door):
    place = door.deployment.hosts.nodes[0]
    shop = door.deployment.out / "shop-cedar"
    shop.mkdir()
    door.deployment.enrol("cedar", shop, place)
    from client.deployment.certificate import renew_certificate
    from client.deployment.provisioning import NodeFolder

    door.nodes["cedar"] = NodeFolder(door.deployment.out / "cedar")
    renew_certificate(door.nodes["cedar"], now())
    assert door.lets_in("cedar")
    door.deployment.command("server", "revoke", "--folder", "server", "--name", "cedar")
    answer = door.ask(PATH, door.activation("cedar"), name="cedar", headers=door.signed("cedar"))
    assert answer.status_code == 401
    fingerprint = NodeKey.load(door.nodes["cedar"].key).public.fingerprint
    gone = door.ask(f"/certificates/{fingerprint}.crt", method="GET")
    assert gone.status_code == 404


def test_an_honest_node_is_let_in(door):
    assert door.lets_in("ash")
    assert door.lets_in("birch")
