"""Whom a setup of the secure sums leaves out: never too few stay, and who spoils sums is found."""

from hypothesis import given
from hypothesis import strategies as st

from server.run.asking.left_out import LeftOut

NAMES = tuple(f"shop-{place}" for place in range(8))


def test_all_are_asked_where_nothing_was_seen():
    assert LeftOut().choose(NAMES, 6, 8) == NAMES
    assert LeftOut().choose(NAMES, 6, 7) == NAMES[:7]


def test_who_sent_a_message_that_is_none_is_out_even_where_too_few_are_left():
    left_out = LeftOut(named={NAMES[0], NAMES[1], NAMES[2]}, absent={NAMES[3]})
    assert left_out.choose(NAMES, 6, 8) == NAMES[4:]


def test_who_deals_nonsense_to_all_is_out_and_not_those_who_say_so():
    left_out = LeftOut(disputes={(name, NAMES[3]) for name in NAMES if name != NAMES[3]})
    assert left_out.choose(NAMES, 6, 8) == NAMES[:3] + NAMES[4:]


def test_of_two_that_nobody_else_speaks_of_the_accused_goes():
    for pair in ((NAMES[0], NAMES[3]), (NAMES[3], NAMES[0])):
        chosen = LeftOut(disputes={pair}).choose(NAMES, 6, 8)
        assert set(NAMES) - set(chosen) == {pair[1]}


def test_who_accuses_one_after_the_other_is_found_and_the_first_is_back():
    left_out = LeftOut(disputes={(NAMES[3], NAMES[0])})
    assert left_out.choose(NAMES, 6, 8) == NAMES[1:]
    left_out.disputes.add((NAMES[3], NAMES[1]))
    assert left_out.choose(NAMES, 6, 8) == NAMES[:3] + NAMES[4:]


def test_an_order_of_sums_beyond_bounds_is_that_of_the_first():
    """Else whoever sits out is in another group each time, and one that spoils sums may stay."""
    left_out = LeftOut()
    left_out.beyond(NAMES)
    left_out.beyond(NAMES[2:])
    assert left_out.choose(NAMES, 6, 8) == NAMES[:2] + NAMES[4:]


def test_a_group_sits_out_after_each_sum_beyond_bounds_and_another_after_the_next():
    left_out, seen = LeftOut(), []
    for _ in range(5):
        left_out.beyond(NAMES)
        seen.append(tuple(sorted(set(NAMES) - set(left_out.choose(NAMES, 6, 8)))))
    assert seen == [NAMES[:2], NAMES[2:4], NAMES[4:6], NAMES[6:], NAMES[:2]]


@st.composite
def histories(draw):
    """Eight parties or fewer of which a few are honest in none of what is said."""
    names = st.sampled_from(NAMES)
    left_out = LeftOut(
        disputes={pair for pair in draw(st.sets(st.tuples(names, names))) if len(set(pair)) == 2},
        unopened=draw(st.sets(names)),
    )
    for _ in range(draw(st.integers(0, 20))):
        left_out.beyond(draw(st.sets(names, min_size=1)))
    return left_out


@given(left_out=histories(), present=st.sets(st.sampled_from(NAMES)), least=st.integers(2, 8))
def test_whatever_is_said_enough_stay_and_no_stranger_comes(left_out, present, least):
    there = tuple(sorted(present))
    chosen = left_out.choose(there, least, 8)
    assert set(chosen) <= present
    assert len(chosen) >= min(least, len(there))
    assert list(chosen) == sorted(chosen)


@given(spoiler=st.sampled_from(NAMES), least=st.integers(4, 7))
def test_one_that_spoils_each_sum_sits_out_after_as_many_sums_as_there_are_groups(spoiler, least):
    left_out, failed = LeftOut(), 0
    while spoiler in left_out.choose(NAMES, least, 8):
        left_out.beyond(left_out.choose(NAMES, least, 8))
        failed += 1
    assert failed <= 1 + -(-len(NAMES) // (8 - least)) - 1
