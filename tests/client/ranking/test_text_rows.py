import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from client.ranking.text_ease import fit_text_ease
from client.ranking.text_rows import TextRows

ITEMS, WIDTH = 30, 4


def texts(seed=0):
    vectors = np.random.default_rng(seed).normal(size=(ITEMS, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


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
