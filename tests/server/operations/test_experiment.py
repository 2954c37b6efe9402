from datetime import date

import pytest

from common.catalogue import read_catalogue, write_catalogue
from common.errors import InputError, SettingsError
from common.settings.auto import DeclaredFacts, choose
from server.operations.experiment import Experiment, RunFolder
from server.run.files import SERVER_FOLDER
from server.run.setup import CATALOGUE_FILE, open_run
from tests.support.doors import operator
from tests.support.flower_engine import free_port
from tests.support.shops import make_catalogue

TEXT = 'catalogues = ["a.jsonl", "b.jsonl"]\n\n[settings]\nrounds = 3\n'


@pytest.fixture
def write(tmp_path):
    """Write an experiment file and the two catalogues it names."""
    for name, seed in (("a", 0), ("b", 1)):
        write_catalogue(make_catalogue(20, seed), tmp_path / f"{name}.jsonl")

    def make(text=TEXT, name="first.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def test_catalogues_lie_beside_the_file_and_settings_are_a_runs(write, tmp_path):
    experiment = Experiment.load(write())
    assert experiment.name == "first"
    assert experiment.catalogues == (tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert experiment.settings.rounds == 3


BAD = {
    "nothing": ("", "catalogues"),
    "one file": ('catalogues = "a.jsonl"', "catalogues"),
    "no file": ("catalogues = []", "catalogues"),
    "setting outside": ('catalogues = ["a.jsonl"]\nrounds = 3', "rounds"),
    "unknown setting": ('catalogues = ["a.jsonl"]\n[settings]\nround = 3', "round"),
    "out of bounds": ('catalogues = ["a.jsonl"]\n[settings]\nrounds = -1', "rounds"),
    "trusted noise": ('catalogues = ["a.jsonl"]\n[settings]\nnoise = "central"', "noise"),
    "no table": ('catalogues = ["a.jsonl"]\nsettings = 3', "settings"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(write, case):
    text, field = BAD[case]
    with pytest.raises(SettingsError) as caught:
        Experiment.load(write(text))
    assert caught.value.field == field


def test_a_name_that_could_leave_the_folder_is_refused(write):
    with pytest.raises(SettingsError):
        Experiment.load(write(name="..toml"))


def test_a_run_has_one_folder_and_what_flower_is_told_opens_it(
    write, tmp_path, tiny_bert, monkeypatch
):
    server = operator(tmp_path / "server", free_port())
    text = TEXT + f'base_model = "{tiny_bert}"\nrank = 3\n'
    experiment = Experiment.load(write(text))
    run = RunFolder.prepare(server, experiment)
    assert len(read_catalogue(run.root / CATALOGUE_FILE)) == 40  # both, no text twice
    monkeypatch.setenv(SERVER_FOLDER, str(server.root))
    config = run.config(server, experiment.settings)
    assert not [one for one in config.values() if str(tmp_path / "server") in str(one)]
    setup = open_run(config)
    assert setup.folder == run.root == RunFolder.prepare(server, experiment).root
    assert setup.journal == server.journal
    assert setup.plan.digest == experiment.settings.plan().digest


def test_a_run_remembers_its_starts_and_its_release(write, tmp_path):
    server = operator(tmp_path / "server", free_port())
    run = RunFolder.prepare(server, Experiment.load(write()))
    assert (run.run_ids, run.released) == (frozenset(), "")
    for number in (7, 8, 7):
        run.note_run_id(number)
    run.note_release("2026.1")
    assert (run.run_ids, run.released) == (frozenset({"7", "8"}), "2026.1")
    (run.root / "run-ids.json").write_text("{")
    with pytest.raises(InputError, match="put back a copy"):
        _ = run.run_ids


def test_public_shoppers_lie_beside_the_file(write, tmp_path):
    assert Experiment.load(write()).public_holdout is None
    named = Experiment.load(write('public_holdout = "public.jsonl"\n' + TEXT))
    assert named.public_holdout == tmp_path / "public.jsonl"
    with pytest.raises(SettingsError) as caught:
        Experiment.load(write("public_holdout = 3\n" + TEXT))
    assert caught.value.field == "public_holdout"


AUTO = 'catalogues = ["a.jsonl", "b.jsonl"]\n[auto]\nclock = false\nmerchants = 2\n'


def test_what_is_not_named_is_chosen_from_declared_facts(write):
    experiment = Experiment.load(write(AUTO + "[settings]\nhistory-decay = 0.9\nsize_bracket = 50"))
    catalogues = [read_catalogue(path) for path in experiment.catalogues]
    facts = DeclaredFacts.of(catalogues, experiment.settings, clock=False, merchants=2)
    expected = choose(facts)
    del expected["history_decay"]
    assert experiment.chosen == expected
    assert experiment.settings.history_decay == 0.9
    flat = experiment.settings.to_flat()
    assert {name: flat[name] for name in expected} == {
        name: one.value for name, one in expected.items()
    }
    assert Experiment.load(write()).chosen == {}


@pytest.mark.parametrize(
    ("auto", "field"),
    [
        ("auto = true\n", "auto"),
        ("[auto]\nclock = true\n", "auto"),
        ("[auto]\nclock = true\nmerchants = 2\nshoppers = 5\n", "auto"),
        ("[auto]\nclock = 1\nmerchants = 2\n", "clock"),
        ("[auto]\nclock = true\nmerchants = true\n", "merchants"),
        ("[auto]\nclock = true\nmerchants = 0\n", "merchants"),
    ],
)
def test_facts_that_are_not_declared_right_are_named(write, auto, field):
    with pytest.raises(SettingsError) as caught:
        Experiment.load(write('catalogues = ["a.jsonl", "b.jsonl"]\n' + auto))
    assert caught.value.field == field


# ------------------------------------------------------------------ the season
TODAY, LATER = date(2026, 11, 30), date(2026, 12, 3)


def settled(experiment, tmp_path, today):
    return RunFolder(tmp_path / "runs" / "first").settled(experiment, today)


def test_a_season_ends_on_the_day_of_the_first_start_and_stays_there(write, tmp_path):
    """What goes on, and what is published, is the run of that day."""
    experiment = Experiment.load(write())
    assert settled(experiment, tmp_path, None) == experiment  # nothing to publish yet
    first = settled(experiment, tmp_path, TODAY)
    assert first.settings.season_ends == "2026-11-30"
    assert settled(experiment, tmp_path, LATER) == first
    assert settled(experiment, tmp_path, None) == first
    assert first.settings.plan().takes_season


@pytest.mark.parametrize(
    "named", ['season_ends = "2026-01-01"', 'season_ends = ""', "season_share = 0"]
)
def test_a_day_that_the_operator_names_or_forgoes_is_left_alone(write, tmp_path, named):
    experiment = Experiment.load(write(TEXT + named + "\n"))
    assert settled(experiment, tmp_path, TODAY) == experiment
    assert not (tmp_path / "runs" / "first" / "season.json").exists()


def test_a_run_that_an_earlier_version_began_goes_on_without_a_season(write, tmp_path):
    experiment = Experiment.load(write())
    RunFolder(tmp_path / "runs" / "first").note_run_id(7)
    assert settled(experiment, tmp_path, TODAY) == experiment


def test_shares_that_leave_nothing_for_training_are_refused(write, tmp_path):
    experiment = Experiment.load(write(TEXT + "popularity_share = 0.95\n"))
    with pytest.raises(SettingsError) as caught:
        settled(experiment, tmp_path, TODAY)
    assert caught.value.field == "season_share"


def test_a_season_forgone_stays_so_where_a_rule_chooses_the_rest(write, tmp_path):
    forgone = Experiment.load(write(AUTO + "[settings]\nseason_share = 0\n"))
    assert settled(forgone, tmp_path, TODAY) == forgone
    taken = Experiment.load(write(AUTO))
    assert settled(taken, tmp_path, TODAY).settings.season_ends == "2026-11-30"
