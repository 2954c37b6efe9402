"""A node's season: paid for first, a shopper's row alone, dates from the settings, noise on all."""

from dataclasses import replace

import numpy as np
import pytest

from client.node.season import season_sum
from client.privacy.policy import Policy
from client.ranking.season import SeasonWindows, season_rows
from common.encoder.catalogue_encoder import encode_catalogue
from common.errors import BudgetError, FederationError, PolicyError
from common.settings.run import RunSettings
from common.wire.messages import encode_plan_request
from common.wire.season import SEASON, decode_season
from tests.client.node.test_participant import Shop, entries, ground, opened_work, plan_of
from tests.client.node.test_participant_before_charge import unread_work
from tests.support.shops import DAY, make_interactions

__all__ = ["ground"]  # a fixture

PLAN = plan_of(season_noise_multiplier=2.0)
ENDS = {"season_ends": "1970-10-01,1970-11-01"}


def seasonal(settings):
    return RunSettings.from_flat({**settings.to_flat(), **ENDS})


@pytest.fixture
def work(ground, tmp_path):
    settings, _, basis, _ = ground
    opened = opened_work(ground, tmp_path)
    opened.prepare(basis.to_bytes(), seasonal(settings).to_flat())
    return opened


# ------------------------------------------------------------------- the sum
def rows_of(interactions, vectors, ends):
    return season_rows(interactions, vectors, SeasonWindows(ends))


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_each_row_is_clipped_over_all_ends_together_and_added(monkeypatch, block):
    """Against a loop over shoppers in float64, whatever the blocks are."""
    monkeypatch.setattr("client.node.season._BLOCK_SHOPPERS", block)
    interactions, ends = make_interactions(20, 12), (200 * DAY, 300 * DAY)
    vectors = np.random.default_rng(1).normal(size=(20, 6)).astype(np.float32) * 40
    expected = np.zeros(12)
    for row in rows_of(interactions, vectors, ends).astype(np.float64):
        expected += row / max(np.linalg.norm(row), 1.0)
    found = season_sum(interactions, vectors, ends, PLAN)
    np.testing.assert_allclose(found.vector, expected, atol=1e-6)
    assert found.max_grad_norm == 1.0


def test_one_shopper_moves_the_sum_by_its_own_clipped_row_to_the_bit():
    interactions, ends = make_interactions(20, 12), (250 * DAY,)
    vectors = np.random.default_rng(2).normal(size=(20, 6)).astype(np.float32) * 40
    whole = season_sum(interactions, vectors, ends, PLAN).vector
    norms = []
    for shopper in range(12):
        kept = np.delete(np.arange(12), shopper)
        less = season_sum(interactions.only_shoppers(kept), vectors, ends, PLAN).vector
        own = season_sum(interactions.only_shoppers(np.array([shopper])), vectors, ends, PLAN)
        np.testing.assert_array_equal(whole - less, own.vector)
        norms.append(np.linalg.norm(own.vector))
    assert 0.9 < max(norms) <= 1


def test_purchases_without_a_clock_and_nobodys_come_to_zero():
    vectors = np.ones((20, 6), np.float32)
    untimed = replace(make_interactions(20, 12), timed=False)
    nobody = make_interactions(20, 3).only_shoppers(np.empty(0, np.int64))
    for interactions in (untimed, nobody):
        found = season_sum(interactions, vectors, (DAY, 2 * DAY), PLAN).vector
        assert found.shape == (12,)
        assert not found.any()


def test_a_purchase_after_the_end_is_in_no_season():
    """The end is the settings'; what a shop sells later moves nothing."""
    interactions, end = make_interactions(20, 12), 180 * DAY
    vectors = np.random.default_rng(3).normal(size=(20, 6)).astype(np.float32)
    before = interactions.where(interactions.time < end)
    np.testing.assert_array_equal(
        season_sum(interactions, vectors, (end,), PLAN).vector,
        season_sum(before, vectors, (end,), PLAN).vector,
    )


# ---------------------------------------------------------------- the charge
def test_a_season_is_charged_and_noised_by_the_plan(work, ground):
    vector = work.season(PLAN, 1)
    assert entries(work) == [("season", 0)]
    charged = [entry for entry in work._ledger.entries() if entry.kind == "season"]
    assert [entry.event for entry in charged] == [PLAN.event("season")]
    settings, data, basis, _ = ground
    encoded = encode_catalogue(data.catalogue, basis, settings, work._node.cache)
    ends = seasonal(settings).season_moments
    bare = season_sum(data.interactions, encoded.vectors, ends, PLAN).vector
    assert vector.shape == (2 * basis.vector_width,) == bare.shape
    assert np.std(vector - bare) == pytest.approx(2.0, rel=0.3)
    np.testing.assert_array_equal(work.season(PLAN, 1), vector)  # seeded: a stream of its own
    assert entries(work) == [("season", 0), ("season", 0)]  # and a repeat is paid again


def test_no_shopper_is_read_before_the_charge(ground, tmp_path):
    work, basis, settings = unread_work(ground, tmp_path)
    work.prepare(basis, {**settings, **ENDS})
    work._policy = replace(work._policy, allow_season=False)
    with pytest.raises(PolicyError) as caught:
        work.season(PLAN, 1)
    assert caught.value.public() == "policy:allow_season"
    assert entries(work) == []
    work._policy = replace(work._policy, allow_season=True)
    work.season(PLAN, 1)
    assert entries(work) == [("season", 0)]


def test_what_is_no_season_of_the_run_costs_nothing(work, ground):
    settings, _, basis, _ = ground
    work._policy = Policy(delta=1e-3, allow_seeded_noise=True, max_epsilon=0.01)
    with pytest.raises(BudgetError):
        work.season(PLAN, 1)
    work.prepare(basis.to_bytes(), settings.to_flat())  # no end is named
    with pytest.raises(FederationError) as caught:
        work.season(PLAN, 1)
    assert caught.value.public() == "federation:season_ends"
    assert entries(work) == []


def test_a_policy_without_a_season_still_lets_the_rest_through(work, ground):
    work._policy = replace(work._policy, allow_season=False)
    work.popularity(PLAN, 1, 0)
    work.train(ground[3], None, PLAN, 1, 1)
    assert entries(work) == [("popularity", 0), ("train", 1)]


# --------------------------------------------------------------- the message
def test_the_message_is_answered_once_and_only_by_a_prepared_node(ground, tmp_path):
    settings, data, basis, _ = ground
    shop = Shop(tmp_path / "ash", data, seasonal(settings), basis)
    content = encode_plan_request(PLAN.digest)
    assert shop.ask(SEASON, content).error.reason == "federation:prepare"
    shop.answers(PLAN, None, rounds=())
    other = plan_of(season_noise_multiplier=3.0)
    reply = shop.ask(SEASON, encode_plan_request(other.digest))
    assert reply.error.reason == "federation:plan_digest"
    reply = shop.ask(SEASON, content)
    vector = decode_season(reply.content, 2 * basis.vector_width, PLAN.digest)
    assert np.std(vector) > 1


def test_a_plan_that_takes_no_season_pays_for_none(ground, tmp_path):
    settings, data, basis, _ = ground
    shop = Shop(tmp_path / "ash", data, seasonal(settings), basis)
    plan = plan_of()
    shop.answers(plan, None, rounds=())
    reply = shop.ask(SEASON, encode_plan_request(plan.digest))
    assert reply.error.reason == "settings:season_noise_multiplier"


def test_a_shop_without_a_clock_answers_like_any_other(ground, tmp_path):
    """After its charge: whether its purchases carry times is told by nothing but the noise."""
    settings, data, basis, _ = ground
    rule = replace(data.split_rule, kind="leave_last_out")
    untimed = replace(data, interactions=replace(data.interactions, timed=False), split_rule=rule)
    sizes = []
    for name, one in (("timed", data), ("untimed", untimed)):
        shop = Shop(tmp_path / name / "ash", one, seasonal(settings), basis)
        shop.answers(PLAN, None, rounds=())
        reply = shop.ask(SEASON, encode_plan_request(PLAN.digest))
        sizes.append(reply.content["season"]["season"].numpy().shape)
    assert sizes[0] == sizes[1] == (2 * basis.vector_width,)
