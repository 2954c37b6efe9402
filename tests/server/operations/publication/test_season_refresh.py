"""An operator refreshes the season of what it has published: begun, gone on with, signed."""

import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from client.app import app
from client.node.session import close_nodes
from common.audit.layout import RELEASE
from common.encoder.public_basis import PublicBasis
from common.errors import FederationError, InputError, ReleaseError, SettingsError
from common.release.parent import differences
from common.release.verify import verify_release
from server.operations.experiment import Experiment, RunFolder
from server.operations.publication.publishing import list_release, publish, withdraw
from server.operations.publication.season_refresh import (
    latest_refresh,
    refresh_experiment,
    refreshes_of,
)
from server.releases.publish import version_at
from server.run.checkpoint import read_checkpoint, write_checkpoint
from server.run.files import CATALOGUE_FILE, SERVER_FOLDER
from server.run.outcome import BASIS_FILE, write_outcome
from server.run.setup import open_run
from server.run.strategy import FedtailStrategy
from simulations.federation.in_process_grid import InProcessGrid
from simulations.federation.refresh import allow_refresh
from tests.support.forging import Forger, export
from tests.support.honest_runs import HonestRun
from tests.support.refreshed_runs import FIRST_END, LATER_END
from tests.support.repositories import Operator, now

DAY = date.fromisoformat(LATER_END)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def trained(tiny_bert, cache, tmp_path_factory):
    """A training of two merchants, whose release an operator may sign."""
    values = {"audit_canaries": 0, "season_ends": FIRST_END}
    out = tmp_path_factory.mktemp("trained") / "out"
    run = HonestRun(out, tiny_bert, ("ash", "birch"), cache=cache, **values)
    run.export(run.train())
    return run


@pytest.fixture
def operator(trained, tmp_path):
    """An operator that has published that release, and the experiment it came from."""
    made = Operator(tmp_path / "server")
    forger, key = (
        Forger(trained.out, export(trained.out, tmp_path / "signed")),
        made.keys.load("release"),
    )
    forger.release(key=key)
    version = forger.manifest.version
    shutil.copytree(forger.folder / RELEASE, made.server.releases / version)
    list_release(made.server, key, version, now())
    return made


@pytest.fixture
def experiment(trained):
    return Experiment("shops", (), trained.settings)


def begun(operator, experiment, **asked):
    values = {"epsilon": 0.4, "day": DAY, **asked}
    return refresh_experiment(operator.server, experiment, **values)


def folder_of(operator, asked):
    return RunFolder(operator.server.runs.resolve() / asked.name)


def moment_of(version):
    day, second = version.rsplit(".", 1)
    start = datetime.strptime(day, "%Y.%m.%d").replace(tzinfo=UTC)
    return start + timedelta(seconds=int(second))


def parent_of(operator):
    (place,) = operator.server.releases.glob("2*")
    return place


def run_it(operator, asked, trained, monkeypatch):
    """Take the season as the app that SuperLink starts would, of nodes in this process."""
    run, merchants = folder_of(operator, asked), trained.out / "merchants"
    shutil.copy(merchants / CATALOGUE_FILE, run.root / CATALOGUE_FILE)
    allow_refresh(merchants, asked.settings.plan())
    config = run.config(operator.server, asked.settings)
    assert (operator.server.root / config["parent"]).samefile(parent_of(operator))
    for enrolled in ("members", "authority"):  # these nodes are not
        del config[enrolled]
    config |= {"federation": str(merchants), "cache": str(trained.trainer.cache)}
    monkeypatch.setenv(SERVER_FOLDER, str(operator.server.root))
    setup = open_run(config)
    run.note_run_id(77)
    strategy = FedtailStrategy(setup)
    try:
        strategy.start(InProcessGrid(app, 2, config, 77))
    finally:
        close_nodes()
    write_outcome(run.root, strategy.state.adapter, setup.basis, strategy.audits)
    return setup


# -------------------------------------------------------------------------------- beginning
def test_it_keeps_the_releases_settings_but_for_its_own(operator, experiment):
    asked = begun(operator, experiment)
    manifest = verify_release(parent_of(operator), operator.keys.load("release").public).manifest
    assert asked.name == f"shops-season-{DAY}"
    assert asked.settings.refresh_of == manifest.digest
    assert (asked.settings.rounds, asked.settings.epsilon) == (0, 0.4)
    assert asked.settings.season_ends == str(DAY)
    assert asked.public_holdout is None


def test_the_experiments_file_may_say_who_takes_part_and_not_how_the_adapter_is_read(
    operator, experiment
):
    changed = replace(
        experiment,
        settings=experiment.settings.model_copy(update={"min_merchants": 2, "rank": 1}),
    )
    changed.settings.model_fields_set.update({"min_merchants", "rank"})
    settings = begun(operator, changed).settings
    assert (settings.min_merchants, settings.rank) == (2, experiment.settings.rank)


def test_given_again_it_goes_on_with_what_it_began_with(operator, experiment):
    first = begun(operator, experiment)
    assert begun(operator, experiment, epsilon=None).settings == first.settings
    # without a day: that of the one which has not taken its season
    later = now() + timedelta(days=20)
    again = refresh_experiment(operator.server, experiment, epsilon=None, now=later)
    assert again == first
    with pytest.raises(SettingsError, match="began with epsilon"):
        begun(operator, experiment, epsilon=0.5)
    other = begun(operator, experiment, day=DAY + timedelta(days=7), epsilon=0.2)
    assert other.name != first.name
    assert latest_refresh(operator.server, experiment) == other


def test_a_season_is_not_taken_before_its_end(operator, experiment):
    """A slip of the hand: nodes would be charged, and no other season could be taken until then."""
    at = now()
    with pytest.raises(SettingsError, match="has not begun") as caught:
        begun(operator, experiment, day=at.date() + timedelta(days=1), now=at)
    assert caught.value.field == "season_ends"
    begun(operator, experiment, day=at.date(), now=at)


def test_one_begun_before_a_newer_training_is_not_gone_on_with(operator, experiment):
    """Its release would be the newest, with the older adapter."""
    old = begun(operator, experiment)
    newer = "2999.01.01.1"
    operator.publish(newer)
    with pytest.raises(ReleaseError, match=f"by now members use that of {newer}"):
        begun(operator, experiment)
    with pytest.raises(ReleaseError, match="would go back"):
        latest_refresh(operator.server, experiment)
    with pytest.raises(SettingsError):  # what it settles on is the newer release, as it is
        refresh_experiment(operator.server, experiment, epsilon=None, now=now())
    withdraw(operator.server, operator.keys, newer, "wrong", now())
    assert begun(operator, experiment) == old


def test_a_season_that_is_not_later_is_refused_and_leaves_no_run(operator, experiment):
    with pytest.raises(SettingsError) as caught:
        begun(operator, experiment, day=date.fromisoformat(FIRST_END))
    assert caught.value.field == "season_ends"
    with pytest.raises(FederationError, match="no refresh"):
        latest_refresh(operator.server, experiment)


def test_nobody_is_charged_by_default(operator, experiment):
    with pytest.raises(SettingsError, match="may cost"):
        begun(operator, experiment, epsilon=None)


def test_without_a_release_there_is_nothing_to_refresh(experiment, tmp_path):
    with pytest.raises(FederationError, match="publish one first"):
        begun(Operator(tmp_path / "fresh"), experiment)


def test_a_withdrawn_release_is_not_brought_back(operator, experiment):
    withdraw(operator.server, operator.keys, parent_of(operator).name, "wrong", now())
    with pytest.raises((ReleaseError, FederationError)):
        begun(operator, experiment)


def test_what_it_began_with_is_not_guessed(operator, experiment):
    (folder_of(operator, begun(operator, experiment)).root / "refresh.json").write_text("[]")
    with pytest.raises(InputError, match=r"refresh\.json"):
        begun(operator, experiment)


# ---------------------------------------------------------------------------------- signing
def test_its_release_is_signed_and_listed(operator, experiment, trained, monkeypatch):
    asked = begun(operator, experiment)
    place = parent_of(operator)
    with pytest.raises((InputError, FederationError)):  # nobody was asked yet
        publish(operator.server, operator.keys, asked, now())
    run_it(operator, asked, trained, monkeypatch)
    held = read_checkpoint(folder_of(operator, asked).root)
    write_checkpoint(folder_of(operator, asked).root, replace(held, season=None))
    with pytest.raises(FederationError, match="has not taken its season"):
        publish(operator.server, operator.keys, asked, now())
    write_checkpoint(folder_of(operator, asked).root, held)
    at = moment_of(place.name)  # the second of its parent
    made = publish(operator.server, operator.keys, latest_refresh(operator.server, experiment), at)
    assert made.version == version_at(at + timedelta(seconds=1))
    public = operator.keys.load("release").public
    child = verify_release(operator.server.releases / made.version, public)
    parent = verify_release(place, public)
    assert child.manifest.parent == parent.manifest.digest
    assert differences(child, parent) == {}
    assert child.season.ends > parent.season.ends
    with pytest.raises(ReleaseError, match="is published"):
        publish(operator.server, operator.keys, asked, now())
    assert refreshes_of(operator.server, place.name, now()) == [made.version]
    assert refreshes_of(operator.server, made.version, now()) == []
    # the next one: today, with the training as its parent, though a refresh is the latest
    following = refresh_experiment(operator.server, experiment, epsilon=0.4, now=now())
    assert following.name == f"shops-season-{now().date()}"
    assert following.settings.refresh_of == parent.manifest.digest
    with pytest.raises(SettingsError, match="already"):
        begun(operator, experiment, day=DAY - timedelta(days=1))


@pytest.mark.attack
def test_a_refresh_with_another_basis_than_its_parents_is_not_listed(
    operator, experiment, trained, monkeypatch
):
    """An operator's disk was changed between the run and the signature: nobody is told of it."""
    asked = begun(operator, experiment)
    setup = run_it(operator, asked, trained, monkeypatch)
    held = PublicBasis.from_bytes(setup.basis)
    other = replace(held, mean=held.mean + 1)
    (folder_of(operator, asked).root / BASIS_FILE).write_bytes(other.to_bytes())
    with pytest.raises(ReleaseError, match="is not the parent's"):
        publish(operator.server, operator.keys, asked, now())
    assert not folder_of(operator, asked).released
    assert parent_of(operator), "and no signed folder of it is left"


def test_a_parent_that_was_withdrawn_meanwhile_stops_the_signature(
    operator, experiment, trained, monkeypatch
):
    asked = begun(operator, experiment)
    run_it(operator, asked, trained, monkeypatch)
    withdraw(operator.server, operator.keys, parent_of(operator).name, "wrong", now())
    with pytest.raises(ReleaseError, match="was withdrawn"):
        publish(operator.server, operator.keys, asked, now())
