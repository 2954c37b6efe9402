import numpy as np

from client.importing.shop_import import read_shop
from simulations.benchmarks.cases.large_shop import write_large_shop


def test_a_made_up_shop_is_read_whole_and_its_shoppers_like_few_kinds(tmp_path):
    write_large_shop(tmp_path / "raw", items=400, shoppers=300)
    data, report = read_shop(tmp_path / "raw")
    assert len(data.catalogue) == 400
    assert data.interactions.shopper_count == 300
    assert data.catalogue_declared
    assert all(one.dropped_share == 0 for one in report.tables)
    kinds = np.array([item.category for item in data.catalogue.items])
    bought = kinds[data.interactions.item]
    most = [
        np.unique(bought[data.interactions.shopper == shopper], return_counts=True)[1].max()
        / (data.interactions.shopper == shopper).sum()
        for shopper in range(300)
    ]
    assert np.mean(most) > 0.3  # by chance it would be a seventieth and what few rows bring
    sales = np.sort(data.interactions.item_counts())[::-1]
    assert sales[:80].sum() > 0.35 * sales.sum()


def test_the_same_seed_gives_the_same_rows(tmp_path):
    for name in ("one", "two"):
        write_large_shop(tmp_path / name, items=50, shoppers=20)
    for file in ("items.csv", "events.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
