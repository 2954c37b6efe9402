"""The command as a person meets it: help, settings, the version, and errors of one line."""

import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import typer

import fedtail
from common.errors import InputError
from common.settings.run import RunSettings
from simulations.options import SimulationOptions, experiment_options
from simulations.pipeline.simulate import Simulation

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "simulations" / "experiments").glob("*.toml"))
HEAVY = {"torch", "transformers", "peft", "opacus", "flwr", "polars", "matplotlib", "ray"}


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command in this process, as its console script does."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedtail", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            fedtail.main()
        printed = capsys.readouterr()
        return Ran(ended.value.code or 0, printed.out, printed.err)

    return run


def options(command, path=()):
    """Yield each option of each command below `command`, with the command's path."""
    for name, below in getattr(command, "commands", {}).items():
        yield from options(below, (*path, name))
    for parameter in command.params:
        if parameter.param_type_name == "option":  # an argument is told of in the command's help
            yield path, parameter


def test_help_names_what_there_is(run):
    shown = run("--help")
    assert shown.code == 0
    assert "simulate" in shown.out
    assert "client" in shown.out


def test_without_arguments_help_is_shown(run):
    assert "Usage: fedtail" in run().out


def test_help_of_simulate_shows_commands_that_work(run):
    shown = run("simulate", "--help")
    assert shown.code == 0
    assert "fedtail simulate --out out/demo" in shown.out
    assert "--epsilon" in shown.out


def test_every_option_says_what_it_is_for():
    command = typer.main.get_command(fedtail.app)
    silent = [
        f"{' '.join(path)} {parameter.name}"
        for path, parameter in options(command)
        if parameter.param_type_name == "option" and not parameter.help
    ]
    assert silent == []


def arguments(command, path=()):
    """Yield each command below `command` that takes an argument, with the argument's name."""
    for name, below in getattr(command, "commands", {}).items():
        yield from arguments(below, (*path, name))
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            yield path, command, parameter.name.upper()


def test_every_argument_is_explained_in_its_commands_own_words():
    found = list(arguments(typer.main.get_command(fedtail.app)))
    assert len(found) >= 3
    assert [path for path, command, name in found if name not in (command.help or "")] == []


def test_the_settings_list_has_every_setting_with_its_default_and_meaning(run):
    shown = run("simulate", "--settings")
    assert shown.code == 0
    words = shown.out.split()
    for name, field in RunSettings.model_fields.items():
        assert name in words
        assert str(field.default) in (*words, "")  # the name of no day is shown as nothing
        assert field.description.split()[0] in words


def test_the_version_is_the_projects(run):
    try:
        version("fedtail")
    except PackageNotFoundError:
        pytest.skip("fedtail is not installed in this environment; make setup installs it")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert run("--version").out == f"fedtail {project['version']}\n"


BAD = {
    "no folder to write to": ("simulate", "--out"),
    "no merchants": ("simulate --out OUT --merchants 0", "merchants"),
    "two sources": ("simulate --out OUT --data . --marketplace", "--marketplace"),
    "unknown partition": ("simulate --out OUT --partition moon", "random"),
    "a setting without a value": ("simulate --out OUT --set rank", "NAME=VALUE"),
    "an unknown setting": ("simulate --out OUT --set rnak=8", "rnak"),
    "a setting out of bounds": ("simulate --out OUT --rounds 0", "rounds"),
    "unknown noise": (
        "simulate --out OUT --noise loud",
        "'local', 'distributed', 'central' or 'none'",
    ),
    "an unknown module": ("simulate --out OUT --set lora_modules=head", "output.dense"),
    "no experiment file": ("simulate --out OUT --experiment no.toml", "no.toml"),
    "nothing to import": ("client import --out OUT", "--source"),
    "no such shop": ("client import --out OUT --source no", "no such file"),
    "no key": ("client recommend --release no --key no.pub --shop no --history tea", "no.pub"),
    "no history": ("client recommend --release no --key no --shop no", "--history"),
    "shopper and history": (
        "client recommend --release no --key no --shop no --shopper a --history b",
        "not two of them",
    ),
    "no file of rules": (
        "client recommend --release no --key no --shop no --new-shopper --filters no.toml",
        "no.toml",
    ),
    "no stock table": (
        "client recommend --release no --key no --shop no --new-shopper --stock no.csv",
        "no.csv",
    ),
    "a solo release without its key": (
        "client benefit --release no --key no --shop no --solo no",
        "--solo-key",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_ends_with_one_line_and_code_2(case, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command, named = BAD[case]
    failed = run(*(tmp_path / "out" if word == "OUT" else word for word in command.split()))
    assert failed.code == 2
    assert failed.err.startswith("fedtail: ")
    assert failed.err.count("\n") == 1
    assert failed.err.endswith(".\n")
    assert named in failed.err
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate", "--nope"),
        ("simulate", "--rounds", "many"),
        ("client", "recommend"),
        ("serve",),  # no such group
    ],
)
def test_a_command_line_that_cannot_be_read_ends_with_code_2(arguments, run):
    failed = run(*arguments)
    assert failed.code == 2
    assert "Usage: fedtail" in failed.err
    assert "Traceback" not in failed.err


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("merchants = 'eight'", "merchants: a str was given"),
        ("merchants = 2.5", "merchants: a float was given"),
        ("settings = 3", "settings: a int was given"),
        ("data = 7", "data: a int was given"),
        ("history = 'tea'", "history: a str was given"),
        ("partition = 'moon'", "partition: a str was given"),
        ("merchant = 8", "there is no option 'merchant'"),
        ("merchants = ", "not a TOML file"),
        ("[settings]\nrank = 0", "rank"),
    ],
)
def test_a_bad_experiment_file_ends_with_one_line_that_names_it(line, named, run, tmp_path):
    experiment = tmp_path / "one.toml"
    experiment.write_text(f"{line}\n", "utf-8")
    failed = run("simulate", "--out", tmp_path / "out", "--experiment", experiment)
    assert failed.code == 2
    assert failed.err.startswith("fedtail: ")
    assert named in failed.err
    assert failed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_message_keeps_its_square_brackets(run, monkeypatch):
    def fail(*_, **__):
        raise InputError("[settings] must be a table.", field="settings")

    monkeypatch.setattr("simulations.options.SimulationOptions.__init__", fail)
    assert "fedtail: [settings] must be a table." in run("simulate", "--out", "nowhere").err


def test_a_folder_with_other_files_is_refused_and_left_alone(run, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work", "utf-8")
    failed = run("simulate", "--out", tmp_path, "--overwrite")
    assert failed.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.name)
def test_a_ready_made_experiment_has_options_and_settings_that_exist(path):
    options = SimulationOptions(out=Path("out"), **experiment_options(path))
    RunSettings.from_flat(options.settings).plan(options.merchants)


def test_the_demo_is_an_experiment():
    assert "demo.toml" in {path.name for path in EXPERIMENTS}
    assert "--experiment simulations/experiments/demo.toml" in (ROOT / "Makefile").read_text()


def test_the_command_line_wins_over_the_experiment_file(run, tmp_path, monkeypatch):
    experiment = tmp_path / "one.toml"
    experiment.write_text(
        "data = 'shop'\nmerchants = 3\npartition = 'random'\ntensorboard = true\n"
        "history = ['tea', 'cup']\n[settings]\nrank = 2\nepsilon = 1\n",
        "utf-8",
    )
    seen = []

    def stop(simulation):
        seen.append(simulation.options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Simulation, "run", stop)
    out = tmp_path / "out"
    run("simulate", "--experiment", experiment, "--out", out, "--merchants", 5, "--set", "rank=8")
    assert seen == [
        SimulationOptions(
            out=out,
            data=tmp_path / "shop",  # relative to the file
            merchants=5,
            partition="random",
            tensorboard=True,
            history=("tea", "cup"),
            settings={"rank": "8", "epsilon": 1},
        )
    ]


def test_ctrl_c_says_how_to_go_on(run, tmp_path, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Simulation, "run", stop)
    monkeypatch.setenv("FEDTAIL_CACHE", str(tmp_path))
    stopped = run("simulate", "--out", tmp_path / "out")
    assert stopped.code == 130
    assert "give the same command again" in stopped.err


def test_help_loads_no_model_and_no_engine():
    script = (
        "import sys, fedtail; sys.argv = ['fedtail', 'simulate', '--help']\n"
        "try: fedtail.main()\n"
        "except SystemExit: print(*sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert HEAVY & set(ran.stdout.splitlines()[-1].split()) == set()
