"""Encoding ahead says in one line what is wrong with a shop, and none of its titles."""

import subprocess

from client.deployment.encode_ahead import encode_ahead_command
from client.shop.dataset import save_merchant_data
from tests.support.shops import make_shop

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
