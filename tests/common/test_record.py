"""Maps of signed records have one order, whoever made them."""

import itertools

from common.record import FrozenMap, Record


class Named(Record):
    held: FrozenMap[FrozenMap[int]]


def test_a_map_has_one_order_however_it_was_made():
    names = ("Merchant 10", "Merchant 2", "é", "e\u0301", "茶")
    inner = {"b": 1, "a": 2}
    made = [Named(held=dict.fromkeys(order, inner)) for order in itertools.permutations(names)]
    assert {tuple(one.held) for one in made} == {tuple(sorted(names))}
    assert {tuple(one.held["é"]) for one in made} == {("a", "b")}
    assert len({one.model_dump_json() for one in made}) == 1
    assert Named.model_validate_json(made[0].model_dump_json(), strict=True) == made[-1]
