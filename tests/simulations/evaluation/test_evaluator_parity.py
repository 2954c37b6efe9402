"""A simulation's fused model is what a merchant's own `fedtail client recommend` serves."""

import numpy as np
import pytest

from client.recommending.recommender import Recommender
from client.shop.dataset import load_merchant_data
from client.shop.histories import histories
from common.encoder.release_files import released_model
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from simulations.data.partition import partition_merchants
from simulations.data.shop import Shop
from simulations.evaluation.evaluator import make_evaluators
from tests.support.shops import make_shop

SHOWN = 10


def test_what_is_measured_is_what_is_served(simulated, tmp_path):
    """The judge holds the test period too; the merchant's folder, key and release do not."""
    release = verify_release(simulated / "release", PublicKey.load(simulated / "operator.pub"))
    model = released_model(release)
    whole = make_shop("Corner shop", items=50, shoppers=60)
    shops = [Shop.of(one) for one in partition_merchants(whole, how="random", merchants=2, seed=1)]
    evaluators = make_evaluators(shops, model.basis, model.settings, tmp_path / "judge")
    folders = sorted((simulated / "merchants").glob("0*"))
    for judge, folder in zip(evaluators, folders, strict=True):
        own = load_merchant_data(folder)
        recommender = Recommender(release, own, tmp_path / "merchant")
        ranker = judge.fused(judge.text(model.adapter))
        cases = judge.shop.test_cases
        assert len(cases) > 5
        within = recommender._ranker  # also where this gate is deaf to a part
        assert (within.gate, within.text.decay) == (ranker.gate, ranker.text.decay)
        assert np.array_equal(within.trend, ranker.trend)
        assert np.array_equal(within.sales, ranker.sales)
        scores = ranker.score(histories(judge.shop.past, cases.shoppers))
        scores[cases.seen.toarray() > 0] = -np.inf
        for place, shopper in enumerate(cases.shoppers):
            name = judge.shop.data.interactions.shopper_ids[shopper]
            served = recommender.for_shopper(name, SHOWN)
            best = np.lexsort((np.arange(scores.shape[1]), -scores[place]))[:SHOWN]
            items = judge.shop.data.catalogue.items
            assert [one.item.item_id for one in served] == [items[item].item_id for item in best]
            assert [one.score for one in served] == pytest.approx(scores[place][best], abs=1e-5)
