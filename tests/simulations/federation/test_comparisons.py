from collections import Counter
from dataclasses import replace

import numpy as np

from client.shop.dataset import MerchantData
from client.shop.splitting import SplitRule
from common.catalogue import Catalogue, Item
from simulations.data.shop import Shop
from simulations.federation import comparisons
from simulations.federation.comparisons import Trainer, one_shop
from tests.support.shops import interactions_of, make_settings, make_shop


def test_everybody_in_one_place_has_each_shops_shoppers_and_sales():
    shops = [Shop.of(make_shop("Ash", seed=1)), Shop.of(make_shop("Birch", seed=2))]
    joined = one_shop(shops).data
    sold = Counter()
    for shop in shops:
        texts = shop.data.catalogue.texts
        sold.update(texts[item] for item in shop.data.interactions.item)
    found = Counter(joined.catalogue.texts[item] for item in joined.interactions.item)
    assert found == sold
    shoppers = [shop.data.interactions.shopper_count for shop in shops]
    assert joined.interactions.shopper_count == sum(shoppers)


def test_two_items_of_one_text_in_a_basket_become_one_row():
    items = (Item("a", "Mug", "Mug"), Item("b", "Mug", "Mug"), Item("c", "Pot", "Pot"))
    rows = interactions_of([(0, 0, 1, 0), (0, 1, 1, 0), (0, 2, 2, 1), (0, 1, 2, 1)], 3, 1)
    order = np.lexsort((rows.item, rows.time, rows.shopper))
    rows = replace(rows, item=rows.item[order], time=rows.time[order], basket=rows.basket[order])
    data = MerchantData("Ash", Catalogue(items), rows, SplitRule("leave_last_out"))
    joined = one_shop([Shop.of(data)]).data.interactions
    found = list(zip(joined.shopper, joined.basket, joined.item, strict=True))
    assert found == [(0, 0, 0), (0, 1, 0), (0, 1, 1)]


def test_merchants_of_like_names_train_alone_in_folders_of_their_own(tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr(
        comparisons, "train_side_by_side", lambda given, *_: jobs.extend(given) or []
    )
    trainer = Trainer(tmp_path / "out", tmp_path / "cache", make_settings())
    shops = [Shop.of(make_shop(name, seed=seed)) for seed, name in enumerate(("A&B", "A B"))]
    trainer.compared([trainer.solo(*each) for each in enumerate(shops)], lambda *_: None)
    assert len({job.federation for job in jobs}) == len({job.folder for job in jobs}) == 2
