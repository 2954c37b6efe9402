from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from client.node.identities import checked_identities
from client.node.introduction import introduce
from client.privacy.introductions import own_introduction
from common.errors import SecureSumError
from common.identity.enrolment import Request
from common.identity.introduction import Introduction
from common.identity.node_key import NodeKey
from common.identity.signing_key import SigningKey
from server.operations.provisioning import enrol
from server.run.admission_checks import Conditions
from tests.support.doors import keys_of, node_of, operator


@pytest.fixture
def server(tmp_path):
    return operator(tmp_path / "server", 9443)


@pytest.fixture
def nodes(server, tmp_path):
    """Two merchants' nodes, enrolled, with their certificates."""
    found = []
    for name in ("ash", "birch"):
        node = node_of(server, tmp_path, name)
        request = Request.load(node.request)
        enrol(server, keys_of(server.root), request, datetime.now(UTC))
        certificate = server.certificates / f"{NodeKey.load(node.key).public.fingerprint}.crt"
        node.tls.write_bytes(NodeKey.load(node.key).pem + certificate.read_bytes())
        found.append(node)
    return found


def told(nodes):
    return [introduce(node) for node in nodes]


def refused(state, folder, introductions):
    with pytest.raises(SecureSumError) as caught:
        checked_identities(state, folder, introductions)
    assert caught.value.public() == "secure_sum:identity"


def test_enrolled_nodes_know_each_other_by_the_authoritys_certificates(server, nodes, tmp_path):
    introductions = told(nodes)
    state = nodes[0].config().state_folder
    known = checked_identities(state, tmp_path, introductions)
    assert {name: key.raw for name, key in known.items()} == {
        one.name: one.key for one in introductions
    }
    assert own_introduction(state, "ash", known["ash"]) == introductions[0]
    conditions = Conditions(authority=server.authority)
    for one in introductions:
        conditions.check_introduction(one)


def test_a_merchant_that_the_server_makes_up_is_refused(server, nodes, tmp_path):
    """It has the server's own certificate, of the same authority, and keys of its own."""
    ash, birch = told(nodes)
    state = nodes[0].config().state_folder
    made_up = Introduction("cedar", SigningKey.in_memory().public.raw)
    key = NodeKey.generate()
    refused(state, tmp_path, [ash, birch, made_up])
    refused(
        state, tmp_path, [ash, birch, made_up.vouched(server.tls_certificate.read_bytes(), key)]
    )
    refused(state, tmp_path, [ash, birch, made_up.vouched(birch.certificate, key)])
    refused(state, tmp_path, [ash, birch, replace(made_up, certificate=birch.certificate)])
    # A node that is with the server vouches for a second name: one certificate is one party.
    own = made_up.vouched(birch.certificate, NodeKey.load(nodes[1].key))
    refused(state, tmp_path, [ash, birch, own])
    refused(state, tmp_path, [ash, replace(birch, key=made_up.key)])
    refused(state, tmp_path, [ash, replace(birch, name="cedar")])


def test_another_authority_vouches_for_nobody(nodes, tmp_path):
    other = operator(tmp_path / "other", 9444)
    ash, birch = told(nodes)
    state = nodes[0].config().state_folder
    (state / "authority.crt").write_bytes(other.authority.read_bytes())
    refused(state, tmp_path, [ash, birch])


def test_a_certificate_that_has_ended_vouches_for_nobody(nodes):
    one = told(nodes)[0]
    authority = nodes[0].authority.read_bytes()
    assert one.check(authority, datetime.now(UTC))
    for later in (timedelta(days=500), timedelta(days=-1)):
        with pytest.raises(SecureSumError):
            one.check(authority, datetime.now(UTC) + later)


def test_a_node_without_a_certificate_has_nobody_to_vouch_for_it(server, nodes, tmp_path):
    nodes[1].tls.unlink()
    introductions = told(nodes)
    assert not introductions[1].certificate
    refused(nodes[0].config().state_folder, tmp_path, introductions)


def test_an_introduction_of_another_ledger_is_not_told(nodes):
    told(nodes)
    state = nodes[0].config().state_folder
    for name in ("ash", "birch"):
        with pytest.raises(SecureSumError):
            own_introduction(state, name, SigningKey.in_memory().public)
