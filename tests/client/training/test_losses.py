import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_softmax

from client.training.examples import ExampleBatch
from client.training.losses import Candidates, shopper_losses
from tests.support.shops import make_settings

ITEMS, WIDTH = 25, 6
OBJECTIVES = ("softmax", "bce", "mse")


@st.composite
def cases(draw):
    """Unit embeddings, targets by shopper, values, and candidates."""
    seed = draw(st.integers(0, 10_000))
    random = np.random.default_rng(seed)
    counts = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5))
    targets = [random.choice(ITEMS, count, replace=False) for count in counts]
    values = random.choice([-1.0, 0.0, 0.5, 1.0, 3.0, 5.0, 9.0], sum(counts))
    batch = ExampleBatch(
        shoppers=len(counts),
        history_item=np.empty(0, np.int64),
        history_shopper=np.empty(0, np.int64),
        history_weight=np.empty(0, np.float32),
        target_item=np.concatenate([np.empty(0, np.int64), *targets]).astype(np.int64),
        target_shopper=np.repeat(np.arange(len(counts)), counts),
        target_value=values.astype(np.float32),
    )
    embedding = unit(random.normal(size=(len(counts), WIDTH)))
    negatives = random.choice(ITEMS, draw(st.integers(1, ITEMS)), replace=False)
    candidates = Candidates(
        torch.from_numpy(unit(random.normal(size=(ITEMS, WIDTH)))),
        torch.from_numpy(random.normal(-4, 2, ITEMS).astype(np.float32)),
        torch.from_numpy(negatives),
    )
    return embedding, batch, candidates


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def by_hand(embedding, batch, candidates, settings, shopper):
    """The definition, target by target, in numpy."""
    vectors = candidates.vectors.numpy().astype(float)
    adjust = settings.popularity_strength * candidates.log_popularity.numpy().astype(float)
    negatives = candidates.negatives.numpy()
    losses = []
    for row in np.flatnonzero(batch.target_shopper == shopper):
        item, value = batch.target_item[row], float(batch.target_value[row])
        similarity = float(vectors[item] @ embedding[shopper].astype(float))
        if settings.objective == "mse":
            low, high = settings.value_low, settings.value_high
            losses.append((similarity - np.clip((value - low) / (high - low), 0, 1)) ** 2)
            continue
        others = negatives[negatives != item]
        scores = vectors @ embedding[shopper].astype(float) / settings.temperature + adjust
        if settings.objective == "softmax":
            losses.append(-log_softmax(np.concatenate([[scores[item]], scores[others]]))[0])
        else:
            label, chance = np.clip(value, 0, 1), expit(scores[item])
            own = -label * np.log(chance) - (1 - label) * np.log1p(-chance)
            passed = -np.log1p(-expit(scores[others])).sum() / max(len(others), 1)
            losses.append(own + passed)
    return np.mean(losses) if losses else 0.0


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(case=cases())
def test_each_loss_is_its_definition(objective, case):
    embedding, batch, candidates = case
    settings = make_settings(objective=objective, temperature=0.3, value_low=1.0)
    found = shopper_losses(torch.from_numpy(embedding), batch, candidates, settings)
    assert found.shape == (batch.shoppers,)
    for shopper in range(batch.shoppers):
        expected = by_hand(embedding, batch, candidates, settings, shopper)
        assert float(found[shopper]) == pytest.approx(expected, rel=2e-4, abs=2e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(case=cases())
def test_no_loss_depends_on_another_shopper(objective, case):
    embedding, batch, candidates = case
    settings = make_settings(objective=objective)
    tensor = torch.from_numpy(embedding).requires_grad_()
    losses = shopper_losses(tensor, batch, candidates, settings)
    for shopper in range(batch.shoppers):
        if not losses.requires_grad:
            return
        [gradient] = torch.autograd.grad(losses[shopper], tensor, retain_graph=True)
        others = torch.arange(batch.shoppers) != shopper
        assert not gradient[others].any()
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_shopper_without_target_has_loss_zero(objective):
    embedding, batch, candidates = torch.eye(3, WIDTH), empty_batch(3), some_candidates()
    settings = make_settings(objective=objective)
    assert shopper_losses(embedding, batch, candidates, settings).tolist() == [0, 0, 0]


def empty_batch(shoppers):
    none, numbers = np.empty(0, np.int64), np.empty(0, np.float32)
    return ExampleBatch(shoppers, none, none, numbers, none, none, numbers)


def some_candidates():
    return Candidates(
        torch.eye(ITEMS, WIDTH), torch.zeros(ITEMS), torch.arange(ITEMS, dtype=torch.int64)
    )


@pytest.mark.parametrize("objective", ["softmax", "bce"])
def test_an_only_negative_that_is_the_target_leaves_a_finite_loss(objective):
    batch = empty_batch(1)
    batch = ExampleBatch(
        1,
        batch.history_item,
        batch.history_shopper,
        batch.history_weight,
        np.array([2]),
        np.array([0]),
        np.ones(1, np.float32),
    )
    candidates = Candidates(torch.eye(ITEMS, WIDTH), torch.zeros(ITEMS), torch.tensor([2]))
    embedding = torch.eye(1, WIDTH, requires_grad=True)
    loss = shopper_losses(embedding, batch, candidates, make_settings(objective=objective))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(embedding.grad).all()


def test_the_logit_adjustment_makes_a_rare_target_pull_harder():
    """Menon et al. 2021: with the same similarity, a rare target has the larger loss."""
    batch = empty_batch(2)
    batch = ExampleBatch(
        2,
        batch.history_item,
        batch.history_shopper,
        batch.history_weight,
        np.array([0, 1]),
        np.array([0, 1]),
        np.ones(2, np.float32),
    )
    popularity = torch.full((ITEMS,), -3.0)
    popularity[0], popularity[1] = -1.0, -9.0
    vectors = torch.zeros(ITEMS, WIDTH)
    candidates = Candidates(vectors, popularity, torch.arange(2, ITEMS))
    embedding = torch.eye(1, WIDTH).repeat(2, 1)
    common, rare = shopper_losses(embedding, batch, candidates, make_settings()).tolist()
    assert rare > common
    plain = shopper_losses(embedding, batch, candidates, make_settings(popularity_strength=0.0))
    assert plain[0] == plain[1]
