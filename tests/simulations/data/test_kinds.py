import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import InputError
from simulations.data.kinds import cluster, kinds_of_items
from tests.support.shops import make_catalogue, write_tiny_bert


def blobs(seed, sizes, width=6):
    random = np.random.default_rng(seed)
    centres = 10 * np.eye(width)[: len(sizes)]
    truth = np.repeat(np.arange(len(sizes)), sizes)
    points = centres[truth] + random.normal(0, 0.3, (len(truth), width))
    order = random.permutation(len(truth))
    return points[order].astype(np.float32), truth[order]


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), sizes=st.permutations([40, 25, 12, 5]))
def test_groups_far_apart_are_found_and_numbered_by_size(seed, sizes):
    points, truth = blobs(seed, sizes)
    found = cluster(points, len(sizes), seed)
    rank = np.argsort(np.argsort(-np.array(sizes)))
    assert np.array_equal(found, rank[truth])


def test_the_same_seed_gives_the_same_kinds_and_equal_texts_one():
    points = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    points[7] = points[40]
    found = cluster(points, 5, 3)
    assert np.array_equal(found, cluster(points.copy(), 5, 3))
    assert found[7] == found[40]
    assert set(found) == set(range(5))
    assert np.all(np.diff(np.bincount(found)) <= 0)


def test_as_many_kinds_as_points_leaves_none_empty():
    points = np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32)
    assert sorted(cluster(points, 9, 0)) == list(range(9))


def test_fewer_texts_than_kinds_are_refused_by_number():
    with pytest.raises(InputError, match="2 texts that differ cannot be put into 3 kinds"):
        cluster(np.array([[1, 0], [1, 0], [0, 1]], np.float32), 3, 0)


def test_kinds_follow_public_text_and_no_setting_that_a_run_tries(tmp_path):
    catalogue = make_catalogue(40)
    base = {"base_model": str(write_tiny_bert(tmp_path / "bert")), "max_tokens": 24}
    found = kinds_of_items(catalogue, 4, 0, base, cache=tmp_path / "cache")
    assert set(found) == set(range(4))
    other = base | {"rank": 2, "epsilon": 1.0, "whitening_power": 0.3}
    again = kinds_of_items(catalogue, 4, 0, other, cache=tmp_path / "cache")
    assert np.array_equal(found, again)
