"""What is let through is more than a run's largest honest message, and not much more."""

import pytest

from common.settings.run import RunSettings
from server.operations.door.limits import (
    BESIDE_BYTES,
    FLOWERS_PIECE,
    largest_piece,
    no_run_yet,
)


def test_the_default_run_needs_little():
    assert no_run_yet() < largest_piece(RunSettings(), 10_000) < 600_000


@pytest.mark.parametrize("items", [0, 1, 1000, 100_000])
def test_keys_of_all_items_fit(items):
    assert largest_piece(RunSettings(), items) > min(8 * items, FLOWERS_PIECE)


def test_a_large_catalogue_is_cut_by_flower():
    settings = RunSettings(audit_canaries=0)
    assert largest_piece(settings, 10**8) == FLOWERS_PIECE + BESIDE_BYTES


def test_revealed_canaries_are_one_piece_whatever_their_size():
    settings = RunSettings(audit_canaries=65_536, rounds=200)
    assert largest_piece(settings, 10) > 4 * 65_536 * 200


@pytest.mark.parametrize("modules", ["output.dense", "query,value", "projection,output.dense"])
@pytest.mark.parametrize("variant", ["ffa-lora", "lora"])
def test_an_update_of_a_small_bert_fits(modules, variant, tiny_bert):
    """The bound is from the settings alone; here it is held to a real adapter's size."""
    from common.encoder.adapted_encoder import AdaptedEncoder
    from common.encoder.base_model import load_base_model
    from common.encoder.catalogue_encoder import fit_public_basis
    from tests.support.shops import make_catalogue

    settings = RunSettings(
        base_model=str(tiny_bert), rank=3, lora=variant, lora_modules=modules, max_tokens=24
    )
    catalogue = make_catalogue(20, 0)
    basis = fit_public_basis(catalogue, settings, tiny_bert.parent / "cache")
    model = load_base_model(str(tiny_bert))
    size = AdaptedEncoder(model, basis, settings.lora_targets).adapter().size
    assert largest_piece(settings, 20) > 4 * size
