import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.shop import dataset
from client.shop.dataset import MerchantData, load_merchant_data, save_merchant_data
from client.shop.interactions import Interactions
from client.shop.pointer import dataset_digest
from client.shop.splitting import SplitRule
from common.catalogue import Catalogue, Item
from common.errors import InputError


def _data(rows, *, shoppers=("ann", "李四"), merchants=None, timed=True, name="Tea 茶"):
    """Rows are (shopper, item, time, basket, value[, merchant])."""
    items = tuple(Item(f"i{n}", f"Title {n}", f"Text {n} 绿茶", "tea", "Leaf") for n in range(3))
    columns = list(zip(*rows, strict=True)) or [()] * 6
    return MerchantData(
        name=name,
        catalogue=Catalogue(items),
        interactions=Interactions(
            shopper_ids=shoppers,
            item_count=len(items),
            shopper=np.array(columns[0], dtype=np.int32),
            item=np.array(columns[1], dtype=np.int32),
            time=np.array(columns[2], dtype=np.int64),
            basket=np.array(columns[3], dtype=np.int32),
            value=np.array(columns[4], dtype=np.float32),
            timed=timed,
        ),
        split_rule=SplitRule("time", 5, 9) if timed else SplitRule("leave_last_out"),
        event_merchant=None if merchants is None else np.array(columns[5], dtype=np.int32),
        merchant_names=merchants or (),
        catalogue_declared=timed,
    )


ROWS = [(0, 0, 1, 0, 1.0, 0), (0, 2, 1, 0, 0.5, 1), (1, 1, 2**50, 0, 1.0, 1)]
OLD = _data(ROWS, merchants=("", "UK"))
NEW = _data(ROWS[:1], shoppers=("zoe",), timed=False, name="New")


def _assert_same(one, other):
    assert one.name == other.name
    assert one.catalogue.items == other.catalogue.items
    assert one.split_rule == other.split_rule
    assert one.merchant_names == other.merchant_names
    assert one.catalogue_declared == other.catalogue_declared
    mine, theirs = one.interactions, other.interactions
    assert mine.shopper_ids == theirs.shopper_ids
    assert (mine.item_count, mine.timed) == (theirs.item_count, theirs.timed)
    for name in ("shopper", "item", "time", "basket", "value"):
        left, right = getattr(mine, name), getattr(theirs, name)
        assert left.dtype == right.dtype
        assert np.array_equal(left, right)
    assert (one.event_merchant is None) == (other.event_merchant is None)
    if one.event_merchant is not None:
        assert np.array_equal(one.event_merchant, other.event_merchant)
        assert one.event_merchant.dtype == np.int32


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1),
            st.integers(0, 2),
            st.integers(-(2**62), 2**62),
            st.integers(0, 9),
            st.floats(width=32, allow_nan=False),
            st.integers(0, 1),
        ),
        max_size=8,
    ),
    st.sampled_from([None, ("", "Côte d'Ivoire")]),
    st.booleans(),
)
def test_what_is_saved_is_loaded_again(tmp_path_factory, rows, merchants, timed):
    folder = tmp_path_factory.mktemp("set")
    data = _data(rows, merchants=merchants, timed=timed)
    save_merchant_data(data, folder)
    _assert_same(load_merchant_data(folder), data)


def test_shoppers_without_a_row_are_kept(tmp_path):
    save_merchant_data(_data(ROWS[:1], shoppers=("ann", "bob", "cy")), tmp_path)
    assert load_merchant_data(tmp_path).interactions.shopper_ids == ("ann", "bob", "cy")


def test_only_the_owner_may_read_purchases(tmp_path):
    save_merchant_data(OLD, tmp_path)
    for path in tmp_path.iterdir():
        others = stat.S_IMODE(path.stat().st_mode) & 0o077
        private = path.name.startswith(("interactions", "shoppers"))
        assert (others == 0) == private, path.name


def test_a_new_set_replaces_the_old_one_and_leaves_none_of_its_files(tmp_path):
    save_merchant_data(OLD, tmp_path)
    digest = dataset_digest(tmp_path)
    save_merchant_data(NEW, tmp_path)
    _assert_same(load_merchant_data(tmp_path), NEW)
    assert dataset_digest(tmp_path) != digest
    assert len(list(tmp_path.iterdir())) == 4
    names = {path.name for path in tmp_path.iterdir()}
    save_merchant_data(NEW, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names  # the same tables


def test_each_save_is_an_import_of_its_own_whatever_is_in_it(tmp_path):
    seen = set()
    for data in (OLD, OLD, NEW):
        save_merchant_data(data, tmp_path)
        seen.add(load_merchant_data(tmp_path).import_id)
    assert len(seen) == 3
    assert all(len(bytes.fromhex(one)) == 16 for one in seen)


class _Killed(BaseException):
    """Stands for a process that is no more: nothing catches it."""


@pytest.mark.parametrize("half_written", [False, True])
@pytest.mark.parametrize("step", range(8))
def test_a_save_cut_off_at_any_step_leaves_one_whole_set(tmp_path, monkeypatch, step, half_written):
    save_merchant_data(OLD, tmp_path)
    steps = iter(range(100))
    write, unlink = dataset.write_atomic, Path.unlink

    def cut(action, path, *rest, **options):
        if next(steps) == step:
            if half_written and action is write:
                (path.parent / f".{path.name}.tmp").write_bytes(rest[0][: len(rest[0]) // 2])
            raise _Killed
        return action(path, *rest, **options)

    monkeypatch.setattr(dataset, "write_atomic", lambda *a, **o: cut(write, *a, **o))
    monkeypatch.setattr(Path, "unlink", lambda *a, **o: cut(unlink, *a, **o))
    try:
        save_merchant_data(NEW, tmp_path)
        finished = True
    except _Killed:
        finished = False
    monkeypatch.undo()
    # Three tables and the pointer are written, then the old tables that differ are removed.
    assert finished == (step >= 4 + 2)
    _assert_same(load_merchant_data(tmp_path), OLD if step < 4 else NEW)
    save_merchant_data(NEW, tmp_path)
    _assert_same(load_merchant_data(tmp_path), NEW)
    assert len([path for path in tmp_path.iterdir() if not path.name.startswith(".")]) == 4


def test_a_process_killed_before_the_pointer_leaves_the_old_set(tmp_path):
    save_merchant_data(OLD, tmp_path)
    script = """
        import os, signal, sys
        from dataclasses import replace
        from pathlib import Path
        from client.shop import dataset
        folder, write = Path(sys.argv[1]), dataset.write_atomic
        def write_or_die(path, content, **options):
            if path.name == dataset.POINTER:
                os.kill(os.getpid(), signal.SIGKILL)
            write(path, content, **options)
        dataset.write_atomic = write_or_die
        data = dataset.load_merchant_data(folder)
        dataset.save_merchant_data(replace(data, name="New"), folder)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    _assert_same(load_merchant_data(tmp_path), OLD)


def test_a_reader_that_meets_a_save_looks_once_more(tmp_path, monkeypatch):
    save_merchant_data(OLD, tmp_path)
    read = dataset._read_pointer
    saves = iter([NEW])

    def read_then_replace(path):
        pointer = read(path)
        for data in saves:
            save_merchant_data(data, tmp_path)
        return pointer

    monkeypatch.setattr(dataset, "_read_pointer", read_then_replace)
    _assert_same(load_merchant_data(tmp_path), NEW)


def test_a_set_from_before_the_declaration_counts_as_learnt(tmp_path):
    save_merchant_data(OLD, tmp_path)
    assert load_merchant_data(tmp_path).catalogue_declared
    path = tmp_path / "dataset.json"
    pointer = json.loads(path.read_text()) | {"format": 1}
    del pointer["catalogue_declared"]
    path.write_text(json.dumps(pointer))
    _assert_same(load_merchant_data(tmp_path), replace(OLD, catalogue_declared=False))


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no data set here \(dataset.json is missing\)"):
        load_merchant_data(tmp_path)


def test_a_missing_or_altered_table_is_refused(tmp_path):
    save_merchant_data(OLD, tmp_path)
    table = next(tmp_path.glob("interactions-*"))
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    with pytest.raises(InputError, match=r"interactions-.* was altered since it was imported"):
        load_merchant_data(tmp_path)
    table.unlink()
    with pytest.raises(InputError, match=r"interactions-.* is missing"):
        load_merchant_data(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda pointer: "not json", "dataset.json: not a data set"),
        (lambda pointer: "[]", "dataset.json: not a data set"),
        (lambda pointer: json.dumps({"format": 1}), "dataset.json: not a data set"),
        (lambda pointer: json.dumps(pointer | {"format": 9}), "format 9; this version reads 2"),
    ],
)
def test_a_pointer_that_is_none_is_refused(tmp_path, change, expected):
    save_merchant_data(OLD, tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(InputError, match=expected):
        load_merchant_data(tmp_path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: replace(d, catalogue=d.catalogue.take([0])), "catalogue has 1"),
        (lambda d: replace(d, interactions=replace(d.interactions, timed=False)), "clock times"),
        (lambda d: replace(d, event_merchant=d.event_merchant[:1]), "differ in length"),
        (lambda d: replace(d, merchant_names=("UK",)), "outside merchant_names"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, expected):
    with pytest.raises(InputError, match=expected):
        change(OLD)
