"""Where gradients are clipped and noised: B = S C."""

import copy

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from client.training.losses import Candidates, shopper_losses
from client.training.shopper_gradients import pool_rows
from common.encoder.adapted_encoder import AdaptedEncoder
from tests.support.shops import (
    make_catalogue,
    make_interactions,
    make_settings,
    make_workshop,
    random_adapter,
)


def test_the_frame_is_public_undoes_the_whitening_and_keeps_norms_on_average(workshop):
    shop = workshop("every module of 2 layers")
    frames = {name: shop.encoder.noise_basis(name) for name, _ in shop.encoder.trained()}
    [(name, frame)] = [(name, one) for name, one in frames.items() if one is not None]
    assert name == "base_model.model.encoder.layer.2.output.dense.lora_B.weight"
    scale = shop.model.layers[-1].output.LayerNorm.weight.detach()
    flat = torch.from_numpy(shop.basis.whitening.T) @ (scale[:, None] * frame)
    flat = flat / flat[:, 0].norm()
    assert torch.allclose(flat.T @ flat, torch.eye(32), atol=1e-4)
    assert float(frame.square().sum()) == pytest.approx(32, rel=1e-4)
    shop.encoder.load_adapter(random_adapter(shop.encoder, seed=3))
    assert torch.equal(shop.encoder.noise_basis(name), frame)  # it is the basis' alone


def test_few_directions_are_those_in_which_whitened_text_varies_most(workshop):
    """The first columns of the whole frame, by the variance of the catalogue itself."""
    whole, few = workshop(), workshop("few directions")
    [(name, _)] = few.encoder.trained()
    frame = few.encoder.noise_basis(name)
    assert torch.equal(frame, whole.encoder.noise_basis(name)[:, :5])
    scale = few.model.layers[-1].output.LayerNorm.weight.detach()
    written = torch.from_numpy(few.basis.whitening.T) @ (scale[:, None] * frame)
    varies = whole.merchant.vectors[:, : len(written)] @ normalize(written, dim=0)
    others = torch.linalg.svdvals(written)
    assert varies.var(dim=0).min() > whole.merchant.vectors.var(dim=0).mean()
    assert torch.allclose(others, others[0].expand(5), rtol=1e-4)


def test_a_coordinate_that_layer_norm_switched_off_is_left_alone(tiny_model):
    """Its inverse would be without bound, and drown all others."""
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.layers[-1].output.LayerNorm.weight[3] = 1e-30
    shop = make_workshop(model, make_catalogue(20), make_interactions(20, 9), make_settings())
    [(name, _)] = shop.encoder.trained()
    frame = shop.encoder.noise_basis(name)
    assert torch.isfinite(frame).all()
    assert not frame[3].any()
    assert (frame.norm(dim=1) > 1e-3).sum() == len(frame) - 1


@pytest.mark.parametrize(
    "lora_targets", ["output.dense", "few directions", "plain output.dense", "q,v"]
)
def test_a_projected_gradient_is_that_of_c_where_b_is_s_times_c(workshop, lora_targets):
    """By autograd: B = S C is made by hand, and a step on C is the step that is sent for B."""
    shop = workshop(lora_targets)
    batch, negatives = shop.examples.draw(np.arange(12), 5), torch.arange(40)
    encoder = AdaptedEncoder(shop.model, shop.basis, shop.settings.lora_targets)
    encoder.load_adapter(random_adapter(encoder))
    names = [name for name, _ in encoder.trained()]
    frames = [encoder.noise_basis(name) for name in names]
    inner = [
        (one.detach() if frame is None else torch.linalg.pinv(frame) @ one.detach())
        .clone()
        .requires_grad_()
        for (_, one), frame in zip(encoder.trained(), frames, strict=True)
    ]
    outer = [
        one if frame is None else frame @ one for one, frame in zip(inner, frames, strict=True)
    ]
    by_place = {id(one): name for name, one in encoder.named_parameters()}
    given = {by_place[id(one)]: new for (_, one), new in zip(encoder.trained(), outer, strict=True)}
    rows = torch.func.functional_call(encoder, given, shop.tokens.rows(batch.history_item))
    candidates = Candidates(shop.merchant.vectors, shop.merchant.log_popularity, negatives)
    loss = shopper_losses(pool_rows(rows, batch), batch, candidates, shop.settings).sum()
    expected = torch.cat([one.ravel() for one in torch.autograd.grad(loss, inner)])
    before = shop.encoder.adapter()
    with torch.no_grad():  # a random B may lie outside the directions; S C does not
        shop.encoder.load_adapter(
            before.with_vector(torch.cat([one.ravel() for one in outer]).numpy())
        )
    found = shop.trainer.projected(shop.trainer.shopper_gradients(batch, candidates)).sum(dim=0)
    shop.encoder.load_adapter(before)
    assert (found - expected).norm() < 1e-3 * expected.norm()
    step = shop.trainer._unframed(expected.double().numpy())
    pieces = np.split(step, np.cumsum([one.numel() for one in outer])[:-1])
    with torch.no_grad():
        for piece, one, frame, old in zip(pieces, inner, frames, outer, strict=True):
            gradient = expected[: one.numel()].reshape(one.shape)
            expected = expected[one.numel() :]
            moved = one - gradient if frame is None else frame @ (one - gradient)
            assert np.allclose(moved, old - torch.from_numpy(piece).reshape(old.shape), atol=1e-3)
