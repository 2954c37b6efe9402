"""The release of a run is made of the checkpoint, the outcome and the journal, and verifies."""

import json
from datetime import UTC, datetime

import pytest

from common.errors import FederationError, InputError
from common.identity.signing_key import PublicKey
from common.privacy.ledger.journal import read_journal
from common.release.verify import verify_release
from server.monitoring.status import spent_by_heads
from server.releases.publish import publish_run
from server.run.outcome import read_outcome
from tests.support.doors import keys_of

NOW = datetime(2026, 11, 24, 12, 0, 5, tzinfo=UTC)


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
