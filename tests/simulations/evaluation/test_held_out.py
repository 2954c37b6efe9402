"""Merchants that never train: nothing of them is in a run, and the release is judged on them."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.shop.dataset import load_merchant_data
from client.shop.pointer import POINTER
from common.errors import InputError, SettingsError
from simulations.data.partition import partition_merchants
from simulations.data.shop import Shop
from simulations.evaluation.held_out import hold_out
from simulations.federation.comparisons import check_same_merchants
from simulations.federation.folders import write_federation
from simulations.results.schema import load_results
from tests.support.shops import command, make_plan, make_shop, small_options


@given(st.integers(1, 12), st.data())
def test_every_merchant_trains_or_is_held_out(count, data):
    parts = [f"Merchant {place}" for place in range(count)]
    held, seed = data.draw(st.integers(0, count)), data.draw(st.integers(0, 99))
    training, apart = hold_out(parts, held, seed)
    assert len(apart) == held
    assert sorted(training + apart) == sorted(parts)
    assert [one for one in parts if one in training] == training
    assert hold_out(parts, held, seed) == (training, apart)


def test_the_seed_chooses_who():
    parts = [f"Merchant {place}" for place in range(8)]
    assert len({tuple(hold_out(parts, 2, seed)[1]) for seed in range(12)}) > 4


@pytest.fixture(scope="module")
def finished(tiny_bert, tmp_path_factory):
    out = tmp_path_factory.mktemp("held") / "out"
    arguments = [*small_options(out, tiny_bert), "--held-out-merchants", "2"]
    done = command(arguments, out.parent / "cache")
    assert done.exception is None
    return out, load_results(out / "results.json"), done.output


def test_held_out_merchants_have_no_part_in_the_run(finished):
    out, results, _ = finished
    trained, held = ({one.name for one in some.merchants} for some in (results, results.held_out))
    assert (len(trained), len(held)) == (2, 2)
    assert not trained & held
    manifest = json.loads((out / "release" / "manifest.json").read_text(encoding="utf-8"))
    assert set(results.privacy.merchants) == trained == set(manifest["catalogues"])
    everybody = set(make_shop("Corner shop", items=50, shoppers=60).interactions.shopper_ids)
    seen = set()
    for folder in (out / "merchants").glob("0*"):
        seen |= set(load_merchant_data(folder).interactions.shopper_ids)
    assert len(seen) == results.dataset.shoppers == 30
    assert seen < everybody


def test_the_release_is_judged_on_them_beside_what_they_have_alone(finished):
    _, results, output = finished
    held = results.held_out
    assert set(held.metrics) == {
        "popularity",
        "local_ease",
        "own_alone",
        "ease_trend",
        "frozen_text",
        "fused_frozen",
        "adapter",
        "fused",
    }
    pairs = {(one.model, one.baseline) for one in held.intervals.differences}
    assert {("adapter", "frozen_text"), ("fused", "fused_frozen")} <= pairs
    assert sum(one.cases for one in held.merchants) > 10
    assert held.metrics["adapter"]["auc"] != held.metrics["frozen_text"]["auc"]
    assert "2 merchants that never trained" in output


def test_a_folder_of_other_merchants_is_not_gone_on_with(tmp_path):
    """Else a finished run's adapter would be judged on a merchant that had trained it."""

    def shops(merchants):
        data = make_shop(shoppers=60)
        parts = partition_merchants(data, how="random", merchants=merchants, seed=0)
        return [Shop.of(part) for part in parts]

    three, folder = shops(3), tmp_path / "merchants"
    check_same_merchants(three, folder)  # nothing there yet
    write_federation(three, folder, make_plan())
    check_same_merchants(three, folder)
    for others in (three[:2], three[1:], [three[0], three[2]], shops(4)[:3]):
        with pytest.raises(InputError) as caught:
            check_same_merchants(others, folder)
        assert caught.value.field == "merchants"
    shutil.rmtree(folder / "02-merchant-3")  # a stop came while the folders were written
    (folder / "01-merchant-2" / POINTER).unlink()
    check_same_merchants(three, folder)


def test_a_wrong_number_is_an_error(tiny_bert, tmp_path):
    arguments = [*small_options(tmp_path / "out", tiny_bert), "--held-out-merchants", "-1"]
    done = command(arguments, tmp_path / "cache")
    assert isinstance(done.exception, SettingsError)
    assert done.exception.field == "held_out_merchants"
