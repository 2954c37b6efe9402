"""A validation-only run never sees the test period, and says that it is one."""

from dataclasses import replace

import numpy as np
import pytest

from client.shop.splitting import SplitRule, split_interactions
from common.errors import InputError
from simulations.data.validation_only import validation_only
from tests.support.shops import make_shop

LAST_OUT = SplitRule("leave_last_out")


def rows_of(interactions):
    """Shopper's name, item and time of each row."""
    names = np.array(interactions.shopper_ids)[interactions.shopper].tolist()
    return set(zip(names, interactions.item.tolist(), interactions.time.tolist(), strict=True))


@pytest.mark.parametrize("rule", [make_shop().split_rule, LAST_OUT], ids=["time", "last out"])
def test_the_validation_period_takes_the_place_of_the_test_period(rule):
    data = replace(make_shop(), split_rule=rule)
    before = split_interactions(data.interactions, rule)
    found = validation_only(data)
    after = split_interactions(found.interactions, found.split_rule)
    assert len(before.test) > 20
    assert rows_of(found.interactions) == rows_of(before.train) | rows_of(before.valid)
    left = found.interactions.matrix().getnnz(axis=1)
    told = np.array(data.interactions.shopper_ids)[left >= (3 if rule.kind != "time" else 0)]
    expected = {row for row in rows_of(before.valid) if row[0] in told}
    assert rows_of(after.test) == expected  # of fewer than three items none can be left out
    assert len(expected) > 20
    assert len(after.valid) > 20


def test_a_validation_only_has_a_name_of_its_own():
    """Else its extract would take the place of the test's, and targets would be judged on it."""
    data = make_shop("Corner shop")
    assert validation_only(data).name == "Corner shop, validation only"


def test_a_validation_only_needs_something_to_train_on():
    data = make_shop()
    late = replace(data.split_rule, valid_from=data.interactions.time.min())
    with pytest.raises(InputError) as caught:
        validation_only(replace(data, split_rule=late))
    assert caught.value.field == "valid_from"
