"""What an order's first line says holds for the order; refunds take purchases back."""

import polars as pl
import pytest

from client.importing.mapping import EventTypes
from client.importing.rules.orders import drop_refunded, fill_order_cells, known_types, weigh_types

TYPES = EventTypes(column="e", view=("view",), cart=("cart",), purchase=("buy",), refund=("back",))


def _orders(rows):
    schema = {"order_id": pl.String, "shopper_id": pl.String, "time": pl.Int64,
              "cancelled": pl.Boolean}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_later_lines_take_the_first_lines_cells_and_nothing_crosses_an_order():
    frame = fill_order_cells(
        _orders([
            ("1", "ann", 5, True), ("1", None, 5, None), ("2", None, 5, None),
            ("0", "bob", 6, None), ("0", None, 7, None), (None, None, 7, None),
        ])
    )  # fmt: skip
    assert frame["shopper_id"].to_list() == ["ann", "ann", None, "bob", None, None]
    assert frame["cancelled"].to_list() == [True, True, None, None, None, None]


def _events(rows, *, orders=True):
    schema = {"type": pl.String, "shopper_id": pl.String, "item_id": pl.String, "time": pl.Int64,
              "order_id": pl.String, "quantity": pl.Float64}  # fmt: skip
    frame = known_types(pl.DataFrame(rows, schema=schema, orient="row"), TYPES)
    return frame if orders else frame.drop("order_id")


def test_a_refund_takes_back_its_item_or_all_of_its_order():
    bought = [("buy", "ann", "x", 1, "1", 2.0), ("BUY ", "ann", "y", 1, "1", 1.0),
              ("buy", "bob", "x", 1, "2", 1.0), ("other", "bob", "x", 1, "2", 1.0)]  # fmt: skip
    one = drop_refunded(_events([*bought, ("back", "ann", "x", 2, "1", 2.0)]))
    assert one.select("shopper_id", "item_id").rows() == [("ann", "y"), ("bob", "x")]
    part = drop_refunded(_events([*bought, ("back", "ann", "x", 2, "1", 1.0)]))
    assert part.height == 3
    whole = drop_refunded(_events([*bought, ("back", "ann", None, 2, "1", None)]))
    assert whole["shopper_id"].to_list() == ["bob"]


def test_a_refund_without_an_order_takes_back_the_latest_purchase_before_it():
    rows = [("buy", "ann", "x", time, None, 1.0) for time in (1, 3, 9)]
    left = drop_refunded(_events([*rows, ("back", "ann", "x", 5, None, 1.0)], orders=False))
    assert left["time"].to_list() == [1, 9]


def test_types_become_public_weights_and_a_kind_of_no_weight_is_left_out():
    frame = _events([("view", "a", "x", 1, None, None), ("cart", "a", "x", 2, None, None),
                     ("buy", "a", "x", 3, None, None)])  # fmt: skip
    assert weigh_types(frame, TYPES)["value"].to_list() == pytest.approx([0.1, 0.5, 1.0])
    none = TYPES.model_copy(update={"view_weight": 0.0})
    assert (
        known_types(frame.with_columns(type=pl.Series(["view", "cart", "buy"])), none).height == 2
    )
