from dataclasses import replace

import pytest

from client.serving.experiments.arms import OWN, RELEASE
from simulations.traffic.repeats import (
    SAME,
    design_of,
    directly,
    make_lists,
    make_worlds,
    online_coverage,
    repeat,
    through_the_store,
)
from simulations.traffic.world import SETTINGS, make_world

SMALL = replace(SETTINGS, min_shoppers=400, max_shoppers=400, items=150)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_counting_arrays_and_the_service_s_own_store_say_the_same_at_every_look(tmp_path, seed):
    world = make_world(seed, SMALL)
    lists = {arm: make_lists(world, arm) for arm in (OWN, RELEASE)}
    design = design_of(RELEASE, OWN, "conversion", "tail_share")
    stored, weeks = through_the_store(world, lists, design, seed, tmp_path)
    counted = directly(weeks, design)
    assert counted == stored
    assert counted.looks[-1].effect.low is not None


@pytest.mark.statistical
def test_it_ends_on_the_better_arm_and_on_none_of_equals():
    """A smaller form of `make traffic`: 40 runs each in two shops."""
    worlds = make_worlds(2)
    better = repeat(worlds, design_of(RELEASE, OWN, "conversion"), 40)
    assert better.winners[OWN] >= 37
    assert better.winners[RELEASE] <= 1
    equal = repeat(worlds, design_of(RELEASE, SAME, "conversion", "tail_share"), 40)
    assert equal.winners[""] >= 37
    guarded = repeat(worlds, design_of(RELEASE, OWN, "conversion", "tail_share"), 10)
    assert guarded.winners == {RELEASE: 10}
    assert better.effect_covered >= 37
    assert equal.effect_covered >= 37
    shown, truth = online_coverage(worlds, 200)
    assert shown >= 180  # 190 and three times its deviation
    assert truth >= 175
