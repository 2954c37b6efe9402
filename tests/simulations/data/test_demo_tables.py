import tomllib

import pytest

from client.importing.shop_import import import_shop
from common.errors import InputError
from simulations.data.demo_tables import SHOPS, write_demo


def test_three_shops_are_made_that_an_import_takes_whole(tmp_path):
    made = write_demo(tmp_path)
    assert [path.name for path in made] == [*(f"tables-{name}" for name in SHOPS), "first.toml"]
    data, _ = import_shop(made[0], None, tmp_path / "shop")
    assert data.catalogue_declared
    assert len(data.interactions.shopper_ids) >= 50  # the experiment's size bracket
    asked = tomllib.loads((tmp_path / "first.toml").read_text())
    assert asked["settings"]["min_merchants"] == len(SHOPS)
    with pytest.raises(InputError):
        write_demo(tmp_path)
