import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from client.ranking import low_rank, text_ease
from client.ranking.low_rank import leading_directions
from client.ranking.text_ease import choose_text_ease, fit_text_ease, is_large
from client.shop.splitting import Cases

ITEMS, WIDTH = 60, 6


def purchases(shoppers=150, seed=0):
    """Two kinds of goods, of which each shopper likes one: a few directions say most."""
    random = np.random.default_rng(seed)
    liked = random.integers(2, size=(shoppers, 1)) == np.arange(ITEMS) % 2
    return csr_matrix((random.random((shoppers, ITEMS)) < np.where(liked, 0.3, 0.03)).astype("f4"))


def texts(seed=1):
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, WIDTH))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def gram(bought, vectors, strength):
    joined = np.vstack([bought.toarray().astype(float), np.sqrt(strength) * vectors.T])
    return joined.T @ joined


@pytest.fixture
def every_shop_is_large(monkeypatch):
    monkeypatch.setattr(text_ease, "DENSE_BYTES", 0.0)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0, 100))
def test_the_leading_directions_are_those_of_the_whole_matrix(seed, strength):
    bought, vectors = purchases(seed=seed), texts(seed)
    found = leading_directions(bought, vectors, strength, rank=10)
    whole = gram(bought, vectors, strength)
    exact = np.linalg.eigvalsh(whole)[::-1]
    assert found.values == pytest.approx(exact[:10], rel=1e-3)
    unit = found.directions.T @ found.directions
    assert unit == pytest.approx(np.eye(10), abs=1e-4)
    residual = whole @ found.directions[:, :2] - found.directions[:, :2] * found.values[:2]
    assert np.abs(residual).max() < 1e-2 * exact[0]


@given(st.integers(0, 1000), st.sampled_from([1, 20, 150]), st.floats(5, 500), st.floats(0, 100))
@settings(deadline=None)
def test_with_a_direction_for_each_item_it_is_the_whole_model(seed, shoppers, l2, strength):
    bought, vectors = purchases(shoppers, seed), texts(seed)
    expected = fit_text_ease(bought, vectors, l2, strength).score(bought)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_ease, "DENSE_BYTES", 0.0)
        found = fit_text_ease(bought, vectors, l2, strength)
        assert found.score(bought) == pytest.approx(
            expected, abs=2e-3 * (1 + float(np.ptp(expected)))
        )


def test_directions_found_again_from_those_of_before_are_as_good(monkeypatch):
    monkeypatch.setattr(low_rank, "SPARE", 4)
    before, now, vectors = purchases(140), purchases(150), texts()
    start = leading_directions(before, vectors, 10.0, rank=10).directions
    found = leading_directions(now, vectors, 10.0, start, rank=10)
    exact = np.sort(np.linalg.eigvalsh(gram(now, vectors, 10.0)))[::-1][:10]
    assert found.values.sum() == pytest.approx(exact.sum(), rel=0.02)
    cold = np.random.default_rng(1).normal(size=start.shape).astype("f4")
    assert leading_directions(now, vectors, 10.0, cold, rank=10).values.sum() < found.values.sum()


@pytest.mark.usefixtures("every_shop_is_large")
@pytest.mark.parametrize("rank", [8, 768])
def test_shares_add_up_and_one_history_scores_as_among_others(monkeypatch, rank):
    monkeypatch.setattr(low_rank, "RANK", rank)
    bought = purchases()
    model = fit_text_ease(bought, texts(), 50.0)
    together = model.score(bought)
    for row in (0, 7):
        alone = model.score(bought[row])[0]
        assert np.array_equal(alone, together[row])
        shares = model.shares(bought[row].indices, np.arange(ITEMS))
        assert shares.sum(axis=0) == pytest.approx(alone - alone.mean(), abs=1e-5)
        own = model.score(csr_matrix(np.eye(ITEMS, dtype="f4")))
        assert np.abs(np.diag(own)).max() < 1e-6
        assert model.averages(bought[row].indices) == pytest.approx(
            own[bought[row].indices].mean(axis=1), abs=1e-6
        )


@pytest.mark.usefixtures("every_shop_is_large")
def test_pairs_bring_a_shop_of_rare_pairs_near_to_its_whole_model(monkeypatch):
    monkeypatch.setattr(low_rank, "RANK", WIDTH)
    monkeypatch.setattr(low_rank, "SPARE", 4)
    random, vectors = np.random.default_rng(0), texts()
    mates = np.arange(ITEMS) ^ 1  # each item sells with one other, and seldom
    first = random.integers(ITEMS, size=300)
    rows = np.repeat(np.arange(300), 2)
    columns = np.stack([first, mates[first]], axis=1).ravel()
    bought = csr_matrix((np.ones(600, "f4"), (rows, columns)), shape=(300, ITEMS))
    whole = np.eye(ITEMS) @ dense_weights(bought, vectors, 100.0)
    one_item = csr_matrix(np.eye(ITEMS, dtype="f4"))
    near = fit_text_ease(bought, vectors, 100.0).score(one_item)
    assert np.corrcoef(near.ravel(), whole.ravel())[0, 1] > 0.95
    assert (near.argmax(axis=1) == mates).mean() > 0.95
    shop = low_rank.LargeShop.of(bought, vectors, 10.0)
    without = shop.parts(100.0, with_pairs=False)
    assert without.pairs.nnz == 0
    alike = without.factors @ without.factors.T / without.diagonal
    np.fill_diagonal(alike, 0)
    assert np.corrcoef(alike.ravel(), whole.ravel())[0, 1] < 0.9
    monkeypatch.setattr(low_rank, "MOST_PAIRS", ITEMS)
    assert np.diff(low_rank.LargeShop.of(bought, vectors, 10.0).pairs.indptr).max() == 1


@pytest.mark.parametrize("items_at_a_time", [7, 1024])
def test_an_items_strongest_pairs_are_kept_and_both_items_divide_them(monkeypatch, items_at_a_time):
    for name, value in (("RANK", 8), ("SPARE", 4), ("MOST_PAIRS", 3 * ITEMS)):
        monkeypatch.setattr(low_rank, name, value)
    monkeypatch.setattr(low_rank, "_ITEMS", items_at_a_time)
    sells = np.linspace(0.02, 0.4, ITEMS)  # unlike: what is left of one item is not of another
    bought = csr_matrix((np.random.default_rng(3).random((200, ITEMS)) < sells).astype("f4"))
    vectors = texts()
    shop = low_rank.LargeShop.of(bought, vectors, 10.0)
    together = (bought.T @ bought).toarray()
    np.fill_diagonal(together, 0)
    strength = together / np.sqrt(200 + shop.left)
    directions, values = shop.leading
    left = gram(bought, vectors, 10.0) - directions * values @ directions.T
    for item in range(ITEMS):
        row = shop.pairs[item]
        assert row.indices.tolist() == sorted(np.argsort(-strength[item], kind="stable")[:3])
        assert row.data == pytest.approx(left[item, row.indices], abs=1e-3)
    e = 100.0 + shop.left
    scaled = shop.parts(100.0, with_pairs=True).pairs.toarray()
    assert scaled == pytest.approx(100.0 * shop.pairs.toarray() / np.outer(e, e), rel=1e-4)


def dense_weights(bought, vectors, l2):
    """B by its definition."""
    inverse = np.linalg.inv(gram(bought, vectors, 10.0) + l2 * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def test_the_rule_counts_bytes():
    vectors = np.zeros((20_000, 8), np.float32)
    few = csr_matrix(np.ones((5, 1), "f4") @ np.eye(1, 20_000, dtype="f4"))
    assert not is_large(few, vectors)
    many = csr_matrix((np.ones(30_000, "f4"), (np.arange(30_000), np.zeros(30_000, int))),
                      shape=(30_000, 20_000))  # fmt: skip
    assert is_large(many, vectors)
    assert not is_large(many[:, :18_000], vectors[:18_000])


@pytest.mark.usefixtures("every_shop_is_large")
def test_a_large_shop_chooses_among_one_strength_and_is_fitted_again_from_its_own(monkeypatch):
    bought, vectors = purchases(), texts()
    nobody = Cases(np.empty(0, np.int32), bought[:0], bought[:0])
    assert choose_text_ease(bought, vectors, nobody).l2 == 200
    # What a model with hardly any regularisation says is made to come true.
    sharp = fit_text_ease(bought, vectors, 1.0).score(bought)
    sharp[bought.nonzero()] = -np.inf
    wanted = np.zeros_like(sharp)
    wanted[np.arange(len(sharp)), sharp.argmax(axis=1)] = 1
    told = Cases(np.arange(len(sharp), dtype=np.int32), bought, csr_matrix(wanted))
    pair = ((5000.0, 10.0), (1.0, 10.0), (2.0, 0.0))
    monkeypatch.setattr(text_ease, "LARGE_CASES", 100)
    chosen = choose_text_ease(bought, vectors, told, pair)
    assert (chosen.l2, chosen.text_strength) == (1, 10)
    again = chosen.refitted(bought[:100], vectors)
    expected = fit_text_ease(bought[:100], vectors, 1.0).score(bought)
    assert again.score(bought) == pytest.approx(expected, abs=1e-2)


@pytest.mark.usefixtures("every_shop_is_large")
@pytest.mark.parametrize(
    ("with_pairs", "without", "kept"), [(0, 1, False), (1, 0, True), (1, 1, True)]
)
def test_pairs_stay_where_they_do_not_rank_worse_and_on_few_cases(
    monkeypatch, with_pairs, without, kept
):
    looked_at = []

    def judged(score, cases):
        looked_at.append(len(cases))
        return np.full(len(cases), float(with_pairs if score.__self__.pairs.nnz else without))

    monkeypatch.setattr(text_ease, "validation_ndcg", judged)
    monkeypatch.setattr(text_ease, "LARGE_CASES", 40)
    bought, vectors = purchases(), texts()
    cases = Cases(np.arange(150, dtype=np.int32), bought, bought)
    # The second is of another strength, which would be another shop to take apart.
    chosen = choose_text_ease(bought, vectors, cases, ((200.0, 10.0), (50.0, 0.0)))
    assert (chosen.l2, chosen.text_strength) == (200, 10)
    assert (chosen.pairs.nnz > 0) == kept
    assert (chosen.refitted(bought[:100], vectors).pairs.nnz > 0) == kept
    assert looked_at == [40, 40]
