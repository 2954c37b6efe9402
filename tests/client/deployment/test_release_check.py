"""A node holds a release to its own ledger and to what it sent."""

import shutil
from dataclasses import replace

import pytest

from client.deployment.release_check import OwnPart, check_own_part
from client.node.settings import merchant_folders
from client.privacy.budget import LEDGER_FILE
from client.privacy.contributions import contributions_path
from client.privacy.receipts import receipts_path
from common.audit.layout import RELEASE
from common.errors import ReleaseError
from common.identity.signing_key import PublicKey
from common.privacy.ledger.contributions import read_contributions_file
from common.privacy.ledger.export import export_ledger, read_ledger
from common.privacy.ledger.signing_key import load_key
from common.release.manifest import CONTRIBUTIONS_FILE
from common.release.verify import verify_release


@pytest.fixture
def node(simulated, tmp_path):
    """A copy of the first merchant's node: its ledger, and its name."""
    place = merchant_folders(simulated / "merchants")[0]
    return shutil.copytree(place / "node", tmp_path / "node") / LEDGER_FILE, place.name


def check(forger, node):
    key = PublicKey.load(forger.folder / "operator.pub")
    return check_own_part(verify_release(forger.folder / RELEASE, key), *node)


def refused(forger, node):
    with pytest.raises(ReleaseError) as caught:
        check(forger, node)
    return caught.value.field


def listed(forger):
    return read_contributions_file((forger.folder / RELEASE / CONTRIBUTIONS_FILE).read_bytes())


def relist(forger, contributions):
    content = "".join(f"{one.to_json()}\n" for one in contributions).encode()
    forger.release(**{CONTRIBUTIONS_FILE: content})


def record_of(node, **changes):
    """Change where the statement says that a node's ledger stands."""

    def change(held):
        return {
            name: {**one, **changes} if one["node"] == node else one for name, one in held.items()
        }

    return change


def test_an_honest_release_has_all_of_a_node(forger, node):
    assert check(forger, node) == OwnPart(charged=4, listed=4, unused=0)


def test_a_node_without_a_ledger_has_nothing_to_compare(forger, tmp_path):
    assert check(forger, (tmp_path / "none.sqlite", "00-a")) == OwnPart(0, 0, 0)


def test_a_statement_that_counts_too_few_entries_is_refused(forger, node):
    """The earlier entry is genuine: what came after it is charged and not told."""
    second = read_ledger(export_ledger(node[0]))[1]
    forger.statement(ledgers=record_of(node[1], entries=2, hash=second.hash))
    assert refused(forger, node) == "ledgers"


def test_a_statement_of_another_ledger_is_refused(forger, node):
    forger.statement(ledgers=record_of(node[1], hash="ab" * 32))
    assert refused(forger, node) == "ledgers"


def test_a_statement_that_leaves_the_node_out_is_refused(forger, node):
    ledgers = forger.manifest.privacy.ledgers
    named = next(name for name, one in ledgers.items() if one.node == node[1])

    def without(held):
        return {name: one for name, one in held.items() if name != named}

    forger.statement(merchants=without, ledgers=without)
    relist(forger, [one for one in listed(forger) if one.merchant != node[1]])
    assert refused(forger, node) == "ledgers"


def test_a_contribution_that_the_node_did_not_send_is_refused(forger, node):
    """Under its name and another key; or under its own key, and its folder has another."""
    mine = [one for one in listed(forger) if one.merchant == node[1]]
    others = [one for one in listed(forger) if one.merchant != node[1]]
    place = forger.simulated / "merchants" / others[0].merchant / "node" / LEDGER_FILE
    false = replace(mine[1], signer=others[0].signer, digest="ab" * 32)
    signature = load_key(place, create=False).sign(false.message())
    relist(forger, [*others, mine[0], false.signed(signature)])
    assert refused(forger, node) == "contributions"

    second = replace(mine[1], digest="cd" * 32)
    signature = load_key(node[0], create=False).sign(second.message())
    relist(forger, [*others, mine[0], second.signed(signature)])
    assert refused(forger, node) == "contributions"


def test_a_release_that_lists_nothing_is_refused(forger, node):
    relist(forger, [])
    assert refused(forger, node) == "contributions"


def test_contributions_that_were_not_used_are_counted(forger, node):
    relist(forger, [one for one in listed(forger) if one.purpose.round_number != 2])
    assert check(forger, node) == OwnPart(charged=4, listed=3, unused=1)


def test_a_node_that_lost_its_record_still_knows_its_signature(forger, node):
    contributions_path(node[0]).unlink()
    assert check(forger, node) == OwnPart(charged=4, listed=4, unused=0)


def test_what_was_charged_after_the_last_receipt_is_not_asked_for(forger, node):
    """A server that never got the answer cannot know of the charge."""
    receipts_path(node[0]).unlink()
    assert check(forger, node).charged == 0


def test_a_release_that_claims_less_than_this_nodes_ledger_gives_is_refused(forger, node):
    """The ledger's record is genuine and whole; only the number beside it is wished for."""
    ledgers = forger.manifest.privacy.ledgers
    named = next(name for name, one in ledgers.items() if one.node == node[1])

    def claim(change):
        def changed(held):
            told = held[named]
            return {**held, named: {**told, "epsilon": told["epsilon"] + change}}

        forger.statement(merchants=changed)

    claim(-0.01)
    assert refused(forger, node) == "epsilon"
    claim(0.02)  # more than was spent is no lie about privacy
    assert check(forger, node) == OwnPart(charged=4, listed=4, unused=0)
