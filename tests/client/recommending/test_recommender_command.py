import json
import re
import shutil

import numpy as np
import pytest

from client.shop.dataset import load_merchant_data, save_merchant_data
from common.encoder.catalogue_encoder import forget_base_models
from common.errors import InputError, ReleaseError
from common.identity.signing_key import SigningKey
from tests.support.shops import bought_by, command, write_tiny_bert


@pytest.fixture(scope="module")
def shop(simulated):
    return load_merchant_data(min((simulated / "merchants").glob("00-*")))


def recommend(simulated, *more, release=None, key=None, shop=None):
    arguments = ["client", "recommend", *more]
    arguments += ["--release", str(release or simulated / "release")]
    arguments += ["--key", str(key or simulated / "operator.pub")]
    arguments += ["--shop", str(shop or min((simulated / "merchants").glob("00-*")))]
    return command(arguments, simulated.parent / "cache")


def test_the_command_lists_titles_and_both_parts(simulated, shop):
    name = shop.interactions.shopper_ids[3]
    done = recommend(simulated, "--shopper", name, "--top", "5")
    assert done.exception is None
    assert "verified" in done.output
    titles = [item.title for item in shop.catalogue.items if item.title in done.output]
    assert len(titles) >= 5
    number = r"(-?\d+\.\d\d)\s+│\s+"
    numbers = re.findall(number * 3 + r"(\d+\.\d)%", done.output)
    assert len(numbers) == 5
    for score, own, told, _ in numbers:
        assert float(score) == pytest.approx(float(own) + float(told), abs=0.011)


def test_the_command_takes_a_history(simulated, shop):
    done = recommend(simulated, "--history", "item-1", "--history", shop.catalogue.items[2].title)
    assert done.exception is None


def printed_parts(simulated, *more):
    done = recommend(simulated, "--json", *more)
    assert done.exception is None
    return json.loads(done.output)["recommendations"]


def test_the_json_holds_every_part_of_every_score(simulated, shop):
    found = printed_parts(simulated, "--shopper", shop.interactions.shopper_ids[3], "--top", "20")
    assert len(found) == 20
    for one in found:
        parts = one["parts"]
        own, text, trend, cold_start, popularity, *seasons = map(np.float32, parts.values())
        assert popularity == 0
        assert one["score"] == own + text + (trend + cold_start + popularity + sum(seasons))
        for name in ("collaborative", "text"):
            assert np.float32(sum(part[name] for part in one["history"])) == parts[name]
        assert len(one["history"]) == len(bought_by(shop, shop.interactions.shopper_ids[3]))


def test_explained_recommendations_show_numbers_that_add_up(simulated, shop):
    name = max(shop.interactions.shopper_ids, key=lambda one: len(bought_by(shop, one)))
    done = recommend(simulated, "--shopper", name, "--top", "3", "--explain")
    assert done.exception is None
    reasons = r"^   (Because you bought|Selling more than usual lately|Nobody has bought)"
    assert len(re.findall(reasons, done.output, re.MULTILINE)) == 3
    assert "more of the history" in done.output
    for block in re.split(r"\n\d\. ", done.output)[1:]:
        numbers = re.findall(r"(-?\d+\.\d\d) +(-?\d+\.\d\d) +(-?\d+\.\d\d) *$", block, re.MULTILINE)
        *parts, score = ([float(one) for one in row] for row in numbers)
        assert len(parts) == 4  # three of the history, and the rest in one
        others = r"(?:sales trend|not sold yet|season here|season elsewhere) +(-?\d+\.\d\d) *$"
        rest = sum(map(float, re.findall(others, block, re.MULTILINE)))
        for column, added in enumerate((0.0, 0.0, rest)):
            shown = sum(row[column] for row in parts) + added
            assert shown == pytest.approx(score[column], abs=0.0401)  # eight rounded numbers


def test_the_command_applies_rules_from_flags_and_file(simulated, shop, tmp_path):
    (tmp_path / "stock.csv").write_text(
        "item_id,quantity\nitem-1,2\nitem-2,0\nitem-3,1\nitem-4,1\n"
    )
    (tmp_path / "rules.toml").write_text('stock = "stock.csv"\ndeny = ["item-4"]\n')
    rules = ("--new-shopper", "--filters", str(tmp_path / "rules.toml"))
    found = printed_parts(simulated, *rules)
    assert {one["item_id"] for one in found} == {"item-1", "item-3"}
    found = printed_parts(simulated, *rules, "--allow", "item-3", "--allow", "item-9")
    assert [one["item_id"] for one in found] == ["item-3"]
    short = recommend(simulated, *rules)
    assert "Only 2 item(s) pass the rules; 10 were asked for." in short.output


def test_the_command_ranks_items_newer_than_the_import(simulated, tmp_path):
    (tmp_path / "new.csv").write_text("item_id,title\nnew-1,blue jug with lid\n")
    found = printed_parts(
        simulated, "--new-shopper", "--new-items", str(tmp_path / "new.csv"), "--allow", "new-1"
    )
    assert [(one["item_id"], one["title"]) for one in found] == [("new-1", "blue jug with lid")]


def test_an_unknown_id_in_a_rule_is_an_error_that_names_the_rule(simulated):
    failed = recommend(simulated, "--new-shopper", "--deny", "itm-4").exception
    assert isinstance(failed, InputError)
    assert failed.field == "deny"


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--shopper", "shopper-1", "--history", "item-1"),
        ("--shopper", "shopper-1", "--new-shopper"),
    ],
)
def test_the_command_wants_a_shopper_or_a_history(simulated, more):
    assert isinstance(recommend(simulated, *more).exception, InputError)


def every_file(folder):
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def test_one_flipped_bit_in_any_file_is_refused(simulated, tmp_path):
    files = every_file(simulated / "release")
    assert len(files) == 9
    for name in files:
        copy = shutil.copytree(simulated / "release", tmp_path / name.name)
        content = bytearray((copy / name).read_bytes())
        for place in (0, len(content) // 2, len(content) - 1):
            flipped = bytearray(content)
            flipped[place] ^= 1
            (copy / name).write_bytes(flipped)
            done = recommend(simulated, "--shopper", "shopper-1", release=copy)
            assert isinstance(done.exception, ReleaseError), (name, place)
            assert "item-" not in done.output


def test_a_missing_and_an_added_file_are_refused(simulated, tmp_path):
    for number, name in enumerate(every_file(simulated / "release")):
        copy = shutil.copytree(simulated / "release", tmp_path / str(number))
        (copy / name).unlink()
        done = recommend(simulated, "--shopper", "shopper-1", release=copy)
        assert isinstance(done.exception, ReleaseError), name
    copy = shutil.copytree(simulated / "release", tmp_path / "added")
    (copy / "more.bin").write_bytes(b"1")
    done = recommend(simulated, "--shopper", "shopper-1", release=copy)
    assert isinstance(done.exception, ReleaseError)


def test_another_operators_key_is_refused(simulated, tmp_path):
    SigningKey.create(tmp_path / "other.key").public.save(tmp_path / "other.pub")
    done = recommend(simulated, "--shopper", "shopper-1", key=tmp_path / "other.pub")
    assert isinstance(done.exception, ReleaseError)


def test_a_base_model_with_other_weights_is_refused(simulated, tiny_bert, tmp_path, monkeypatch):
    """The folder that the release names now holds another model."""
    other = write_tiny_bert(tmp_path / "other", seed=9)
    forget_base_models()
    kept = (tiny_bert / "model.safetensors").read_bytes()
    try:
        (tiny_bert / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
        done = recommend(simulated, "--shopper", "shopper-1")
    finally:
        (tiny_bert / "model.safetensors").write_bytes(kept)
        forget_base_models()
    assert isinstance(done.exception, ReleaseError)
    assert done.exception.field == "base_model"


def test_an_altered_shop_is_refused(simulated, tmp_path):
    shop = shutil.copytree(min((simulated / "merchants").glob("00-*")), tmp_path / "shop")
    [rows] = shop.glob("interactions-*.parquet")
    content = bytearray(rows.read_bytes())
    content[100] ^= 1
    rows.write_bytes(content)
    done = recommend(simulated, "--shopper", "shopper-1", shop=shop)
    assert isinstance(done.exception, InputError)


def test_the_manifest_says_what_was_measured_and_holds_no_shopper(simulated):
    text = (simulated / "release" / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["adapter"]["settings"]["rank"] == 3
    for path in every_file(simulated / "release"):
        content = (simulated / "release" / path).read_bytes()
        assert b"shopper-" not in content
        assert b"item-1" not in content


def test_the_saved_shop_is_the_one_that_was_read(shop, tmp_path):
    save_merchant_data(shop, tmp_path)
    assert load_merchant_data(tmp_path).catalogue.digest == shop.catalogue.digest
