"""A whole run over small shops, of other goods and unlike in size."""

from client.node.settings import merchant_folders
from client.recommending.expected_benefit import read_gain_by_size
from client.shop.dataset import load_merchant_data
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from simulations.results.schema import load_results
from tests.support.shops import command, small_options


def test_shops_of_two_kinds_of_goods_and_of_unlike_size_run_to_the_end(tiny_bert, tmp_path):
    arguments = small_options(
        tmp_path / "out", tiny_bert, merchants=4, rounds=1, partition="kinds", kinds=2, sizes="zipf"
    )
    done = command(arguments, tmp_path / "cache")
    assert done.exception is None
    assert "\x1b" not in done.output
    assert "What joining brings, by a merchant's size" in done.output
    results = load_results(tmp_path / "out" / "results.json")
    assert (results.settings["kinds"], results.settings["sizes"]) == (2, "zipf")
    names = [one.name for one in results.merchants]
    assert sorted(names) == [f"Kind {kind}, shop {shop}" for kind in (1, 2) for shop in (1, 2)]
    shops = {
        path.name: load_merchant_data(path)
        for path in merchant_folders(tmp_path / "out" / "merchants")
    }
    kinds = {}
    for name, data in shops.items():
        kinds.setdefault(name.split("-")[2], set()).add(data.catalogue.digest)
    assert [len(digests) for digests in kinds.values()] == [1, 1], "a kind's shops sell alike"
    assert sum(one.merchants for one in results.by_size) == 4
    assert results.best_alone in results.metrics
    release = verify_release(
        tmp_path / "out" / "release", PublicKey.load(tmp_path / "out" / "operator.pub")
    )
    told = read_gain_by_size(release.files)
    assert [one.size for one in told.sizes] == [one.size for one in results.by_size]
