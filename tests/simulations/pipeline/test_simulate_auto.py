"""Settings that nobody named are chosen from declared facts, and told."""

from rich.console import Console

from client.shop.dataset import save_merchant_data
from common.errors import InputError
from common.settings.auto import DeclaredFacts, choose
from simulations.options import SimulationOptions
from simulations.pipeline.progress import Screen
from simulations.pipeline.records import settings_record
from simulations.pipeline.simulate import Simulation
from tests.support.shops import command, make_shop, small_options


def test_auto_chooses_what_nobody_named_and_the_results_tell_both(tmp_path):
    shop = make_shop("Corner shop", items=50, shoppers=60)
    save_merchant_data(shop, tmp_path / "shop")
    options = SimulationOptions(
        out=tmp_path / "out",
        data=tmp_path / "shop",
        merchants=2,
        partition="random",
        auto=True,
        settings={"rank": 3, "history_decay": 0.77},
    )
    simulation = Simulation(options, Screen(Console(quiet=True)), tmp_path / "cache")
    data, shops, settings, how = simulation._shops()
    facts = DeclaredFacts.of([data.catalogue], settings, clock=True, merchants=2)
    expected = {name: one.value for name, one in choose(facts).items()}
    expected |= {"rank": 3, "history_decay": 0.77}
    told = settings_record(settings, options, len(shops), how, simulation.chosen)
    assert {name: told[name] for name in expected} == expected
    assert set(str(told["auto"]).split(",")) == expected.keys() - {"rank", "history_decay"}


def test_the_command_asks_for_auto_and_only_then(tmp_path, tiny_bert, monkeypatch):
    seen = []

    def stop(options, screen, cache):
        seen.append(options.auto)
        raise InputError("enough", field="out")

    monkeypatch.setattr("simulations.pipeline.simulate.Simulation", stop)
    arguments = small_options(tmp_path / "out", tiny_bert)
    for more in ([], ["--auto"]):
        command([*arguments, *more], tmp_path / "cache")
    assert seen == [False, True]
