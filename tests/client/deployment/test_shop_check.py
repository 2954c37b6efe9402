from dataclasses import replace

import pytest

from client.deployment.shop_check import require_shop
from client.shop.dataset import save_merchant_data
from client.shop.splitting import SplitRule
from common.errors import InputError
from tests.support.shops import make_shop


def test_a_shop_that_leaves_nobody_to_choose_by_does_not_connect(tmp_path):
    shop = make_shop()
    save_merchant_data(shop, tmp_path / "good")
    require_shop(tmp_path / "good")
    rule = SplitRule("time", 2**60, 2**60)
    save_merchant_data(replace(shop, split_rule=rule), tmp_path / "late")
    with pytest.raises(InputError, match="too few to validate: 0 shoppers") as caught:
        require_shop(tmp_path / "late")
    assert caught.value.field == "split"
    with pytest.raises(InputError, match="no data set here"):
        require_shop(tmp_path / "nowhere")
