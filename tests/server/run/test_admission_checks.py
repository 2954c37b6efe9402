"""A merchant's name belongs to its node's key and its ledger's key, and to nobody else."""

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import RecordDict

from client.app import app
from client.node.session import close_nodes
from common.errors import FederationError, InputError, QuorumError
from common.privacy.ledger.entry import GENESIS
from common.privacy.ledger.heads import Head
from common.privacy.ledger.journal import last_receipts, read_journal
from common.wire.heads import with_head
from common.wire.messages import Prepared
from server.run.admission_checks import Conditions, read_members, write_members
from server.run.cohort import Quorum
from server.run.countersigning import Countersigning
from server.run.journal import Journal
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import LOCAL, FakeWork, federation, make_setup, shops

__all__ = ["federation", "shops"]  # fixtures
NODES = {1000: "ash", 1001: "birch", 1002: "cedar"}


class Impostor(FakeWork):
    """The node of `cedar`, which says that it is `ash`, under a key of its own."""

    def __init__(self, settings):
        self.own = Ed25519PrivateKey.generate()
        named = "ash" if settings.merchant == "cedar" else settings.merchant
        super().__init__(replace(settings, merchant=named))
        self.false = settings.merchant == "cedar"

    @property
    def signing_key(self):
        return self.own if self.false else super().signing_key


class Absent(InProcessGrid):
    """A grid that some nodes have left."""

    away = frozenset()

    def get_node_ids(self):
        return [node for node in super().get_node_ids() if node not in self.away]


def run(federation, setup, rounds, away=()):
    strategy = FedtailStrategy(setup)
    grid = Absent(app, 3, {"federation": str(federation)}, 9)
    grid.away = frozenset(away)
    strategy.start(grid, num_rounds=rounds)
    return strategy


def setup_of(folder, **changes):
    values = {
        "folder": folder,
        "journal": folder / "journal.jsonl",
        "quorum": Quorum(1, 0.1, 0.0),
    }
    return make_setup(**values | changes)


def test_enrolled_nodes_take_part_under_their_own_names_only(shops, federation, tmp_path):
    members = tmp_path / "members.json"
    write_members(members, NODES)
    assert read_members(members) == NODES
    shops.make = Impostor
    setup = setup_of(tmp_path / "run", conditions=Conditions(members))
    strategy = run(federation, setup, 1, away=[1000])  # the name is free: `ash` is not there
    assert strategy._cohort.refused == {1002: "federation:merchant"}
    assert strategy.history[0].participants == 1
    assert not any(entry.participants == ("ash",) for entry in read_entries(tmp_path))
    assert "receipt" not in [call[0] for call in shops.works["cedar"].calls]


def test_a_node_that_is_not_enrolled_is_refused_and_one_enrolled_since_is_not(
    shops, federation, tmp_path
):
    members = tmp_path / "members.json"
    write_members(members, {1000: "ash", 1001: "birch"})
    setup = setup_of(tmp_path / "run", conditions=Conditions(members))
    strategy = run(federation, setup, 1)
    assert strategy._cohort.refused == {1002: "federation:merchant"}
    write_members(members, NODES)
    assert run(federation, setup, 2).history[1].participants == 3


@pytest.mark.parametrize("content", ["", "[]", '{"a": "ash"}', None])
def test_a_file_of_members_that_is_none_stops_the_run(shops, federation, tmp_path, content):
    if content is not None:
        (tmp_path / "members.json").write_text(content)
    setup = setup_of(tmp_path / "run", conditions=Conditions(tmp_path / "members.json"))
    with pytest.raises(InputError) as caught:
        run(federation, setup, 1)
    assert caught.value.field == "members"


def read_entries(tmp_path):
    return read_journal((tmp_path / "run" / "journal.jsonl").read_bytes())


def test_without_enrolment_a_name_belongs_to_the_ledger_key_that_used_it_first(
    shops, federation, tmp_path
):
    setup = setup_of(tmp_path / "run")
    run(federation, setup, 1)
    known = last_receipts(read_entries(tmp_path))["ash"].head.signer
    shops.make = Impostor
    close_nodes()
    with pytest.raises(QuorumError):  # `birch` is a fake whose ledger rolled back
        run(federation, setup, 2, away=[1000, 1001])
    assert [one.reason for one in read_entries(tmp_path) if one.kind == "refusal"] == [
        "federation:signer"
    ]
    assert last_receipts(read_entries(tmp_path))["ash"].head.signer == known
    # No receipt of the ledger of `ash` went to it: the next head could be built on that.
    assert not hasattr(shops.works["cedar"], "covers")


def test_within_a_run_a_name_is_pinned_before_anything_is_charged(tmp_path):
    """The real node is prepared and leaves; another comes under its name before its first round."""

    def told(byte):
        key = Ed25519PrivateKey.from_private_bytes(bytes([byte]) * 32)
        head = Head("ash", 0, GENESIS, key.public_key().public_bytes_raw().hex(), (), "")
        return with_head(RecordDict(), head.signed(key.sign(head.message())))

    with Journal(tmp_path / "journal.jsonl", LOCAL, "1") as journal:
        countersigner = Countersigning(journal)
        ash = Prepared("ash", "", np.empty(0, np.uint64))
        countersigner.check_head(ash, told(1))
        for ask in (
            lambda head: countersigner.check_head(ash, head),
            lambda head: countersigner.take("ash", head),
        ):
            with pytest.raises(FederationError) as caught:
                ask(told(2))
            assert caught.value.field == "signer"
        countersigner.check_head(ash, told(1))


def test_the_operator_may_say_that_a_key_was_lost(shops, federation, tmp_path):
    setup = setup_of(tmp_path / "run")
    run(federation, setup, 1)
    last = last_receipts(read_entries(tmp_path))["ash"].head

    class Recovered(Impostor):
        covers = ""

        def head(self, journal):
            if not self.covers:  # later heads build on what the server countersigned since
                self.covers = last.hash
                self.calls = [("train",)] * (last.number + len(self.calls))
            return super().head(journal)

    shops.make = Recovered
    for renewed, refused in (((), ["federation:signer"]), (("ash",), [])):
        close_nodes()
        strategy = FedtailStrategy(replace(setup, conditions=Conditions(None, frozenset(renewed))))
        grid = Absent(app, 3, {"federation": str(federation)}, 9)
        grid.away = frozenset([1000, 1001])
        if refused:
            with pytest.raises(QuorumError):
                strategy.start(grid, num_rounds=2)
        else:
            strategy.start(grid, num_rounds=2)
        assert list(strategy._cohort.refused.values()) == refused
