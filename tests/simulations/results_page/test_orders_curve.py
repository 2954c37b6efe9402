import numpy as np
import pytest

from common.errors import InputError
from simulations.results_page.orders_curve import first_orders, main
from tests.support.shops import make_shop


def orders(rows):
    return set(zip(rows.shopper.tolist(), rows.basket.tolist(), strict=True))


def test_a_cut_has_just_so_many_whole_orders_and_fewer_are_part_of_more():
    past = make_shop().interactions
    whole = orders(past)
    before = set()
    for count in (0, 1, 7, 30, len(whole)):
        kept = first_orders(past, count)
        assert len(orders(kept)) == count
        assert before <= orders(kept)
        before = orders(kept)
        for shopper, basket in before:
            same = (past.shopper == shopper) & (past.basket == basket)
            cut = (kept.shopper == shopper) & (kept.basket == basket)
            assert same.sum() == cut.sum()
    assert np.array_equal(first_orders(past, len(whole)).time, past.time)


def test_shoppers_are_whole_but_for_one():
    past = make_shop().interactions
    kept = first_orders(past, 40)
    cut = [
        shopper
        for shopper in np.unique(kept.shopper)
        if (kept.shopper == shopper).sum() < (past.shopper == shopper).sum()
    ]
    assert len(cut) <= 1


def test_more_orders_than_there_are_is_an_error():
    with pytest.raises(InputError, match="were asked for"):
        first_orders(make_shop().interactions, 10**6)


def test_a_run_that_held_nobody_out_has_no_curve(simulated, tmp_path, capsys):
    out = tmp_path / "curves.json"
    asked = ["--of", str(simulated), str(simulated), "--cache", str(tmp_path), "--out", str(out)]
    assert main(asked) == 2
    assert "held no merchant out" in capsys.readouterr().err
    assert not out.exists()
