from unittest import mock

import numpy as np

from client.node import shared_encoding
from client.node.participant import MerchantWork
from client.node.settings import NodeSettings
from client.privacy.policy import POLICY_FILE
from client.shop.dataset import save_merchant_data
from common.encoder.adapted_encoder import AdaptedEncoder
from common.encoder.catalogue_encoder import cached_base_model, fit_public_basis
from tests.support.shops import make_plan, make_settings, make_shop

SHOPPERS = 30
POLICY = "max_epsilon = 50.0\nmax_run_epsilon = 50.0\ndelta = 1e-3\nallow_seeded_noise = true\n"


def test_nodes_of_one_process_share_an_encoding_and_train_as_each_alone(tiny_bert, tmp_path):
    settings = make_settings(base_model=str(tiny_bert), size_bracket=SHOPPERS)
    data = make_shop(items=40, shoppers=SHOPPERS)
    basis = fit_public_basis(data.catalogue, settings, tmp_path / "c")
    model = cached_base_model(settings.base_model)
    adapter = AdaptedEncoder(model, basis, settings.lora_targets).adapter()
    plan = make_plan(noise_multiplier=2.0, steps=4, size_bracket=SHOPPERS)
    opened = []
    for name in ("ash", "birch"):
        place = tmp_path / name
        node = NodeSettings(name, place, place / "node", tmp_path / "c", simulated=True)
        save_merchant_data(data, place)
        (place / POLICY_FILE).write_text(POLICY)
        opened.append(MerchantWork(node))

    def updates():
        return [one.train(adapter, None, plan, 1, n).vector for n in (1, 2) for one in opened]

    def prepare():
        for one in opened:
            one.prepare(basis.to_bytes(), settings.to_flat())

    prepare()
    assert opened[0]._encoded is opened[1]._encoded
    assert opened[0]._data.catalogue is opened[1]._data.catalogue
    together = updates()
    with mock.patch.object(shared_encoding, "_held", mock.MagicMock(get=lambda _: None)):
        prepare()
    assert opened[0]._encoded is not opened[1]._encoded
    for one, other in zip(together, updates(), strict=True):
        assert np.array_equal(one, other)
