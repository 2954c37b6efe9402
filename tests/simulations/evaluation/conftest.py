"""What is judged in this room."""

import pytest

from common.encoder.catalogue_encoder import fit_public_basis
from simulations.evaluation.evaluator import make_evaluators
from tests.support.judged_shops import ITEMS, shop_of
from tests.support.shops import make_catalogue, make_settings


@pytest.fixture(scope="module")
def ground(tiny_bert, tmp_path_factory):
    """Two shops of one catalogue and one of another, judged on one basis."""
    cache = tmp_path_factory.mktemp("cache")
    settings = make_settings(base_model=str(tiny_bert))
    shared = make_catalogue(ITEMS)
    shops = [
        shop_of("A", seed=0, catalogue=shared),
        shop_of("B", seed=1, catalogue=shared),
        shop_of("C", seed=2),
    ]
    basis = fit_public_basis(shared, settings, cache)
    return settings, cache, basis, shops, make_evaluators(shops, basis, settings, cache)
