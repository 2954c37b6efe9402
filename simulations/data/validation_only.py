"""A data set without its test period: what settings are chosen on, before the test is looked at."""

from dataclasses import replace

import numpy as np

from client.shop.dataset import MerchantData
from client.shop.splitting import SplitRule, split_interactions
from common.errors import InputError


def validation_only(data: MerchantData) -> MerchantData:
    """Return the data with its test period cut off and its validation period in that place.

    Where the split is in time, as much time before the validation period becomes the new one.
    Where each shopper's last item is the test, all from its first purchase on goes, and the item
    before takes its place.

    Raises:
        InputError: if nothing would be left to train on.
    """
    rule, rows = data.split_rule, data.interactions
    if rule.kind == "time":
        keep = rows.time < rule.test_from
        earlier = rule.valid_from - (rule.test_from - rule.valid_from)
        rule = SplitRule("time", valid_from=earlier, test_from=rule.valid_from)
    else:
        test = split_interactions(rows, rule).test  # of each shopper the latest rows
        bought, tested = (
            np.bincount(part.shopper, minlength=rows.shopper_count) for part in (rows, test)
        )
        keep = np.arange(len(rows)) < (np.cumsum(bought) - tested)[rows.shopper]
    kept = rows.where(keep)
    if not len(split_interactions(kept, rule).train):
        raise InputError("A validation-only run leaves nothing to train on.", field="valid_from")
    merchant = None if data.event_merchant is None else data.event_merchant[keep]
    name = f"{data.name}, validation only"  # so that nobody takes its figures for the test's
    return replace(data, name=name, interactions=kept, split_rule=rule, event_merchant=merchant)
