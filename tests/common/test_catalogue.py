import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.catalogue import Catalogue, Item, merge_catalogues, popularity_buckets
from common.errors import InputError
from tests.support.shops import make_catalogue

texts = st.lists(st.text(max_size=8), min_size=1, max_size=12)


def catalogue_of(words, prefix=""):
    return Catalogue(
        tuple(Item(f"{prefix}{place}", word, word) for place, word in enumerate(words))
    )


def test_an_item_is_found_by_its_id():
    catalogue = make_catalogue(9)
    assert len(catalogue) == 9
    for place, item in enumerate(catalogue.items):
        assert catalogue.index_of(item.item_id) == place
        assert item.item_id in catalogue
    assert "nothing" not in catalogue
    with pytest.raises(InputError) as caught:
        catalogue.index_of("nothing")
    assert caught.value.field == "item_id"
    assert "9 items" in str(caught.value)


def test_an_empty_catalogue_and_a_doubled_id_are_refused():
    with pytest.raises(InputError, match="at least one"):
        Catalogue(())
    with pytest.raises(InputError, match="unique"):
        Catalogue((Item("a", "x", "x"), Item("a", "y", "y")))


def test_items_are_taken_in_the_order_asked_for():
    catalogue = make_catalogue(9)
    assert catalogue.take([5, 0, 7]).items == tuple(catalogue.items[one] for one in (5, 0, 7))
    assert catalogue.texts == [item.text for item in catalogue.items]


@given(texts)
def test_text_keys_are_equal_exactly_where_texts_are(words):
    keys = catalogue_of(words).text_keys
    assert keys.dtype == np.uint64
    for first, one in enumerate(words):
        for second, other in enumerate(words):
            assert (keys[first] == keys[second]) == (one == other)
    expected = int.from_bytes(hashlib.sha256(words[0].encode()).digest()[:8], "little")
    assert int(keys[0]) == expected


def test_the_digest_covers_ids_texts_and_order_and_nothing_else():
    base = (Item("a", "t", "x"), Item("b", "t", "y"))
    digest = Catalogue(base).digest
    assert len(digest) == 64
    changed = [
        (Item("c", "t", "x"), base[1]),
        (Item("a", "t", "z"), base[1]),
        (base[1], base[0]),
        base[:1],
        (Item("ax", "t", ""), base[1]),
        (Item("", "t", "ax"), base[1]),
    ]
    digests = {Catalogue(items).digest for items in changed}
    assert len(digests) == len(changed)
    assert digest not in digests
    same = (Item("a", "other title", "x", "category", "merchant"), base[1])
    assert Catalogue(same).digest == digest


@given(st.lists(texts, min_size=1, max_size=4))
def test_a_merged_catalogue_has_each_text_once_in_order_of_first_sight(shops):
    merged = merge_catalogues([catalogue_of(words, f"{n}-") for n, words in enumerate(shops)])
    assert merged.texts == list(dict.fromkeys(word for words in shops for word in words))
    assert set(merged.text_keys.tolist()) == {
        key for words in shops for key in catalogue_of(words).text_keys.tolist()
    }


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60))
def test_head_tail_and_cold_by_definition(sales):
    counts = np.array(sales)
    buckets = popularity_buckets(counts)
    order = sorted(range(len(sales)), key=lambda item: (-sales[item], item))
    head = set(order[: round(len(sales) * 0.2)])
    assert set(np.flatnonzero(buckets.head).tolist()) == head
    assert np.array_equal(buckets.tail, ~buckets.head)
    assert np.array_equal(buckets.cold, counts == 0)
    sold = 0
    for item in order:
        assert buckets.tail_by_volume[item] == (sold >= 0.8 * max(sum(sales), 1))
        sold += sales[item]
