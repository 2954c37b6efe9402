import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.catalogue import Catalogue, Item
from common.errors import SettingsError
from common.settings.auto import CHOSEN, DeclaredFacts, choose, fit_settings
from common.settings.run import RunSettings

ONLINE_RETAIL = DeclaredFacts(
    clock=True, merchants=8, size_bracket=300, items=3631, words=4.4, vocabulary=2180, epsilon=4
)
ANY = st.builds(
    lambda merchants, share, **facts: DeclaredFacts(
        merchants=merchants, sharing=math.ceil(share * merchants), **facts
    ),
    clock=st.booleans(),
    merchants=st.integers(1, 100_000),
    share=st.floats(1e-9, 1),
    size_bracket=st.integers(1, 10**9),
    items=st.integers(1, 10**7),
    words=st.floats(1e-3, 1e6),
    vocabulary=st.integers(1, 10**7),
    epsilon=st.floats(1e-9, 1e9) | st.just(math.inf),
)


@given(ANY)
def test_whatever_is_declared_the_settings_are_within_their_bounds(facts):
    settings, chosen = fit_settings(RunSettings(), facts, {})
    assert chosen == choose(facts)
    assert tuple(chosen) == CHOSEN
    for name, choice in chosen.items():
        assert getattr(settings, name) == choice.value
        assert choice.reason


@given(ANY, st.data())
def test_what_a_person_names_stands_and_the_rest_is_the_rules(facts, data):
    choices = choose(facts)
    named = data.draw(st.sets(st.sampled_from(sorted(choices))))
    asked = {name.replace("_", "-"): getattr(RunSettings(), name) for name in named}
    settings, chosen = fit_settings(RunSettings.from_flat(asked), facts, asked)
    assert chosen.keys() == choices.keys() - named
    for name in named:
        assert getattr(settings, name) == getattr(RunSettings(), name)
    for name, choice in chosen.items():
        assert getattr(settings, name) == choice.value


@given(ANY)
def test_the_rule_touches_nothing_that_privacy_or_the_federation_hangs_on(facts):
    before = RunSettings().to_flat()
    after = fit_settings(RunSettings(), facts, {})[0].to_flat()
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= choose(facts).keys()
    plan = {"epsilon", "delta", "noise", "sample_rate", "max_grad_norm", "size_bracket", "rounds"}
    assert not changed & plan


BAD = {
    "merchants": 0,
    "size_bracket": 0,
    "items": 0,
    "words": 0,
    "vocabulary": 0,
    "epsilon": math.nan,
    "sharing": 9,  # of eight
}


@pytest.mark.parametrize("noise", ["local", "distributed", "central"])
@pytest.mark.parametrize("merchants", [5, 8, 30])
def test_noise_that_is_shared_counts_as_the_plan_has_it(noise, merchants):
    """A merchant is heard as its shoppers' size over the noise on the mean, by the plan's own."""
    settings = RunSettings(noise=noise, epsilon=2, min_merchants=max(5, merchants))
    facts = DeclaredFacts.of((), settings, clock=True, merchants=merchants)
    plan = settings.plan(merchants if noise != "local" else 1)
    on_the_mean = plan.noise_std("train") / math.sqrt(merchants)
    alone = plan.noise_multiplier * plan.clip_norm("train")
    heard = settings.size_bracket * alone / on_the_mean * settings.epsilon / 4
    assert facts.voices == pytest.approx(heard, rel=1e-3)


def test_a_federation_at_the_same_epsilon_is_heard_better_where_it_shares_its_noise():
    shared = replace(ONLINE_RETAIL, sharing=6)
    assert shared.voices == pytest.approx(ONLINE_RETAIL.voices * math.sqrt(6))
    assert choose(shared)["rank"].value == 32  # 16 where each adds its own


@pytest.mark.parametrize("name", BAD)
def test_a_fact_out_of_bounds_is_named(name):
    with pytest.raises(SettingsError, match=name) as caught:
        replace(ONLINE_RETAIL, **{name: BAD[name]})
    assert caught.value.field == name


def test_facts_are_read_from_distinct_texts_and_declared_settings():
    def item(number, text):
        return Item(f"{number}", text, text)

    one = Catalogue((item(0, "red jug"), item(1, "a large blue oak clock")))
    two = Catalogue((item(0, "red jug"), item(1, "Large lamp")))
    settings = RunSettings(size_bracket=50, epsilon=2)
    facts = DeclaredFacts.of((one, two), settings, clock=False, merchants=2)
    assert facts == DeclaredFacts(False, 2, 50, 3, 3, 8, 2)
    without = DeclaredFacts.of((one,), RunSettings(noise="none"), clock=True, merchants=1)
    assert without.epsilon == math.inf


def test_a_federation_like_the_defaults_own_gets_the_defaults():
    assert fit_settings(RunSettings(), ONLINE_RETAIL, {})[0] == RunSettings()


def test_each_data_sets_facts_get_what_the_study_decided_for_them():
    games = DeclaredFacts(False, 8, 5000, 17_236, 30, 31_614, 4)
    industrial = DeclaredFacts(False, 8, 1500, 3675, 73, 31_999, 4)
    made_up = DeclaredFacts(True, 4, 300, 2000, 4.3, 162, 4)
    names = ("history_decay", "lora_modules", "rank", "temperature", "learning_rate")

    def found(facts):
        return tuple(choose(facts)[name].value for name in names)

    assert found(games) == (0.65, "projection", 64, 0.3, 0.06)
    assert found(industrial) == (0.65, "projection", 32, 0.2, 0.03)
    assert found(made_up) == (1.0, "output.dense", 16, 0.1, 0.003)


@given(ANY, st.floats(1, 1e3))
def test_who_is_heard_better_never_trains_less(facts, times):
    more = replace(facts, size_bracket=math.ceil(facts.size_bracket * times))
    assert choose(more)["rank"].value >= choose(facts)["rank"].value
