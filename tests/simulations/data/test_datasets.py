import os
import stat
from pathlib import Path

import numpy as np
import pytest

from client.shop.dataset import save_merchant_data
from client.shop.pointer import POINTER
from common.errors import InputError, SettingsError
from simulations.data import datasets
from simulations.data.datasets import DatasetSummary, import_key, load_dataset, summarise_dataset
from simulations.data.marketplace import MarketplaceSettings, make_marketplace

SMALL = MarketplaceSettings(merchants=2, min_shoppers=20, max_shoppers=30, items=100)

MAPPING = """
[items]
file = "goods.csv"
item_id = "code"
title = "label"

[events]
file = "sales.csv"
shopper_id = "who"
item_id = "code"
time = "at"

[split]
kind = "time"
valid_from = 2024-03-01
test_from = 2024-04-01
"""


def write_shop(folder):
    """A raw shop of 12 items and 10 shoppers, with a mapping beside it."""
    folder.mkdir()
    goods = [f"g{number:02d},Blue mug number {number}" for number in range(12)]
    (folder / "goods.csv").write_text("\n".join(["code,label", *goods]) + "\n")
    sales = [
        f"p{shopper},g{(shopper * 3 + month) % 12:02d},2024-{month:02d}-1{shopper % 9} 12:00:00"
        for shopper in range(10)
        for month in range(1, 6)
    ]
    (folder / "sales.csv").write_text("\n".join(["who,code,at", *sales]) + "\n")
    (folder / "mapping.toml").write_text(MAPPING)
    return folder


@pytest.fixture
def shop(tmp_path):
    return write_shop(tmp_path / "shop")


@pytest.fixture
def imports(monkeypatch):
    """Counts imports; the real one runs."""
    real, calls = datasets.import_shop, []

    def counted(*given, **named):
        calls.append(given)
        return real(*given, **named)

    monkeypatch.setattr(datasets, "import_shop", counted)
    return calls


def same(first, second):
    columns = ("shopper", "item", "time", "basket", "value")
    return (
        first.catalogue.items == second.catalogue.items
        and first.interactions.shopper_ids == second.interactions.shopper_ids
        and first.split_rule == second.split_rule
        and all(
            np.array_equal(getattr(first.interactions, one), getattr(second.interactions, one))
            for one in columns
        )
    )


def test_no_path_is_the_marketplace_of_that_seed(marketplace):
    data = load_dataset(None, seed=3)
    assert same(data, make_marketplace(seed=3).data)
    assert not same(data, marketplace.data)
    with pytest.raises(SettingsError):
        load_dataset(None, seed=-1)


def test_a_saved_data_set_is_read_as_it_is(tmp_path):
    data = make_marketplace(SMALL, seed=0).data
    save_merchant_data(data, tmp_path / "saved")
    assert same(load_dataset(tmp_path / "saved", seed=9), data)


def test_a_raw_shop_is_imported_once_and_then_read_from_the_cache(shop, tmp_path, imports):
    cache = tmp_path / "cache"
    first = load_dataset(shop, seed=0, cache=cache)
    second = load_dataset(shop, seed=1, cache=cache)
    assert len(imports) == 1
    assert same(first, second)
    assert same(first, load_dataset(shop, seed=0)), "with and without a cache alike"
    assert (first.interactions.shopper_count, len(first.catalogue)) == (10, 12)


def test_without_a_cache_nothing_is_written(shop, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    load_dataset(shop, seed=0)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("changed", ["goods.csv", "sales.csv", "mapping.toml"])
def test_a_changed_file_is_imported_anew_and_a_touched_one_is_not(shop, tmp_path, imports, changed):
    cache = tmp_path / "cache"
    load_dataset(shop, seed=0, cache=cache)
    os.utime(shop / changed, (1, 1))
    load_dataset(shop, seed=0, cache=cache)
    assert len(imports) == 1
    with (shop / changed).open("a") as file:
        file.write("\n")
    load_dataset(shop, seed=0, cache=cache)
    assert len(imports) == 2


def test_the_key_tells_names_contents_and_mappings_apart(shop, tmp_path):
    key = import_key(shop, None)
    assert key == import_key(shop, None)
    assert key != import_key(shop, "movielens")
    own = tmp_path / "own.toml"
    own.write_text(MAPPING)
    with_own = import_key(shop, own)
    own.write_text(MAPPING + "# another\n")
    assert with_own not in (key, import_key(shop, own))
    (shop / "sales.csv").rename(shop / "sales2.csv")
    assert key != import_key(shop, None)
    (shop / "sales2.csv").rename(shop / "sales.csv")
    assert key == import_key(shop, None)


def test_the_key_changes_with_the_importing_code(shop, monkeypatch, tmp_path):
    key = import_key(shop, None)
    code = tmp_path / "code.py"
    code.write_text("changed = True\n")
    monkeypatch.setattr(datasets, "_code", lambda: iter([("cleaning.py", code)]))
    assert import_key(shop, None) != key


def test_the_code_in_the_key_is_the_importing_code():
    names = [name for name, _ in datasets._code()]
    of_importing = {f"importing/{name}.py" for name in ("cleaning", "shop_import", "rules/ids")}
    assert of_importing <= set(names)
    for folder in ("mappings", "platforms"):
        layouts = [name for name in names if name.startswith(f"importing/{folder}/")]
        assert any(name.endswith(".toml") for name in layouts)


def test_a_cache_inside_the_shop_does_not_change_the_key(shop, imports):
    cache = shop / ".cache"
    load_dataset(shop, seed=0, cache=cache)
    load_dataset(shop, seed=0, cache=cache)
    assert len(imports) == 1


def test_only_the_owner_may_read_cached_purchases(shop, tmp_path):
    load_dataset(shop, seed=0, cache=tmp_path / "cache")
    for table in ("interactions", "shoppers"):
        (path,) = (tmp_path / "cache").rglob(f"{table}-*.parquet")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_import_leaves_nothing_that_passes_for_one(shop, tmp_path):
    (shop / "sales.csv").write_text("who,code,at\n")
    cache = tmp_path / "cache"
    for _ in range(2):
        with pytest.raises(InputError):
            load_dataset(shop, seed=0, cache=cache)
    assert not list(cache.rglob(POINTER))


def test_a_path_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        load_dataset(tmp_path / "nowhere", seed=0)


def test_the_summary_equals_a_count_by_hand(shop):
    data = load_dataset(shop, seed=0)
    # Months 1 and 2 are training: item (3 shopper + month) mod 12 for shoppers 0 to 9, so shoppers
    # s, s + 4 and s + 8 buy the same. Counts: items 1, 2, 4 and 5 three times, the rest that sell
    # twice, four items never. The head is the top 2 of 12 items.
    assert summarise_dataset(data) == DatasetSummary(
        shoppers=10,
        items=12,
        interactions=50,
        density=50 / 120,
        top20_share=6 / 20,
        cold_items=4,
    )


def test_a_repeat_purchase_counts_as_a_row_and_not_as_a_pair(shop):
    with (shop / "sales.csv").open("a") as file:
        file.write("p0,g01,2024-05-20 12:00:00\n")
    summary = summarise_dataset(load_dataset(shop, seed=0))
    assert (summary.interactions, summary.density) == (51, 50 / 120)


REAL = Path(__file__).parents[4] / "shared" / "data" / "amazon_industrial_2018_recent"


@pytest.mark.skipif(not REAL.exists(), reason="needs the real data beside the checkout")
def test_a_real_shop_is_found_and_summarised():
    summary = summarise_dataset(load_dataset(REAL, seed=0))
    assert summary.shoppers == 3285
    assert summary.items == 3686
    assert summary.interactions == 22_743  # of 21,664 pairs
    assert 0.3 < summary.top20_share < 0.7
