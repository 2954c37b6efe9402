"""Settings for every test, the order of files, and what many tests share.

A fixture that many share makes what nobody changes, and waits for no clock: what a busy machine
could spoil would fail them all.
"""

import shutil

import pytest
from hypothesis import settings

# A property has no deadline, as a busy machine misses any. Each run draws other examples.
settings.register_profile("fedtail", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=400)
settings.load_profile("fedtail")


def pytest_collection_modifyitems(items):
    """Begin with the last room: whole simulations take longest, and none must be left to the end.

    Within a file the order stays.
    """
    place = {path: number for number, path in enumerate(dict.fromkeys(one.path for one in items))}
    items.sort(key=lambda one: -place[one.path])


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory):
    """The folder of a random BERT of 3 layers, 32 wide."""
    from tests.support.shops import write_tiny_bert

    return write_tiny_bert(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def tiny_model(tiny_bert):
    """That BERT, loaded."""
    from common.encoder.base_model import load_base_model

    return load_base_model(str(tiny_bert))


@pytest.fixture(params=["elsewhere", "cuda", "mps"])
def device(request):
    """A device that is not the processor: one that is made up, and those that are there."""
    import torch

    from tests.support.elsewhere import elsewhere

    if request.param == "elsewhere":
        with elsewhere() as made_up:
            yield made_up
        return
    if not getattr(torch, request.param).is_available():
        pytest.skip(f"this machine has no {request.param} device")
    torch.use_deterministic_algorithms(mode=True)
    yield torch.device(request.param)
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture(scope="session")
def simulated(tiny_bert, tmp_path_factory):
    """The folder of a finished simulation: `fedtail simulate` on a small shop, two merchants."""
    from tests.support.shops import simulate_small

    return simulate_small(tmp_path_factory.mktemp("simulated") / "out", tiny_bert, page=True)


@pytest.fixture(scope="session")
def honest(simulated, tmp_path_factory):
    """What an auditor of that simulation is given."""
    from tests.support.forging import export

    return export(simulated, tmp_path_factory.mktemp("audited") / "run")


@pytest.fixture
def forger(simulated, honest, tmp_path):
    """A copy of it, and all the keys to sign it anew."""
    from tests.support.forging import Forger

    return Forger(simulated, shutil.copytree(honest, tmp_path / "run"))


@pytest.fixture(scope="module")
def workshop(tiny_model):
    """Make a trainer on a shop of 120 shoppers by LoRA targets and objective, each once."""
    from tests.support.workshops import workshop_of

    return workshop_of(tiny_model)


# ------------------------------------------- the tables of `make faults` and `make attack`
TABLES = ("faults", "attack")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Keep what a test of a fault or an attack says must come of it."""
    report = yield
    if any(item.get_closest_marker(one) is not None for one in TABLES):
        said = " ".join((item.function.__doc__ or "").split("\n\n")[0].split())
        report.user_properties.append(("fault", said or item.originalname))
    return report


def pytest_terminal_summary(terminalreporter):
    """Print one line for each fault or attack, where they were asked for."""
    expression = terminalreporter.config.getoption("markexpr") or ""
    asked = [one for one in TABLES if one in expression]
    if not asked:
        return
    terminalreporter.section(f"{asked[0]}: what came of each")
    # What a fixture measured until the test's end is on the report of that end, of no outcome.
    measured = {
        report.nodeid: dict(report.user_properties).get("outcome")
        for report in terminalreporter.getreports("")
        if report.when == "teardown"
    }
    for outcome in ("failed", "passed", "skipped"):
        for report in terminalreporter.getreports(outcome):
            told = dict(getattr(report, "user_properties", ()))  # none of a file left out whole
            if "fault" in told and (report.when == "call" or outcome == "skipped"):
                name = report.nodeid.partition("::test_")[2].replace("_", " ")
                terminalreporter.write_line(f"{outcome:8}{name}")
                terminalreporter.write_line(f"{'':8}{told['fault']}")
                if measured.get(report.nodeid):
                    terminalreporter.write_line(f"{'':8}{measured[report.nodeid]}")
