import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from client.ranking import text_ease
from client.ranking.baselines import fit_ease
from client.ranking.model_selection import clearly_better, validation_ndcg
from client.ranking.text_ease import CANDIDATES, TextRows, choose_text_ease, fit_text_ease
from client.shop.splitting import Cases
from common.errors import InputError

ITEMS, WIDTH = 30, 6


def purchases(shoppers=40, seed=0):
    return csr_matrix((np.random.default_rng(seed).random((shoppers, ITEMS)) < 0.2).astype("f4"))


def texts(seed=1):
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, WIDTH))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def dense_weights(bought, vectors, l2, strength):
    """B by its definition, with the inverse of the whole matrix."""
    joined = np.vstack([bought.toarray().astype(float), np.sqrt(strength) * vectors.T])
    inverse = np.linalg.inv(joined.T @ joined + l2 * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@given(
    st.integers(0, 1000), st.sampled_from([0, 3, 23, 24, 60]), st.floats(1, 500), st.floats(0, 100)
)
def test_the_scores_are_those_of_the_definition(seed, shoppers, l2, strength):
    bought, vectors = purchases(shoppers, seed=seed), texts(seed)
    model = fit_text_ease(bought, vectors, l2, strength)
    expected = bought.toarray() @ dense_weights(bought, vectors, l2, strength)
    assert model.score(bought) == pytest.approx(expected, abs=2e-4)
    width = min(np.diff(bought.indptr).astype(bool).sum() + WIDTH, ITEMS)
    assert model.factors.shape == (ITEMS, width)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("shoppers", [10, 40])
def test_an_item_that_weighs_more_in_a_history_adds_so_much_more(monkeypatch, shoppers, large):
    if large:
        monkeypatch.setattr(text_ease, "DENSE_BYTES", 0.0)
    model = fit_text_ease(purchases(shoppers), texts(), 50.0)
    history = purchases(5, seed=4)
    history.data[:] = np.random.default_rng(5).choice([0.5, 1, 3], len(history.data))
    each = model.score(csr_matrix(np.eye(ITEMS, dtype="f4")))
    assert model.score(history) == pytest.approx(history.toarray() @ each, abs=1e-5)


def test_without_text_it_is_ease():
    bought = purchases()
    found = fit_text_ease(bought, texts(), 50.0, text_strength=0).score(bought)
    assert found == pytest.approx(fit_ease(bought, 50.0).score(bought), abs=1e-5)


@pytest.mark.parametrize("shoppers", [10, 40])  # fewer rows than items, and more
def test_shares_add_up_to_the_score_above_the_mean_and_an_item_adds_nothing_to_itself(shoppers):
    bought = purchases(shoppers)
    model = fit_text_ease(bought, texts(), 50.0)
    history, items = bought[3].indices, np.arange(ITEMS)
    shares, score = model.shares(history, items), model.score(bought[3])[0]
    assert shares.shape == (len(history), ITEMS)
    assert shares.sum(axis=0) == pytest.approx(score - score.mean(), abs=1e-5)
    mean = np.array([model.score(one_item(item))[0].mean() for item in history])
    assert shares[np.arange(len(history)), history] == pytest.approx(-mean, abs=1e-6)
    some = shares[:, [5, 2]]
    assert model.shares(history, np.array([5, 2])) == pytest.approx(some, abs=1e-12)


def one_item(item):
    return csr_matrix(np.eye(ITEMS, dtype=np.float32)[[item]])


def test_a_cold_start_item_is_found_through_a_text_like_its_own():
    bought = purchases().toarray()
    bought[:, 7] = 0
    vectors = texts()
    vectors[7] = vectors[4]
    added = fit_text_ease(csr_matrix(bought), vectors, 50.0).score(one_item(4))[0]
    assert added.argmax() == 7
    assert added[7] > 0
    assert not fit_text_ease(csr_matrix(bought), vectors, 50.0, 0).score(one_item(4))[0, 7]


@pytest.mark.parametrize("shoppers", [10, 40])
def test_one_history_scores_as_it_does_among_others(shoppers):
    bought = purchases(shoppers)
    model = fit_text_ease(bought, texts(), 50.0)
    together = model.score(bought)
    for row in range(shoppers):
        assert np.array_equal(model.score(bought[row])[0], together[row])


@pytest.mark.parametrize("width", [WIDTH, 2 * ITEMS])
def test_a_shop_without_sales_has_its_texts(width):
    vectors = np.eye(ITEMS, width, dtype=np.float32)
    model = fit_text_ease(csr_matrix((0, ITEMS), dtype=np.float32), vectors, 50.0)
    assert np.isfinite(model.factors).all()
    assert (model.diagonal > 0).all()


def test_the_first_candidate_stands_unless_another_is_clearly_better():
    bought, vectors = purchases(300), texts()
    nobody = Cases(np.empty(0, np.int32), bought[:0], bought[:0])
    found = choose_text_ease(bought, vectors, nobody)
    assert (found.l2, found.text_strength) == CANDIDATES[0]
    pair = ((200.0, 10.0), (50.0, 10.0))
    lucky = 0
    for seed in range(1, 13):  # whatever is bought next says nothing of either: half of it is luck
        random = csr_matrix((np.random.default_rng(seed).random((300, ITEMS)) < 0.1).astype("f4"))
        wanted = csr_matrix(random - random.multiply(bought))
        some = np.flatnonzero(np.diff(wanted.indptr))
        luck = Cases(some.astype(np.int32), bought[some], wanted[some])
        first, other = (
            validation_ndcg(fit_text_ease(bought, vectors, *one).score, luck) for one in pair
        )
        if other.mean() > first.mean() and not clearly_better(other, first):
            lucky += 1
            assert choose_text_ease(bought, vectors, luck, pair).l2 == 200
    assert lucky > 2
    # What a model with hardly any regularisation says is made to come true.
    sharp = fit_text_ease(bought, vectors, 1.0, 0.0).score(bought)
    sharp[bought.nonzero()] = -np.inf
    wanted = np.zeros_like(sharp)
    wanted[np.arange(300), sharp.argmax(axis=1)] = 1
    told = Cases(np.arange(300, dtype=np.int32), bought, csr_matrix(wanted))
    sharpest = choose_text_ease(bought, vectors, told, ((5000.0, 10.0), (1.0, 0.0)))
    assert (sharpest.l2, sharpest.text_strength) == (1, 0)
    again = sharpest.refitted(bought[:100], vectors)
    expected = fit_text_ease(bought[:100], vectors, 1.0, 0.0).score(bought)
    assert (again.score(bought) == expected).all()


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("l2", lambda bought: fit_text_ease(bought, texts(), 0)),
        ("l2", lambda bought: fit_text_ease(bought, texts(), float("nan"))),
        ("text_strength", lambda bought: fit_text_ease(bought, texts(), 1.0, -1)),
        ("vectors", lambda bought: fit_text_ease(bought, texts()[:-1], 1.0)),
        ("history", lambda bought: fit_text_ease(bought, texts(), 1.0).score(bought[:, :-1])),
        (
            "candidates",
            lambda bought: choose_text_ease(
                bought, texts(), Cases(np.empty(0, np.int32), bought[:0], bought[:0]), ()
            ),
        ),
    ],
)
def test_bad_input_is_named(field, call):
    with pytest.raises(InputError) as caught:
        call(purchases())
    assert caught.value.field == field


# ------------------------------------------------------- what texts alone decide
@given(
    st.integers(0, ITEMS - WIDTH - 1),
    st.integers(0, 99),
    st.sampled_from([1.0, 50.0, 1e4]),
    st.sampled_from([0.0, 1.0, 30.0]),
)
def test_a_fit_in_two_parts_is_the_inverse_of_the_whole(buyers, seed, l2, strength):
    rng, vectors = np.random.default_rng(seed), texts()
    bought = (rng.random((buyers, ITEMS)) < 0.2).astype(np.float32)
    bought = bought[bought.any(axis=1)].reshape(-1, ITEMS)
    model = fit_text_ease(csr_matrix(bought), vectors, l2, strength)
    joined = np.vstack([bought, np.sqrt(strength) * vectors.T]).astype(np.float64)
    inverse = np.linalg.inv(joined.T @ joined + l2 * np.eye(ITEMS))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    found = model.score(csr_matrix(np.eye(ITEMS, dtype=np.float32)))
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_what_is_kept_between_fits_changes_none_of_them():
    vectors = texts()
    rows, shops = TextRows(vectors), [csr_matrix(np.eye(ITEMS)[:n]) for n in (3, 9, 0, 3)]
    for bought in shops:
        for l2, strength in ((50.0, 1.0), (50.0, 0.0), (9.0, 1.0)):
            alone = fit_text_ease(bought, vectors, l2, strength)
            kept = fit_text_ease(bought, vectors, l2, strength, rows)
            assert np.array_equal(alone.factors, kept.factors)
            assert np.array_equal(alone.diagonal, kept.diagonal)


def test_what_is_kept_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        TextRows(texts()).factors(1.0, 1.0)[0, 0] = 1.0
