import json

import pytest
from pydantic import ValidationError

from client.recommending.expected_benefit import (
    ExpectedBenefit,
    OrdersCurve,
    Share,
    can_be_measured,
    count_orders,
    curves_json,
    expected_by_orders,
    expected_json,
)
from client.shop.dataset import save_merchant_data
from tests.support.shops import command, make_shop


def test_the_packages_curves_start_at_no_orders_and_hold_their_intervals():
    curves = expected_by_orders()
    assert curves
    for curve in curves:
        orders = [point.orders for point in curve.points]
        assert orders == sorted(set(orders))
        assert orders[0] == 0
        assert {100, 1000} <= set(orders)
        for point in curve.points:
            for share in (point.found, point.found_in_tail, point.own_model_found):
                assert 0 <= share.low <= share.mean <= share.high <= 1
                assert share.worst_shop <= share.mean <= share.best_shop


def test_between_two_points_the_lower_one_holds():
    curve = expected_by_orders()[0]
    assert curve.at(0).orders == 0
    assert curve.at(999).orders < 1000
    assert curve.at(10**9) == curve.points[-1]


def test_the_file_is_read_as_it_was_written():
    curves = expected_by_orders()
    assert [
        OrdersCurve.model_validate(one) for one in json.loads(curves_json(curves))["curves"]
    ] == [*curves]
    with pytest.raises(ValidationError):
        Share(mean=float("nan"), low=0, high=0, worst_shop=0, best_shop=0)
    assert ExpectedBenefit.model_fields.keys() == curves[0].points[0].model_dump().keys()


def test_orders_are_baskets_and_not_rows():
    shop = make_shop()
    rows = shop.interactions
    assert count_orders(shop) == len(
        set(zip(rows.shopper.tolist(), rows.basket.tolist(), strict=True))
    )
    assert can_be_measured(shop)
    assert json.loads(expected_json(7, "r"))["verdict"] == "cannot tell"


def test_the_command_shows_them_to_a_shop_without_purchases(simulated, tmp_path):
    from client.importing.shop_import import import_shop

    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "items.csv").write_text("item_id,title\na,red jug\nb,blue mug\n")
    import_shop(tmp_path / "tables", None, tmp_path / "shop", catalogue_only=True)
    released = ["--release", str(simulated / "release"), "--key", str(simulated / "operator.pub")]
    asked = ["client", "benefit", *released, "--shop", str(tmp_path / "shop")]
    done = command(asked, tmp_path / "cache")
    assert done.exception is None, done.output
    assert "cannot tell yet" in done.output
    assert "it promises nothing" in " ".join(done.output.split())
    found = json.loads(command([*asked, "--json"], tmp_path / "cache").output)
    assert (found["orders"], found["verdict"]) == (0, "cannot tell")
    assert found["expected"][0]["points"][0]["orders"] == 0
    save_merchant_data(make_shop(), tmp_path / "shop")
    assert count_orders(make_shop()) > 0
