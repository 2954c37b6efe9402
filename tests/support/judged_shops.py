"""Small shops whose models an evaluation judges."""

from client.shop.dataset import MerchantData
from client.shop.splitting import SplitRule
from simulations.data.shop import Shop
from tests.support.shops import DAY, make_catalogue, make_interactions

ITEMS, SHOPPERS = 40, 40
RULE = SplitRule("time", valid_from=240 * DAY, test_from=300 * DAY)


def shop_of(name, *, seed=0, catalogue=None):
    """A shop of 40 shoppers with a validation and a test period."""
    catalogue = catalogue or make_catalogue(ITEMS, seed)
    interactions = make_interactions(len(catalogue), SHOPPERS, seed)
    return Shop.of(MerchantData(name, catalogue, interactions, RULE))
