"""A simulation's fused model is what a merchant's own `fedtail client recommend` serves.

The evaluator holds the test period too; the merchant's folder, key and release do not.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.recommending.model_fit import fit_shop_model
from client.recommending.recommender import Recommender
from client.shop.dataset import MerchantData, load_merchant_data
from client.shop.histories import histories
from client.shop.splitting import SplitRule
from common.catalogue import Catalogue, Item
from common.encoder.release_files import released_model
from common.evaluation.metrics import rank_scores
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from simulations.data.partition import partition_merchants
from simulations.data.shop import Shop
from simulations.evaluation.evaluator import make_evaluators
from tests.support.shops import DAY, make_catalogue, make_interactions, make_shop

SHOWN = 10
DRAWN = 500  # shoppers, over EXAMPLES random shops
EXAMPLES = 5


@pytest.fixture(scope="module")
def release(simulated):
    return verify_release(simulated / "release", PublicKey.load(simulated / "operator.pub"))


def judged_lists(evaluator, ranker):
    """Return the lists of the test period as `evaluate_scores` ranks them, and their scores."""
    cases = evaluator.shop.test_cases
    history = histories(evaluator.shop.past, cases.shoppers)
    ranking = rank_scores(lambda rows: ranker.score(history.take(rows)), cases.seen, SHOWN)
    return ranking.items, ranker.score(history)


def test_what_is_measured_is_what_is_served(simulated, release, tmp_path):
    model = released_model(release)
    whole = make_shop("Corner shop", items=50, shoppers=60)
    shops = [Shop.of(one) for one in partition_merchants(whole, how="random", merchants=2, seed=1)]
    evaluators = make_evaluators(shops, model.basis, model.settings, tmp_path / "evaluator")
    folders = sorted((simulated / "merchants").glob("0*"))
    for evaluator, folder in zip(evaluators, folders, strict=True):
        own = load_merchant_data(folder)
        recommender = Recommender(fit_shop_model(release, own, tmp_path / "merchant"))
        ranker = evaluator.fused(evaluator.text(model.adapter))
        cases = evaluator.shop.test_cases
        assert len(cases) > 5
        within = recommender._ranker  # also where these weights do without a part
        assert (within.weights, within.text.decay) == (ranker.weights, ranker.text.decay)
        assert np.array_equal(within.trend, ranker.trend)
        assert np.array_equal(within.sales, ranker.sales)
        lists, scores = judged_lists(evaluator, ranker)
        for place, shopper in enumerate(cases.shoppers):
            name = evaluator.shop.data.interactions.shopper_ids[shopper]
            served = recommender.for_shopper(name, SHOWN)
            items = evaluator.shop.data.catalogue.items
            assert [one.item.item_id for one in served] == [
                items[item].item_id for item in lists[place]
            ]
            assert [one.score for one in served] == scores[place][lists[place]].tolist()


@pytest.mark.slow
@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), alike=st.booleans())
def test_the_list_served_is_the_list_judged_for_five_hundred_shoppers(
    release, tmp_path_factory, seed, alike
):
    """A hundred shoppers of each of five random shops."""
    check_lists(release, tmp_path_factory, seed, alike=alike)


@pytest.mark.parametrize(("seed", "alike"), [(1, False), (2, True)])
def test_the_list_served_is_the_list_judged(release, tmp_path_factory, seed, alike):
    check_lists(release, tmp_path_factory, seed, alike=alike, drawn=40)


def check_lists(release, tmp_path_factory, seed, *, alike, drawn=DRAWN // EXAMPLES):
    """Hold the lists of a random shop's `drawn` shoppers bit by bit, alone and among others.

    Where items are `alike`, each title stands twice, so that ties must be broken alike too.
    """
    random = np.random.default_rng(seed)
    items, folder = int(random.integers(20, 120)), tmp_path_factory.mktemp("parity")
    catalogue = make_catalogue(items, seed)
    if alike:
        texts = [catalogue.items[place // 2].text for place in range(items)]
        catalogue = Catalogue(
            tuple(Item(f"item-{place}", text, text) for place, text in enumerate(texts))
        )
    rows = make_interactions(items, 3 * drawn, seed, baskets=(2, 12))
    data = MerchantData("Any", catalogue, rows, SplitRule("time", 180 * DAY, 270 * DAY))
    shop, model = Shop.of(data), released_model(release)
    [evaluator] = make_evaluators([shop], model.basis, model.settings, folder)
    lists, scores = judged_lists(evaluator, evaluator.fused(evaluator.text(model.adapter)))
    assert len(lists) >= drawn
    node = MerchantData("Any", catalogue, shop.node_data, data.split_rule)
    recommender = Recommender(fit_shop_model(release, node, folder))
    chosen = random.choice(len(lists), drawn, replace=False)
    for place in chosen.tolist():
        name = rows.shopper_ids[shop.test_cases.shoppers[place]]
        served = recommender.for_shopper(name, SHOWN)
        found = [catalogue.index_of(one.item.item_id) for one in served]
        assert found == [item for item in lists[place].tolist() if item >= 0]
        assert [one.score for one in served] == scores[place][found].tolist()
