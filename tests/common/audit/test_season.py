"""A season is what the merchants signed, charged once each, or the audit names what is not.

The operator holds the keys of release and journal and signs all of it anew; where merchants work
with it, theirs too.
"""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from common.audit.audits import audit_release, audit_run
from common.audit.layout import CONTRIBUTIONS, JOURNAL, LEDGERS, MANIFEST, RELEASE
from common.errors import ReleaseError
from common.federation.contribution_files import read_round, write_round
from common.identity.signing_key import PublicKey
from common.privacy.ledger.contributions import contributions_file, read_contributions
from common.privacy.ledger.journal import read_journal
from common.release.manifest import CONTRIBUTIONS_FILE, SEASON_FILE
from common.release.verify import verify_release
from common.season import Season
from server.run import strategy
from tests.support.forging import Forger, by_name, export, found, named
from tests.support.frauds import ALL, changed, drop, fraud
from tests.support.honest_runs import HonestRun

pytestmark = pytest.mark.attack

ENDS = "1970-10-01,1970-11-01"
FILE = f"{RELEASE}/{SEASON_FILE}"
KEPT = f"{CONTRIBUTIONS}/season.safetensors"
REBUILT = "Season: made again"


def is_season(one):
    return one.kind == "season"


def made(out, base_model, cache):
    run = HonestRun(
        out, base_model, ("ash", "birch"), cache=cache, audit_canaries=0, season_ends=ENDS
    )
    run.export(run.train())
    return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def seasonal(tiny_bert, cache, tmp_path_factory):
    """A finished run of two merchants, two rounds, with a season of two ends."""
    return made(tmp_path_factory.mktemp("seasonal") / "out", tiny_bert, cache)


@pytest.fixture
def forger(seasonal, tmp_path):
    return Forger(seasonal, export(seasonal, tmp_path / "run"))


def audited(forger):
    return audit_run(forger.folder, forger.key)


def season_of(forger):
    return Season.from_bytes((forger.folder / FILE).read_bytes())


def entries_of(forger):
    return read_journal((forger.folder / JOURNAL).read_bytes())


def relist(forger):
    """Put the list that the journal has into the release, as its writer does."""
    manifest = forger.manifest
    plan, runs = manifest.privacy.privacy_plan, manifest.privacy.run_ids
    digest = manifest.adapter.digest
    listed = contributions_file(entries_of(forger), digest, plan.digest, runs)
    forger.release(**{CONTRIBUTIONS_FILE: listed})


# ------------------------------------------------------------------------------------ honest
def test_an_honest_season_is_made_again_to_the_bit(forger):
    """Nothing is wrong; the release's vectors are the sum of what two merchants signed."""
    report = audited(forger)
    assert found(report) == []
    assert report.passed
    (rebuilt,) = by_name(report, REBUILT)
    assert (rebuilt.status, rebuilt.detail) == ("passed", "128 numbers of 2 merchants")
    held = read_round(forger.folder / CONTRIBUTIONS, 0, "season")
    total = np.sum([held[name].astype(np.float64) for name in sorted(held)], axis=0)
    np.testing.assert_array_equal(season_of(forger).vectors.ravel(), total.astype(np.float32))


def test_a_release_alone_shows_when_it_was_taken_and_with_which_noise(forger):
    (check,) = by_name(audit_release(forger.folder / RELEASE), "Season: taken")
    assert check.status == "passed"
    assert check.detail.startswith("2 merchants, noise ")


def test_the_release_gives_it_and_the_statement_says_what_it_is(forger):
    release = verify_release(forger.folder / RELEASE, PublicKey.load(forger.key))
    plan = release.manifest.privacy.privacy_plan
    assert release.season.to_bytes() == season_of(forger).to_bytes()
    assert release.season.noise_std == pytest.approx(plan.noise_std("season") * np.sqrt(2))
    page = release.files["STATEMENT.md"].decode()
    assert "one season vector: what each shopper" in page
    assert f"deviation {plan.season_noise_multiplier:.4g}. It takes 25% of this run's cost" in page


def test_a_run_without_one_is_audited_without_a_word_of_it(honest):
    report = audit_release(honest / RELEASE)
    assert by_name(report, "Season") == []
    assert (
        SEASON_FILE
        not in verify_release(honest / RELEASE, PublicKey.load(honest / "operator.pub")).files
    )


# ---------------------------------------------------------------------- journal and ledgers
def test_a_journal_without_the_season(forger):
    """The plan takes it, so it is demanded, whatever the claim names."""
    fraud(forger, (), journal=drop(is_season))
    report = audited(forger)
    assert named(report, JOURNAL, "kind")
    assert named(report, JOURNAL, "round_number")  # nor is it signed for


@pytest.mark.parametrize("keys", [(), ALL])
def test_ledgers_without_the_seasons_charge(forger, keys):
    """Also where every merchant helps, and heads and claims follow the shorter ledgers."""
    forger.nodes  # noqa: B018 - read before the ledgers change
    if keys:
        fraud(forger, keys, ledger=drop(is_season))
    else:
        forger.ledger(forger.nodes[0], drop(is_season))
    report = audited(forger)
    assert named(report, f"{LEDGERS}/{forger.nodes[0]}.jsonl", "round_number")


def test_a_season_below_its_price(forger):
    """A charge under another sigma than the plan's is found, though all sums follow it."""
    cheap = changed(is_season, noise_multiplier=99.0)
    fraud(forger, ALL, ledger=cheap)
    assert named(audited(forger), f"{LEDGERS}/{forger.nodes[0]}.jsonl", "noise_multiplier")


def test_a_season_of_a_merchant_who_signed_nothing(forger):
    def unsigned(entries):
        return [
            replace(one, contributions=one.contributions[1:]) if is_season(one) else one
            for one in entries
        ]

    forger.journal(unsigned)
    relist(forger)
    assert named(audited(forger), JOURNAL, "contributions")


# ------------------------------------------------------------------------------- the vectors
def other(season, **changes):
    return replace(season, **changes).to_bytes()


LIES = {
    "another": (lambda held: other(held, vectors=held.vectors[:, ::-1].copy()), "vectors"),
    "nudged": (
        lambda held: other(held, vectors=np.nextafter(held.vectors, np.float32(9e9))), "vectors",
    ),
    "other moments": (
        lambda held: other(held, ends=(held.ends[0], held.ends[1] + 1)), "season_ends",
    ),
    "less noise than it has": (lambda held: other(held, noise_std=held.noise_std / 2), "noise_std"),
    "more merchants": (
        lambda held: other(held, merchants=8, noise_std=held.noise_std * 2), "merchants",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_another_season_in_the_release(forger, name):
    """Signed by the operator; the merchants' signed vectors do not come to it."""
    lie, field = LIES[name]
    forger.release(**{SEASON_FILE: lie(season_of(forger))})
    assert named(audited(forger), FILE, field)


@pytest.mark.parametrize(
    "content", [None, b"", b"nonsense"], ids=["left out", "empty", "not a season"]
)
def test_a_release_without_what_its_plan_paid_for_is_not_verified(forger, content):
    forger.release(**{SEASON_FILE: content})
    with pytest.raises(ReleaseError, match="season"):
        verify_release(forger.folder / RELEASE, PublicKey.load(forger.key))
    assert not audited(forger).passed


def test_a_season_that_no_plan_paid_for_is_not_verified(forger):
    def unpaid(document):
        del document["privacy"]["plan"]["season_noise_multiplier"]

    forger.release(unpaid)
    with pytest.raises(ReleaseError, match="takes none"):
        verify_release(forger.folder / RELEASE, PublicKey.load(forger.key))


def test_a_vector_that_was_not_signed(forger):
    """Vectors and sum follow each other; the merchant's own digest does not."""
    folder = forger.folder / CONTRIBUTIONS
    held = read_round(folder, 0, "season")
    first = min(held)
    write_round(folder, 0, {**held, first: held[first] * np.float32(2)}, "season")
    assert named(audited(forger), KEPT, "digest")


def test_a_vector_that_is_gone(forger):
    (forger.folder / KEPT).unlink()
    assert named(audited(forger), KEPT, "file")


def test_a_vector_of_another_run(forger, tiny_bert, cache, tmp_path):
    """What was signed in an earlier run is replayed, with its vectors and their sum."""
    earlier = made(tmp_path / "earlier", tiny_bert, cache)
    signed = next(one for one in read_journal((earlier / JOURNAL).read_bytes()) if is_season(one))
    shutil.copy(earlier / KEPT, forger.folder / KEPT)
    forger.journal(changed(is_season, contributions=signed.contributions))
    relist(forger)
    forger.release(**{SEASON_FILE: (earlier / FILE).read_bytes()})
    told = {one.signer for one in read_contributions(signed)}
    mine = {one.signer for one in forger.manifest.privacy.ledgers.values()}
    assert told.isdisjoint(mine)  # other ledgers: as anybody's but these merchants'
    assert named(audited(forger), JOURNAL, "contributions.signer")


def test_the_histograms_signature_in_the_seasons_place(forger):
    """A merchant's own word of the same run, for another vector, is none for this."""
    histogram = next(one for one in entries_of(forger) if one.kind == "popularity")
    forger.journal(changed(is_season, contributions=histogram.contributions))
    relist(forger)
    assert named(audited(forger), JOURNAL, "contributions.kind")


# ------------------------------------------------------------------------ twice in one run
@pytest.fixture(scope="module")
def twice(tiny_bert, cache, tmp_path_factory):
    """A run whose operator asks for the season twice, and keeps the one it likes."""
    ask = strategy.ask_season
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strategy, "ask_season", lambda *all_: (ask(*all_), ask(*all_))[1])
        return made(tmp_path_factory.mktemp("twice") / "out", tiny_bert, cache)


def test_a_second_season_in_one_run_is_paid_by_the_claim(twice, forger):
    """Each is charged; the claim is of both, above what the plan alone costs."""
    report = audit_run(twice, twice / "operator.pub")
    assert found(report) == []
    asked = Forger(twice, twice).manifest.privacy
    for one, once in zip(
        asked.merchants.values(), forger.manifest.privacy.merchants.values(), strict=True
    ):
        assert one.epsilon > 1.05 * once.epsilon
    assert once.epsilon <= 4.0


def test_a_second_season_that_the_claim_does_not_tell(twice, tmp_path):
    """The claim says what the plan costs: the ledgers come to more."""
    forger = Forger(twice, export(twice, tmp_path / "run"))
    cost = forger.manifest.privacy.run.add_or_remove
    forger.statement(
        merchants=lambda held: {name: {**one, "epsilon": cost} for name, one in held.items()}
    )
    assert named(audited(forger), MANIFEST, "epsilon")


def test_a_second_season_taken_off_the_journal(twice, tmp_path):
    """Whichever is hidden, the heads that the nodes signed no longer follow each other."""
    for hidden in (0, 1):
        forger = Forger(twice, export(twice, tmp_path / str(hidden)))
        number = [one.number for one in entries_of(forger) if is_season(one)][hidden]
        fraud(forger, (), journal=drop(lambda one, gone=number: one.number == gone))
        relist(forger)
        assert named(audited(forger), JOURNAL, "covers")
