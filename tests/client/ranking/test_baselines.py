import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from client.ranking import baselines
from client.ranking.baselines import choose_ease, fit_ease, fit_popularity
from client.shop.interactions import Interactions
from client.shop.splitting import Cases, SplitRule, evaluation_cases, join, split_interactions
from common.errors import InputError
from common.evaluation.metrics import ndcg, rank_scores

RETAIL = Path(__file__).parents[4] / "shared" / "data" / "online_retail"


def purchases(seed, shoppers, items, density=0.2):
    rng = np.random.default_rng(seed)
    appeal = rng.random(items) * 2 * density
    return csr_matrix((rng.random((shoppers, items)) < appeal).astype(np.float32))


@st.composite
def shops(draw):
    """More shoppers than items and the reverse; some items never sell, some shoppers never buy."""
    shoppers, items = draw(st.integers(1, 25)), draw(st.integers(1, 25))
    return purchases(draw(st.integers(0, 2**32 - 1)), shoppers, items)


def textbook_ease(bought, l2):
    """Steck 2019, listing 1, as printed: all items, a dense inverse."""
    gram = bought.T @ bought
    gram[np.diag_indices(len(gram))] += l2
    inverse = np.linalg.inv(gram)
    weights = inverse / -np.diag(inverse)
    weights[np.diag_indices(len(weights))] = 0
    return weights


@given(shops(), st.sampled_from([0.5, 10.0, 300.0]))
def test_ease_equals_the_textbook(bought, l2):
    model = fit_ease(bought, l2)
    history = purchases(1, 9, bought.shape[1])
    expected = history.toarray() @ textbook_ease(bought.toarray().astype(np.float64), l2)
    scores = model.score(history)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-5)


@given(shops())
def test_ease_weights_have_a_zero_diagonal_and_only_sold_items(bought):
    model = fit_ease(bought, 5.0)
    sold = np.flatnonzero(bought.toarray().any(axis=0))
    assert model.sold.tolist() == sold.tolist()
    assert (np.diag(model.weights) == 0).all()
    everything = csr_matrix(np.ones((1, bought.shape[1]), dtype=np.float32))
    others = np.setdiff1d(np.arange(bought.shape[1]), sold)
    assert (model.score(everything)[0, others] == 0).all()


@pytest.mark.parametrize(("shoppers", "items"), [(80, 12), (12, 40)])
def test_no_other_weights_with_a_zero_diagonal_fit_better(shoppers, items):
    bought, l2 = purchases(3, shoppers, items, 0.4), 4.0
    model = fit_ease(bought, l2)
    X = bought.toarray().astype(np.float64)[:, model.sold]

    def loss(B):
        return ((X - X @ B) ** 2).sum() + l2 * (B**2).sum()

    rng = np.random.default_rng(0)
    best = loss(model.weights.astype(np.float64))
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(20):
            step = size * rng.normal(size=model.weights.shape)
            np.fill_diagonal(step, 0)
            assert loss(model.weights + step) > best


def test_ease_learns_that_two_items_are_bought_together():
    bought = csr_matrix(np.array([[1, 1, 0, 0]] * 20 + [[0, 0, 1, 1]] * 20, dtype=np.float32))
    history = csr_matrix(np.array([[1, 0, 0, 0]], dtype=np.float32))
    scores = fit_ease(bought, 1.0).score(history)[0]
    assert scores[1] > 0.5
    assert abs(scores[2]) < 1e-6


def test_float32_for_very_many_items_ranks_as_float64(monkeypatch):
    bought = purchases(5, 400, 60)
    exact = fit_ease(bought, 20.0).weights
    monkeypatch.setattr(baselines, "DOUBLE_ITEMS", 10)
    np.testing.assert_allclose(fit_ease(bought, 20.0).weights, exact, rtol=0, atol=1e-5)


@given(shops(), st.integers(0, 2**32 - 1))
def test_the_shares_of_a_history_add_up_to_its_scores_above_the_mean(bought, seed):
    history, items = purchases(seed, 1, bought.shape[1], 0.4), np.arange(bought.shape[1])
    model = fit_ease(bought, 5.0)
    shares, score = model.shares(history.indices, items), model.score(history)[0]
    assert shares.shape == (history.nnz, bought.shape[1])
    assert shares.sum(axis=0) == pytest.approx(score - score.mean(), abs=1e-5)
    assert np.array_equal(model.shares(history.indices, items[::-2]), shares[:, ::-2])


def test_popularity_counts_shoppers():
    bought = csr_matrix(np.array([[1, 0, 1], [1, 0, 0]], dtype=np.float32))
    scores = fit_popularity(bought).score(csr_matrix((2, 3)))
    assert scores.tolist() == [[2, 0, 1], [2, 0, 1]]
    assert scores.dtype == np.float32


def test_a_shop_without_purchases_scores_zero():
    nothing = csr_matrix((3, 4), dtype=np.float32)
    history = csr_matrix(np.eye(2, 4, dtype=np.float32))
    for model in (fit_ease(nothing, 1.0), fit_popularity(nothing)):
        assert model.score(history).tolist() == [[0] * 4] * 2


def cases_of(bought):
    """Each shopper's last item held out."""
    seen, relevant = bought.toarray(), np.zeros(bought.shape, dtype=np.float32)
    for shopper, row in enumerate(seen):
        last = np.flatnonzero(row)[-1:]
        relevant[shopper, last] = 1
        row[last] = 0
    chosen = np.flatnonzero(seen.any(axis=1) & relevant.any(axis=1))
    return Cases(chosen.astype(np.int32), csr_matrix(seen[chosen]), csr_matrix(relevant[chosen]))


def test_choose_ease_keeps_the_candidate_with_the_best_validation_ndcg():
    bought = purchases(6, 120, 30)
    valid = cases_of(purchases(7, 60, 30))
    choice = choose_ease(bought, valid, [1.0, 30.0, 1000.0])
    expected = {}
    for l2 in (1.0, 30.0, 1000.0):
        scores = fit_ease(bought, l2).score(valid.seen)
        expected[l2] = ndcg(rank_scores(scores.__getitem__, valid.seen, 10), valid.relevant).mean()
    assert choice.ndcg == pytest.approx(expected)
    assert len(set(expected.values())) == 3
    assert choice.model.l2 == max(expected, key=expected.get)


def test_choose_ease_without_validation_cases_takes_the_largest_l2():
    none = Cases(np.empty(0, dtype=np.int32), csr_matrix((0, 30)), csr_matrix((0, 30)))
    choice = choose_ease(purchases(6, 120, 30), none, [1.0, 1000.0, 30.0])
    assert choice.model.l2 == 1000.0
    assert all(math.isnan(value) for value in choice.ndcg.values())


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("l2", lambda bought: fit_ease(bought, 0)),
        ("l2", lambda bought: fit_ease(bought, math.nan)),
        ("candidates", lambda bought: choose_ease(bought, cases_of(bought), [])),
        ("history", lambda bought: fit_ease(bought, 1).score(csr_matrix((1, 99)))),
        ("history", lambda bought: fit_popularity(bought).score(csr_matrix((1, 99)))),
    ],
)
def test_arguments_out_of_bounds_are_named(field, call):
    with pytest.raises(InputError) as caught:
        call(purchases(0, 5, 6))
    assert caught.value.field == field


def online_retail():
    items = pl.read_csv(RETAIL / "items.csv", schema_overrides={"item_id": pl.String})
    rows = pl.read_csv(
        RETAIL / "interactions.csv.gz",
        schema_overrides={"item_id": pl.String, "user_id": pl.String},
        columns=["user_id", "item_id", "timestamp"],
    ).with_columns(pl.col("timestamp").str.to_datetime(time_unit="us").cast(pl.Int64))
    shoppers = rows["user_id"].unique().sort()
    rows = rows.select(
        shopper=pl.col("user_id").replace_strict(shoppers, range(len(shoppers))),
        time="timestamp",
        item=pl.col("item_id").replace_strict(items["item_id"], range(len(items))),
    )
    rows = rows.unique().sort("shopper", "time", "item")
    return Interactions(
        shopper_ids=tuple(shoppers),
        item_count=len(items),
        shopper=rows["shopper"].cast(pl.Int32).to_numpy(),
        item=rows["item"].cast(pl.Int32).to_numpy(),
        time=rows["time"].to_numpy(),
        basket=np.zeros(len(rows), dtype=np.int32),
        value=np.ones(len(rows), dtype=np.float32),
        timed=True,
    )


@pytest.mark.skipif(not RETAIL.is_dir(), reason="the real data set is not beside the project")
def test_ease_of_one_small_shop_beats_popularity_on_real_purchases():
    whole = online_retail()
    chosen = np.arange(0, whole.shopper_count, 8)
    october, september = (
        int(np.datetime64(f"2011-{month:02}-01", "us").astype(np.int64)) for month in (10, 9)
    )
    split = split_interactions(whole.only_shoppers(chosen), SplitRule("time", september, october))
    valid = evaluation_cases(split.train, split.valid)
    choice = choose_ease(split.train.matrix(), valid, [50.0, 300.0])
    past = join(split.train, split.valid)
    test = evaluation_cases(past, split.test)
    accuracy = {
        name: ndcg(rank_scores(model.score(test.seen).__getitem__, test.seen, 10), test.relevant)
        for name, model in {
            "popularity": fit_popularity(past.matrix()),
            "ease": fit_ease(past.matrix(), choice.model.l2),
        }.items()
    }
    assert accuracy["ease"].mean() > 1.4 * accuracy["popularity"].mean() > 0.04
