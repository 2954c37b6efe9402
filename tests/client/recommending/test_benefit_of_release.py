import numpy as np
import pytest

from client.ranking import shop_fit
from client.ranking.released_vectors import released_vectors
from client.recommending import benefit_of_release
from client.recommending.benefit_of_release import benefit_of
from client.recommending.model_fit import fit_and_keep
from client.shop.dataset import load_merchant_data
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_a_kept_model_is_no_verdict_beforehand(simulated, tmp_path, monkeypatch, strength):
    """Whatever strength the shop's fit chose, by all its shoppers, the release itself is judged."""
    release, key = simulated / "release", simulated / "operator.pub"
    shop, cache = min((simulated / "merchants").glob("00-*")), tmp_path / "cache"
    verified = verify_release(release, PublicKey.load(key))
    with monkeypatch.context() as patched:
        patched.setattr(
            shop_fit,
            "fit_strength",
            lambda _, alone: alone._replace(reading=alone.reading._replace(strength=strength)),
        )
        fit_and_keep(release, key, shop, tmp_path / "model", cache)
    asked = []
    monkeypatch.setattr(
        benefit_of_release, "measure_benefit", lambda _, joined, solo: asked.append(joined)
    )
    benefit_of(verified, shop, tmp_path / "model", cache)
    expected = released_vectors(verified, load_merchant_data(shop).catalogue, cache)
    assert np.array_equal(asked[0].adapted, expected.adapted)
    assert np.array_equal(asked[0].frozen, expected.frozen)
    assert asked[0].decay == expected.decay
    assert not np.array_equal(asked[0].adapted, asked[0].frozen)
