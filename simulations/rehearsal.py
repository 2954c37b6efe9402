"""A data set without its test period: what settings are chosen on, before the test is looked at."""

from dataclasses import replace

import numpy as np

from client.dataset import MerchantData
from client.splitting import SplitRule, split_interactions
from common.errors import InputError


def rehearse(data: MerchantData) -> MerchantData:
    """Return the data with its test period cut off and its validation period in that place.

    Where the split is in time, as much time before the validation period becomes the new one.
    Where each shopper's last item is the test, that item goes, and the one before takes its place.

    Raises:
        InputError: if nothing would be left to train on.
    """
    rule, rows = data.split_rule, data.interactions
    if rule.kind == "time":
        keep = rows.time < rule.test_from
        earlier = rule.valid_from - (rule.test_from - rule.valid_from)
        rule = SplitRule("time", valid_from=earlier, test_from=rule.valid_from)
    else:
        split = split_interactions(rows, rule)
        last = np.full(rows.shopper_count, -1, np.int64)
        last[split.test.shopper] = split.test.item
        keep = rows.item != last[rows.shopper]
    kept = rows.where(keep)
    if not len(split_interactions(kept, rule).train):
        raise InputError("A rehearsal leaves nothing to train on.", field="valid_from")
    merchant = None if data.event_merchant is None else data.event_merchant[keep]
    return replace(data, interactions=kept, split_rule=rule, event_merchant=merchant)
