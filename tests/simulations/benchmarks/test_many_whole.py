from client.node.settings import merchant_folders
from client.shop.dataset import load_merchant_data
from server.run.checkpoint import read_checkpoint
from simulations.benchmarks import many_whole
from simulations.benchmarks.many_whole import SHOPPERS, run_many


def test_each_merchant_trains_on_its_own_few_shoppers(tmp_path, monkeypatch):
    monkeypatch.setattr(many_whole, "ITEMS", 100)
    run_many(3, 1, tmp_path)
    checkpoint = read_checkpoint(tmp_path / "run")
    assert [one.participants for one in checkpoint.history] == [3]
    shops = [load_merchant_data(folder) for folder in merchant_folders(tmp_path / "merchants")]
    assert [shop.interactions.shopper_count for shop in shops] == [SHOPPERS] * 3
