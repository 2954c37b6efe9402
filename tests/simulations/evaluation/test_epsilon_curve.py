"""Trainings against epsilon: who is left out, what is measured, and what ships."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from client.shop.dataset import load_merchant_data
from common.errors import SettingsError
from simulations.data.shop import Shop
from simulations.evaluation.epsilon_curve import HELD_BACK, shoppers_held_back, without_shoppers
from simulations.results.schema import load_results
from simulations.results.sections import EpsilonCurve
from tests.support.shops import command, make_shop, small_options


@pytest.fixture(scope="module")
def finished(tiny_bert, tmp_path_factory):
    out = tmp_path_factory.mktemp("curve") / "out"
    # One process: test_parallel_runs holds that several come to the same.
    arguments = [*small_options(out, tiny_bert, processes=1), "--epsilon-curve", "2,inf,8"]
    done = command(arguments, out.parent / "cache", page=True)
    assert done.exception is None
    return out, load_results(out / "results.json")


def test_a_fifth_is_left_out_and_the_rest_is_as_it_was():
    shop = Shop.of(make_shop(shoppers=40))
    held = shoppers_held_back(shop, 3)
    assert held.sum() == round(HELD_BACK * 40)
    assert np.array_equal(held, shoppers_held_back(shop, 3))
    assert not np.array_equal(held, shoppers_held_back(shop, 4))
    rest = without_shoppers(shop, held)
    gone = {name for name, out in zip(shop.past.shopper_ids, held, strict=True) if out}
    assert set(rest.past.shopper_ids) == set(shop.past.shopper_ids) - gone
    for name in rest.past.shopper_ids:
        places = [one.past.shopper_ids.index(name) for one in (shop, rest)]
        bought = [
            one.past.item[one.past.shopper == place]
            for one, place in zip((shop, rest), places, strict=True)
        ]
        assert np.array_equal(*bought)


def test_each_budget_is_trained_on_those_who_were_not_left_out(finished):
    out, results = finished
    curve = results.epsilon_curve
    assert [one.epsilon for one in curve.points] == [None, 8, 2]
    for folder in ("epsilon-inf", "epsilon-8-0", "epsilon-2-0"):
        seen = {
            name
            for place in (out / "baselines" / folder).glob("0*")
            for name in load_merchant_data(place).interactions.shopper_ids
        }
        assert len(seen) == 60 - 12
    for point in curve.points:
        assert point.membership.members > point.membership.others > 5
        assert set(point.metrics) == {"adapter", "fused"}
    assert curve.points[0].membership.bound == 1
    assert curve.points[1].membership.bound > curve.points[2].membership.bound
    assert set(curve.frozen) == {"frozen_text", "fused_frozen"}
    assert curve.frozen["frozen_text"]["ndcg@10"] == results.metrics["frozen_text"]["ndcg@10"]


def test_the_curve_changes_nothing_of_the_release_and_ships_with_it(finished, simulated):
    out, results = finished
    digest = load_results(simulated / "results.json").release.adapter_digest
    assert results.release.adapter_digest == digest
    written = json.loads((out / "release" / "epsilon-curve.json").read_text(encoding="utf-8"))
    assert written == results.epsilon_curve.model_dump(mode="json")
    manifest = json.loads((out / "release" / "manifest.json").read_text(encoding="utf-8"))
    assert {"epsilon-curve.json", "epsilon-curve.svg"} <= set(manifest["files"])
    drawn = (out / "release" / "epsilon-curve.svg").read_text(encoding="utf-8")
    page = (out / "report.html").read_text(encoding="utf-8")
    for text in ("no noise", "advantage"):
        assert text in drawn
        assert text in page
    assert "Against ε" in page


@pytest.mark.parametrize("asked", ["8,8", "0", "-1,2", "many", "nan", ""])
def test_a_wrong_list_is_an_error(tiny_bert, tmp_path, asked):
    arguments = [*small_options(tmp_path / "out", tiny_bert), "--epsilon-curve", asked]
    done = command(arguments, tmp_path / "cache")
    assert isinstance(done.exception, SettingsError)
    assert done.exception.field == "epsilon_curve"


def test_points_out_of_order_are_no_curve(finished):
    fields = finished[1].epsilon_curve.model_dump()
    with pytest.raises(ValidationError, match="largest first"):
        EpsilonCurve.model_validate({**fields, "points": fields["points"][::-1]})


def test_without_the_option_there_is_no_curve(simulated):
    assert load_results(simulated / "results.json").epsilon_curve is None
    assert not (simulated / "release" / "epsilon-curve.json").exists()
