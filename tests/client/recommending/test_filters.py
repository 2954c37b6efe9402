import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.recommending.filters import Filters, best_eligible
from client.recommending.stock import read_stock
from common.catalogue import Catalogue, Item
from common.errors import InputError

CATEGORIES = ("", "Kitchen", "Garden", "Toys")


def shop_of(categories):
    """Items sorted by id, of those categories."""
    return Catalogue(
        tuple(
            Item(f"{place:03}", f"title {place}", f"text {place}", category)
            for place, category in enumerate(categories)
        )
    )


SHOP = shop_of(["Kitchen", "Kitchen", "Garden", "Toys", ""])


def a_case(seed):
    """A random shop, scores with many ties, rules, and what the shopper bought."""
    random = np.random.default_rng(seed)
    items = int(random.integers(1, 30))
    catalogue = shop_of(random.choice(CATEGORIES, items))
    ids = [item.item_id for item in catalogue.items]
    there = sorted({item.category for item in catalogue.items})

    def some(pool, chance=0.5):
        return set(np.array(pool, dtype=object)[random.random(len(pool)) < chance].tolist())

    def maybe(value):
        return value if random.random() < 0.5 else None

    rules = Filters(
        allow=maybe(some(ids, 0.7)),
        deny=some(ids, 0.2),
        categories=maybe(some(there)),
        not_categories=some(there, 0.2),
        in_stock=maybe(some(ids, 0.8) | {ids[0], "not in the catalogue"}),
        keep_bought=bool(random.random() < 0.3),
    )
    scores = random.choice([-2.5, 0.0, 0.5, 1e-9, 7.0], items)
    bought = np.unique(random.integers(0, items, random.integers(0, 6)))
    return catalogue, rules, scores, bought, int(random.integers(1, 35))


def passes(item, place, rules, bought):
    """The rules once more, item by item."""
    return (
        (rules.allow is None or item.item_id in rules.allow)
        and item.item_id not in rules.deny
        and (rules.categories is None or item.category in rules.categories)
        and item.category not in rules.not_categories
        and (rules.in_stock is None or item.item_id in rules.in_stock)
        and (rules.keep_bought or place not in bought)
    )


# ---------------------------------------------------------------------- the rules
@settings(max_examples=1000)
@given(st.integers(0, 2**32 - 1))
def test_a_list_has_the_best_that_pass_and_is_as_long_as_it_can_be(seed):
    catalogue, rules, scores, bought, top = a_case(seed)
    found = best_eligible(scores, rules.eligible(catalogue, bought), top).tolist()
    able = [i for i, item in enumerate(catalogue.items) if passes(item, i, rules, set(bought))]
    assert len(found) == min(top, len(able))
    # Ties go to the lower index, which in a catalogue sorted by id is the lower id.
    assert found == sorted(able, key=lambda i: (-np.float32(scores[i]), i))[:top]


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_joined_rules_let_pass_what_both_let_pass(seed, other):
    catalogue, rules, _, bought, _ = a_case(seed)
    more = Filters(
        allow={item.item_id for item in catalogue.items[::2]},
        deny={catalogue.items[other % len(catalogue)].item_id},
        keep_bought=rules.keep_bought,
    )
    both = rules.joined(more)
    assert np.array_equal(
        both.eligible(catalogue, bought),
        rules.eligible(catalogue, bought) & more.eligible(catalogue, bought),
    )


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("other", [False, True])
def test_buying_again_is_allowed_if_either_allows_it(one, other):
    joined = Filters(keep_bought=one).joined(Filters(keep_bought=other))
    assert joined.keep_bought == (one or other)


def test_nothing_passes_an_empty_list_of_allowed_items():
    nothing = Filters(allow=[]).eligible(SHOP, np.array([], np.int64))
    assert best_eligible(np.ones(5), nothing, 3).tolist() == []


def test_a_score_that_is_no_number_is_refused_and_not_ranked():
    with pytest.raises(InputError) as caught:
        best_eligible(np.array([1.0, np.nan]), np.array([True, False]), 1)
    assert caught.value.field == "scores"


@pytest.mark.parametrize(
    ("rules", "field", "named"),
    [
        (Filters(allow=["000", "zzz"]), "allow", "'zzz'"),
        (Filters(deny=["x", "y", "z"]), "deny", "2 more"),
        (Filters(categories=["Kitchn"]), "categories", "'Garden', 'Kitchen', 'Toys'"),
        (Filters(not_categories=["Cars"]), "not_categories", "'Cars'"),
        (Filters(in_stock=["sku-1"]), "stock", "none of its 1"),
    ],
)
def test_a_rule_that_names_nothing_there_is_an_error_that_names_the_rule(rules, field, named):
    with pytest.raises(InputError) as caught:
        rules.eligible(SHOP, np.array([], np.int64))
    assert caught.value.field == field
    assert named in str(caught.value)
    assert str(caught.value).startswith(field)


def test_a_catalogue_without_categories_says_so():
    with pytest.raises(InputError, match="names no categories"):
        Filters(categories=["Toys"]).public(shop_of([""]))


# ----------------------------------------------------------------------- the files
def test_a_file_of_rules_is_read_with_the_stock_beside_it(tmp_path):
    (tmp_path / "stock.csv").write_text("item_id,quantity\n000,3\n001,0\n002,-1\n003,0.5\n")
    (tmp_path / "rules.toml").write_text(
        'allow = ["000", "001", "003"]\ndeny = ["003"]\nnot_categories = ["Garden"]\n'
        'stock = "stock.csv"\nkeep_bought = true\n'
    )
    rules = Filters.from_toml(tmp_path / "rules.toml")
    assert rules == Filters(
        allow=["000", "001", "003"],
        deny=["003"],
        not_categories=["Garden"],
        in_stock=frozenset({"000", "003"}),
        keep_bought=True,
    )
    assert rules.eligible(SHOP, np.array([0])).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("line", "field", "named"),
    [
        ('alow = ["1"]', "alow", "known are allow, categories, deny"),
        ('allow = "1"', "allow", "a str was given; a list"),
        ("deny = [1]", "deny", "a list was given; a list of texts"),
        ("keep_bought = 1", "keep_bought", "true or false"),
        ("stock = ['a']", "stock", "the name of a table"),
        ("allow = ", "experiment", "not a TOML file"),
        ('in_stock = ["1"]', "in_stock", "known are"),
    ],
)
def test_a_bad_file_of_rules_is_an_error_that_names_the_key(tmp_path, line, field, named):
    (tmp_path / "rules.toml").write_text(line)
    with pytest.raises(InputError) as caught:
        Filters.from_toml(tmp_path / "rules.toml")
    assert caught.value.field == field
    assert named in str(caught.value)
    assert "rules.toml" in str(caught.value)


def test_several_warehouses_are_one_stock(tmp_path):
    path = tmp_path / "stock.tsv"
    path.write_text("place\titem_id\tquantity\nA\t1\t0\nB\t1\t4\nA\t2\t0\n")
    assert read_stock(path) == {"1"}


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ("item_id,quantity\n1,many\n", "stock"),
        ("item_id,quantity\n1,\n", "stock"),
        ("item_id,number\n1,2\n", "quantity"),
        ("item_id,quantity\n", "row"),
    ],
)
def test_a_bad_stock_table_is_refused(tmp_path, table, field):
    (tmp_path / "stock.csv").write_text(table)
    with pytest.raises(InputError) as caught:
        read_stock(tmp_path / "stock.csv")
    assert caught.value.field == field
    assert "stock.csv" in str(caught.value)
