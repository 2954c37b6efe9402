"""The release of a run is made of the checkpoint, the outcome and the journal, and verifies."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from common.catalogue import write_catalogue
from common.errors import FederationError, InputError
from common.identity.signing_key import PublicKey
from common.privacy.ledger.journal import read_journal
from common.release.verify import verify_release
from common.settings.run import RunSettings
from server.monitoring.status import spent_by_heads
from server.releases.publish import publish_run
from server.run.checkpoint import read_checkpoint, write_checkpoint
from server.run.outcome import read_outcome, write_outcome
from server.run.setup import CATALOGUE_FILE
from simulations.results.schema import load_results
from tests.support.doors import keys_of, operator
from tests.support.flower_engine import free_port
from tests.support.shops import make_shop

NOW = datetime(2026, 11, 24, 12, 0, 5, tzinfo=UTC)


@pytest.fixture
def ended(simulated, settings, tmp_path):
    """A server's folder with a run as its app leaves it: a simulation's, moved there.

    A deployed run's plan does not count the merchants, who share no noise.
    """
    server = operator(tmp_path / "server", free_port())
    run = server.runs / "first"
    shutil.copytree(simulated / "checkpoints" / "federated", run)
    server.journal.parent.mkdir()
    shutil.move(run / "journal.jsonl", server.journal)
    release = simulated / "release"
    checkpoint = replace(read_checkpoint(run), plan_digest=settings.plan().digest)
    write_checkpoint(run, checkpoint)
    write_outcome(run, checkpoint.adapter, (release / "basis.safetensors").read_bytes(), {})
    shutil.copy(release / "canaries.safetensors", run)
    write_catalogue(make_shop("a").catalogue, run / CATALOGUE_FILE)
    return server, run


@pytest.fixture
def settings(simulated):
    asked = dict(load_results(simulated / "results.json").settings)
    return RunSettings.from_flat({name: asked[name] for name in RunSettings.model_fields})


def published(server, run, settings, ids):
    return publish_run(
        run,
        settings,
        ids,
        NOW,
        journal=server.journal,
        releases=server.releases,
        key=keys_of(server.root).load("release"),
    )


def run_ids(server):
    return frozenset(entry.run_id for entry in read_journal(server.journal.read_bytes()))


def test_a_release_says_what_the_simulation_of_the_same_run_says(ended, settings, simulated):
    server, run = ended
    manifest = published(server, run, settings, run_ids(server))
    trusted = PublicKey.load(server.release_public_key)
    verified = verify_release(server.releases / manifest.version, trusted)
    assert verified.manifest == manifest
    theirs = json.loads((simulated / "release" / "manifest.json").read_text())
    assert manifest.adapter.digest == theirs["adapter"]["digest"]
    ours = sorted(one.epsilon for one in manifest.privacy.merchants.values())
    assert ours == sorted(one["epsilon"] for one in theirs["privacy"]["merchants"].values())
    assert len(ours) == 2


def test_heads_say_what_was_spent(ended, settings):
    server, _ = ended
    spent = spent_by_heads(server.journal)
    assert [one.entries for one in spent.values()] == [5, 5]  # import, histogram, three rounds
    assert all(one.epsilon > settings.epsilon for one in spent.values())  # Renyi is the looser
    assert spent_by_heads(server.journal.with_name("none.jsonl")) == {}


def test_a_journal_that_is_being_written_to_is_read_as_far_as_it_is_whole(ended):
    server, _ = ended
    whole = spent_by_heads(server.journal)
    with server.journal.open("ab") as file:
        file.write(b'{"body":"half')
    assert spent_by_heads(server.journal) == whole


def test_a_run_with_rounds_left_is_not_released(ended, settings):
    server, run = ended
    more = settings.model_copy(update={"rounds": 4})
    with pytest.raises(FederationError) as caught:
        published(server, run, more, run_ids(server))
    assert caught.value.field == "rounds"
    assert not server.releases.exists()


def test_a_run_that_is_not_in_the_journal_is_not_released(ended, settings):
    server, run = ended
    with pytest.raises(FederationError) as caught:
        published(server, run, settings, frozenset({"another"}))
    assert caught.value.field == "journal"


def test_a_run_without_an_outcome_has_not_ended(tmp_path):
    with pytest.raises(InputError, match="has not ended"):
        read_outcome(tmp_path)
