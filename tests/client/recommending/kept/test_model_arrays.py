"""A kept model of anything but what a fit writes is refused, by file and field."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.ranking import text_ease
from client.recommending.kept.model_arrays import ModelArrays
from client.recommending.recommender import Recommender
from client.recommending.shop_model import FORMAT, MANIFEST, load_shop_model, save_shop_model
from common.arrays import map_arrays, write_arrays
from common.errors import FedtailError, InputError
from common.files import sha256_hex
from tests.support.served import made_model

ITEMS, SHOPPERS = 30, 12


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The folder of a large shop's model, with pairs; its files by name."""
    folder = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_ease, "DENSE_BYTES", 0.0)
        save_shop_model(made_model(items=ITEMS, shoppers=SHOPPERS, width=4), folder)
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def forged(kept):
    """Put a file of the model, or its manifest, in another's place: digests and sizes fit."""
    folder, files = kept

    def forge(kind, content=None, *, change=lambda manifest: None):
        manifest = json.loads(files[MANIFEST])
        if content is not None:
            named = manifest["files"][kind]
            (folder / named["name"]).write_bytes(content)
            named |= {"size": len(content), "sha256": sha256_hex(content)}
        change(manifest)
        (folder / MANIFEST).write_text(json.dumps(manifest))
        return folder

    yield forge
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.fixture
def arrays(kept, tmp_path):
    """The model's arrays, to be changed, and a function that returns the bytes of such a file."""
    folder, _ = kept
    held = {name: np.array(one) for name, one in map_arrays(*folder.glob("arrays-*")).items()}

    def content():
        write_arrays(tmp_path / "forged", held)
        return (tmp_path / "forged").read_bytes()

    return held, content


def test_a_model_as_it_was_written_is_read(kept):
    assert load_shop_model(kept[0]).ranker.collaborative.pairs.nnz > 0


def changed(place, value):
    def change(array):
        array[place] = value
        return array

    return change


NAN, INFINITE = changed(1, np.nan), changed(-1, -np.inf)
TURNED = lambda array: array[::-1].copy()  # noqa: E731 -- named beside its like
WRONG = {
    "factors of another catalogue": ("factors", lambda array: array[1:]),
    "factors in one row": ("factors", np.ravel),
    "factors that are no number": ("factors", NAN),
    "factors of whole numbers": ("factors", lambda array: array.astype(np.int32)),
    "an infinite vector": ("candidate_vectors", INFINITE),
    "vectors of two widths": ("candidate_vectors", lambda array: array[:, 1:]),
    "histories of a mapping's length": ("history_vectors", lambda array: array[:0]),
    "an item that nothing is left of": ("diagonal", changed(0, 0)),
    "a negative diagonal": ("diagonal", np.negative),
    "sales below zero": ("sales", changed(0, -1)),
    "a trend that is no number": ("trend", NAN),
    "a tail of bytes": ("tail", lambda array: array.astype(np.uint8)),
    "a tail of other items": ("tail", lambda array: array[:-1]),
    "a season of another width": ("season.own.direction", lambda array: array[1:]),
    "a season without an offset": ("season.federated.offset", lambda array: array[:0]),
    "a season surer than sure": ("season.own.reliability", lambda array: array + 0.5),
    "an infinite season": ("season.own.scores", INFINITE),
    "what sold of late is no number": ("recent", NAN),
    "a row of pairs too few": ("pairs.indptr", lambda array: array[:-1]),
    "rows of pairs that fall": ("pairs.indptr", TURNED),
    "rows of pairs that fall between": ("pairs.indptr", changed(3, 500)),
    "a negative row of pairs": ("pairs.indptr", changed(0, -1)),
    "pairs beyond the last row": ("pairs.indptr", changed(-1, 2**30)),
    "a pair of a negative item": ("pairs.indices", changed(0, -1)),
    "a pair of no item": ("pairs.indices", changed(-1, ITEMS)),
    "pairs that are not sorted": ("pairs.indices", TURNED),
    "a pair twice": ("pairs.indices", lambda array: changed(0, array[1])(array)),
    "a pair too few": ("pairs.data", lambda array: array[1:]),
    "a pair that is no number": ("pairs.data", NAN),
    "a purchase of a negative item": ("purchases.item", changed(0, -5)),
    "a purchase of no item": ("purchases.item", changed(0, ITEMS)),
    "a purchase of no shopper": ("purchases.shopper", changed(-1, SHOPPERS)),
    "a purchase of a negative shopper": ("purchases.shopper", changed(0, -1)),
    "shoppers out of order": ("purchases.shopper", TURNED),
    "baskets below zero": ("purchases.basket", changed(0, -1)),
    "times of fewer purchases": ("purchases.time", lambda array: array[1:]),
    "times as fractions": ("purchases.time", lambda array: array.astype(np.float64)),
    "a value that is no number": ("purchases.value", NAN),
    "a curve without a step": ("chances.1.tail.chances", lambda array: array[:0]),
    "a curve of a step too many": ("chances.1.tail.starts", lambda array: array[:1]),
    "a curve that falls": ("chances.0.head.chances", TURNED),
    "steps that fall": ("chances.2.head.starts", TURNED),
    "a chance above one": ("chances.2.head.chances", changed(-1, 1.5)),
    "a chance below zero": ("chances.2.head.chances", changed(0, -0.1)),
}


@pytest.mark.parametrize(("name", "change"), WRONG.values(), ids=WRONG.keys())
def test_an_array_that_is_not_what_it_must_be_is_named(forged, arrays, name, change):
    held, content = arrays
    held[name] = change(held[name])
    with pytest.raises(InputError, match=r"^arrays-\w+\.safetensors: \S+ .*Fit the shop") as said:
        load_shop_model(forged("arrays", content()))
    assert said.value.field == name or said.value.field.split(".")[0] == name.split(".")[0]


def test_each_array_must_be_there(forged, arrays, kept):
    held, content = arrays
    optional = ("pairs.indptr", "recent", "season.own.reliability", "season.federated.reliability")
    for name in [one for one in held if not one.startswith(optional)]:
        one = held.pop(name)
        with pytest.raises(InputError, match="is missing") as said:
            load_shop_model(forged("arrays", content()))
        assert said.value.field == name
        held[name] = one
    load_shop_model(forged("arrays", content()))


def test_truth_is_zero_or_one(arrays):
    held, _ = arrays
    held["tail"] = np.full(ITEMS, 2, np.uint8).view(np.bool_)
    with pytest.raises(InputError, match="tail is out of bounds"):
        ModelArrays("a.safetensors", held).require(items=ITEMS, shoppers=SHOPPERS, curves=3)


def header(**entries):
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(64)


HUGE = [
    header(factors={"dtype": "F32", "shape": [2**70, 0], "data_offsets": [0, 0]}),
    header(factors={"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]}),
    header(factors={"dtype": "F32", "shape": [-1], "data_offsets": [0, 2**80]}),
    header(factors={"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}),
    header(factors={"dtype": ["F32"], "shape": {}, "data_offsets": "ab"}),
    header(__metadata__={"format": "pt"}, factors=3),
    (2**63).to_bytes(8, "little") + b"{}",
    (8).to_bytes(8, "little") + b"[" * 100,
    (100_000).to_bytes(8, "little") + b"[" * 100_000,
    (50_020).to_bytes(8, "little") + b'{"__metadata__":' + b"[" * 25_000 + b"]" * 25_000 + b"}" * 4,
    b"",
    b"\0" * 8,
]


@pytest.mark.parametrize("content", HUGE, ids=range(len(HUGE)))
def test_a_file_that_says_more_than_it_holds_is_refused(forged, content):
    with pytest.raises(InputError, match="arrays"):
        load_shop_model(forged("arrays", content))


SHOPPERS_FILES = [b"", b"{}", b"3", b"[" * 100_000, b"[1]", b'["a", null]', b"\xff", b'["a"]']


@pytest.mark.parametrize("content", SHOPPERS_FILES)
def test_a_list_of_shoppers_that_is_none_is_refused(forged, content):
    with pytest.raises(InputError):
        load_shop_model(forged("shoppers", content))


LINE = '{"item_id": "a", "title": "b", "text": "c"}\n'
CATALOGUES = [
    "", "[" * 100_000, LINE, LINE * 30, LINE.replace('"a"', "1"), LINE.replace('"c"', '""'),
    LINE.replace('"c"', '"\\ud800"'), LINE.replace('"c"', f'"{"x" * 1_000_001}"'),
]  # fmt: skip


@pytest.mark.parametrize("content", CATALOGUES, ids=range(len(CATALOGUES)))
def test_a_catalogue_that_is_none_is_refused(forged, content):
    with pytest.raises(InputError):
        load_shop_model(forged("catalogue", content.encode()))


MANIFESTS = {
    "a later format": (
        {"format": 99, "of": "the future"},
        f"format 99; this version reads {FORMAT}",
    ),
    "an earlier one": ({"format": 1}, f"format 1; this version reads {FORMAT}"),
    "a format in words": ({"format": "four"}, "format"),
    "a sign that is none": ({"sign": 0.5}, "sign is not"),
    "a weight of no part": ({"weights": {"magic": 1.0}}, "weights is not"),
    "no regularisation": ({"l2": 0.0}, "l2"),
    "no decay": ({"decay": 0.0}, "decay"),
    "a boost of no list": ({"boosts": [0.0, 9.0]}, "boosts"),
    "a file elsewhere": ({"files": {"arrays": {"name": "../a-0000000000000000.json"}}}, "files"),
    "a size below zero": ({"files": {"arrays": {"size": -1}}}, "files"),
    "no files": ({"files": {}}, "files is not"),
    "a key too many": ({"also": 1}, "also"),
}


@pytest.mark.parametrize(("said", "expected"), MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_manifest_of_another_kind_is_refused(forged, said, expected):
    folder = forged("arrays", change=lambda manifest: manifest.update(said))
    with pytest.raises(InputError, match=f"{MANIFEST}: .*{expected}"):
        load_shop_model(folder)


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b'{"format": 4}', b"\xff", b"null"])
def test_a_manifest_that_is_no_record_is_refused(forged, content):
    folder = forged("arrays")
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(InputError, match=MANIFEST):
        load_shop_model(folder)


def test_a_folder_in_a_files_place_is_refused(kept, tmp_path):
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        load_shop_model(tmp_path)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_altered_bytes_end_in_an_error_of_ours_or_in_lists(kept, forged, data):
    """Of any file, with a digest that fits: what is still read ranks without an accident."""
    kind = data.draw(st.sampled_from(["arrays", "arrays", "shoppers", "catalogue", MANIFEST]))
    content = bytearray(next(one for name, one in kept[1].items() if name.startswith(kind)))
    most = min(len(content), 3500) - 1  # the header, and what comes first
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, most) | st.integers(0, len(content) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not content:
            break
    folder = forged(kind, bytes(content)) if kind != MANIFEST else forged("arrays")
    if kind == MANIFEST:
        (folder / MANIFEST).write_bytes(content)
    try:
        model = load_shop_model(folder)
    except FedtailError:
        return
    for name in model.purchases.shopper_ids[:2]:
        for one in Recommender(model).for_shopper(name, 5):
            assert np.isfinite(one.score)
