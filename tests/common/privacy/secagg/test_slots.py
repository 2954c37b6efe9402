from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import FederationError, SettingsError
from common.privacy.secagg.slots import slot_of, terms_of
from tests.support.secure_town import PLAN


@given(
    histogram=st.sampled_from([0.0, 2.0]),
    season=st.sampled_from([0.0, 3.0]),
    steps=st.integers(1, 9),
)
def test_each_sum_of_a_plan_has_a_round_of_its_own_with_its_length(histogram, season, steps):
    plan = replace(
        PLAN,
        steps=steps,
        popularity_noise_multiplier=histogram,
        season_noise_multiplier=season,
    )
    asked = [("popularity", 0, 30)] * (histogram > 0) + [("season", 0, 20)] * (season > 0)
    asked += [("train", number, 10) for number in range(1, steps + 1)]
    terms = terms_of(plan, "7", train=10, histogram=30, season=20)
    slots = [slot_of(plan, kind, number) for kind, number, _ in asked]
    assert slots == list(range(1, terms.rounds + 1))
    assert [terms.length_of(slot) for slot in slots] == [length for *_, length in asked]
    assert terms.longest == max(length for *_, length in asked)


@pytest.mark.parametrize(
    ("kind", "number"), [("train", 0), ("train", 4), ("popularity", 1), ("season", 1)]
)
def test_a_sum_that_the_plan_does_not_take_has_no_round(kind, number):
    with pytest.raises(FederationError):
        slot_of(PLAN, kind, number)


def test_a_histogram_of_no_items_is_refused_before_anybody_has_keys():
    with pytest.raises(SettingsError) as caught:
        terms_of(PLAN, "7", train=10, season=20)
    assert caught.value.field == "length"
    bare = replace(PLAN, popularity_noise_multiplier=0.0)
    assert terms_of(bare, "7", train=10, season=20).first == (20,)


def test_the_lengths_are_part_of_what_parties_agree_on():
    digests = {
        terms_of(PLAN, "7", train=10, season=20, histogram=histogram).digest
        for histogram in (1, 10, 20)
    }
    assert len(digests) == 3
