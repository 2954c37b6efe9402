"""Who is out for what parties say of each other: whoever lies takes few honest ones along."""

from hypothesis import given
from hypothesis import strategies as st

from server.run.asking.disputes import liars

NAMES = tuple(f"shop-{place:02d}" for place in range(16))


def test_where_nothing_is_said_nobody_is_out():
    assert liars(()) == ()


def test_one_against_many_is_out_alone_whoever_speaks():
    assert liars([(NAMES[5], other) for other in NAMES[:3]]) == (NAMES[5],)
    assert liars([(other, NAMES[5]) for other in NAMES[:3]]) == (NAMES[5],)


def test_six_that_share_their_victims_out_are_out_and_the_victims_stay():
    """Each victim is in more disputes than any liar is by then: whoever counts takes them all."""
    hostile, victims = NAMES[:6], iter(NAMES[6:])
    groups = [
        hostile[start : start + size]
        for size in range(2, 7)
        for start in range(0, 6 // size * size, size)
    ]
    said = [(one, victim) for group, victim in zip(groups, victims, strict=False) for one in group]
    assert len({victim for _, victim in said}) == 8
    assert set(liars(said)) == set(hostile)


@given(hostile=st.sets(st.sampled_from(NAMES), min_size=1, max_size=8), data=st.data())
def test_no_more_honest_ones_than_liars_are_out_for_what_liars_say(hostile, data):
    """Each dispute has a liar at one end at least."""
    names = st.sampled_from(NAMES)
    pairs = st.tuples(st.sampled_from(sorted(hostile)), names).filter(lambda two: two[0] != two[1])
    either = st.tuples(pairs, st.booleans()).map(lambda told: told[0][:: 1 if told[1] else -1])
    said = data.draw(st.sets(either, max_size=80))
    out = set(liars(said))
    assert all(out & set(pair) for pair in said)
    assert len(out - hostile) <= len(hostile)
    assert len(out) <= 2 * len(hostile)
