"""`fedtail simulate --noise distributed`, and the audit of what it leaves."""

import pytest

from client.shop.dataset import save_merchant_data
from simulations.results.schema import load_results
from tests.support.shops import command, make_shop, simulate_small, small_options

pytestmark = pytest.mark.slow


def test_five_shops_whose_sum_alone_was_seen_give_a_release_that_an_audit_takes(
    tiny_bert, tmp_path
):
    save_merchant_data(make_shop("Corner shop", items=50, shoppers=90), tmp_path / "shop")
    out = tmp_path / "out"
    simulate_small(out, tiny_bert, merchants=5)  # nobody says where the noise goes, or how much
    privacy = load_results(out / "results.json").privacy
    assert (privacy.dp_model, len(privacy.merchants)) == ("distributed", 5)
    assert all(one.epsilon == pytest.approx(1, abs=0.01) for one in privacy.merchants.values())
    done = command(["audit", "run", str(out)], tmp_path / "cache")
    assert done.exit_code == 3, done.output  # nothing failed; the notes say that noise is seeded
    assert "Sums: taken again from what the nodes signed" in done.output


def test_four_shops_cannot_share_the_noise(tiny_bert, tmp_path):
    save_merchant_data(make_shop("Corner shop", items=50, shoppers=90), tmp_path / "shop")
    options = small_options(tmp_path / "out", tiny_bert, merchants=4, noise="distributed")
    done = command(options, tmp_path / "cache")
    assert done.exception is not None
    assert done.exception.public() == "settings:merchants"
