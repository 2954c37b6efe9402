"""What the nodes sent is signed, kept by round, and makes the adapter again."""

from dataclasses import replace

import numpy as np
import pytest

from client.app import app
from common.errors import FederationError, PrivacyError, QuorumError
from common.federation.contribution_files import FOLDER, read_round
from common.federation.descent import Descent
from common.federation.optimiser import OptimiserState
from common.privacy.ledger.contributions import read_contributions, vector_digest
from common.privacy.ledger.journal import read_journal
from common.wire import messages
from server.run.cohort import Quorum
from server.run.contributions import keep_vectors
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from tests.support.fake_node import LOCAL, FakeWork, federation, make_setup, shops

__all__ = ["federation", "shops"]  # fixtures


def setup_in(folder, **changes):
    return make_setup(folder=folder, journal=folder / "journal.jsonl", **changes)


def run(federation, setup, rounds=None, run_id=1):
    strategy = FedtailStrategy(setup)
    strategy.start(
        InProcessGrid(app, 3, {"federation": str(federation)}, run_id), num_rounds=rounds
    )
    return strategy


def journal_of(folder):
    return read_journal((folder / "journal.jsonl").read_bytes())


def test_a_run_that_was_stopped_is_made_again_from_its_files(shops, federation, tmp_path):
    setup = setup_in(tmp_path / "run")
    run(federation, setup, rounds=3)
    adapter = run(federation, setup, run_id=2).state.adapter
    descent = Descent(setup.optimiser, setup.learning_rate, setup.schedule, LOCAL.rounds)
    mine, state = setup.adapter, OptimiserState.empty(setup.adapter.size)
    for number in range(1, 7):
        vectors = read_round(tmp_path / "run" / FOLDER, number)
        assert sorted(vectors) == ["ash", "birch", "cedar"]
        step = descent.step(mine, state, number, vectors)
        mine, state = step.adapter, step.optimiser
    assert mine.digest == adapter.digest


def test_the_journal_has_each_participants_signature(shops, federation, tmp_path):
    run(federation, setup_in(tmp_path / "run"), rounds=2)
    rounds = [one for one in journal_of(tmp_path / "run") if one.kind in ("popularity", "train")]
    assert [one.round_number for one in rounds] == [0, 1, 2]
    for entry in rounds:
        told = read_contributions(entry)
        vectors = read_round(tmp_path / "run" / FOLDER, entry.round_number)
        assert [one.merchant for one in told] == ["ash", "birch", "cedar"]
        assert all(one.authentic for one in told)
        assert {one.merchant: one.digest for one in told} == {
            name: vector_digest(vector) for name, vector in vectors.items()
        }


class Old(FakeWork):
    """A node of an earlier version: `birch` signs nothing."""

    def contribution(self, vector, purpose):
        return super().contribution(vector, purpose) if self.merchant != "birch" else NOTHING


class Nothing:
    def to_json(self):
        return 0


NOTHING = Nothing()


class Liar(FakeWork):
    """`birch` signs another vector than it sends."""

    def contribution(self, vector, purpose):
        return super().contribution(vector + np.float32(self.merchant == "birch"), purpose)


class Late(FakeWork):
    """`birch` sends what it signed for the round before."""

    def contribution(self, vector, purpose):
        earlier = purpose.round_number - (self.merchant == "birch")
        return super().contribution(vector, replace(purpose, round_number=earlier))


class Unwilling(FakeWork):
    """A node that signs nothing, and fails when it is asked to."""

    def contribution(self, vector, purpose):
        raise PrivacyError("This is not to be signed.", field="contribution")


@pytest.mark.parametrize("work", [Old, Liar, Late])
def test_an_unsigned_vector_is_not_used_and_the_journal_says_why(shops, federation, tmp_path, work):
    shops.make = work
    quorum = Quorum(minimum=2, fraction=0.5, wait_seconds=0.0)
    plan = replace(LOCAL, popularity_noise_multiplier=0.0)
    setup = setup_in(tmp_path / "run", quorum=quorum, plan=plan)
    record = run(federation, setup, rounds=1).history[0]
    assert (record.participants, record.failures) == (2, 1)
    entries = journal_of(tmp_path / "run")
    refused = [one for one in entries if one.kind == "refusal"]
    assert [(one.participants, one.reason) for one in refused] == [
        (("birch",), "federation:contribution")
    ]
    assert sorted(read_round(tmp_path / "run" / FOLDER, 1)) == ["ash", "cedar"]
    (trained,) = (one for one in entries if one.kind == "train")
    assert [one.merchant for one in read_contributions(trained)] == ["ash", "cedar"]


def test_a_node_of_an_earlier_version_is_not_even_charged(shops, federation, tmp_path, monkeypatch):
    """Server and node name the version before anything is asked for."""
    older = messages.WIRE_VERSION - 1
    encode = messages.encode_prepare

    def by_older(request):
        content = encode(request)
        content["run"]["version"] = older
        return content

    monkeypatch.setattr("server.run.cohort.encode_prepare", by_older)
    with pytest.raises(QuorumError):
        run(federation, setup_in(tmp_path / "run"), rounds=1)
    assert [call for work in shops.works.values() for call in work.calls] == []


@pytest.mark.parametrize("dp_model", ["central", "none"])
def test_what_does_not_carry_all_of_its_noise_is_neither_kept_nor_signed(
    shops, federation, tmp_path, dp_model
):
    noise = 1.0 if dp_model == "central" else 0.0
    plan = replace(
        LOCAL,
        dp_model=dp_model,
        merchants=3,
        noise_multiplier=noise,
        popularity_noise_multiplier=2.0 * noise,
    )
    shops.make = Unwilling
    run(federation, setup_in(tmp_path / "run", plan=plan), rounds=1)
    assert not (tmp_path / "run" / FOLDER).exists()
    assert all(not one.contributions for one in journal_of(tmp_path / "run"))


def test_a_disk_that_takes_nothing_stops_the_run_and_says_where(tmp_path):
    (tmp_path / FOLDER).write_bytes(b"in the way")
    with pytest.raises(FederationError) as caught:
        keep_vectors(tmp_path, LOCAL, 1, {"ash": np.ones(3, np.float32)})
    assert caught.value.field == "contributions"
