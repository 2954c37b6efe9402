"""Encoding ahead says in one line what is wrong with a shop, and none of its titles."""

import subprocess
import sys

from client.deployment.encode_ahead import encode_ahead_command, main
from client.shop.dataset import save_merchant_data
from tests.support.shops import make_settings, make_shop

TITLE = "WHITE HANGING HEART"


def test_a_shop_that_cannot_be_read_is_one_line_without_its_titles(tmp_path):
    save_merchant_data(make_shop(), tmp_path / "shop")
    for path in (tmp_path / "shop").rglob("*"):
        if path.is_file():
            path.write_text(f"not a table of titles: {TITLE}")
    done = subprocess.run(
        encode_ahead_command(tmp_path / "shop", tmp_path / "cache"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert TITLE not in done.stderr + done.stdout


def test_a_shops_catalogue_is_encoded_by_the_default_settings(tmp_path, tiny_bert, monkeypatch):
    """All that needs no basis: the last layer, the words and a part of the texts."""
    save_merchant_data(make_shop(items=8), tmp_path / "shop")
    # The defaults, but for the model, which is small here.
    monkeypatch.setattr(
        "common.settings.run.RunSettings", lambda: make_settings(base_model=str(tiny_bert))
    )
    monkeypatch.setattr(sys, "argv", ["encode_ahead", str(tmp_path / "shop"), str(tmp_path / "c")])
    main()
    kinds = {path.name.partition("-")[0] for path in (tmp_path / "c").glob("*.safetensors")}
    assert kinds == {"layer", "words"}
    assert len(list((tmp_path / "c").glob("*/*.safetensors"))) == 1
