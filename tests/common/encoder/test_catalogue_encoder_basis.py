"""What is kept on disk of a catalogue is what would be computed anew."""

import pytest

from common.catalogue import Catalogue, Item
from common.encoder import catalogue_encoder
from common.encoder.catalogue_encoder import fit_public_basis
from tests.support.shops import make_catalogue, make_settings


@pytest.fixture
def settings(tiny_bert):
    return make_settings(base_model=str(tiny_bert))


def fits(monkeypatch):
    """Count how often a basis is fitted from here on."""
    counted, fit = [], catalogue_encoder.fit_basis
    monkeypatch.setattr(
        catalogue_encoder, "fit_basis", lambda *a, **k: counted.append(1) or fit(*a, **k)
    )
    return counted


def renamed(catalogue):
    return Catalogue(
        tuple(
            Item(f"other-{place}", one.title, one.text) for place, one in enumerate(catalogue.items)
        )
    )


def test_a_basis_is_fitted_once_for_the_same_texts(settings, tmp_path, monkeypatch):
    counted, catalogue = fits(monkeypatch), make_catalogue(12)
    first = fit_public_basis(catalogue, settings, tmp_path)
    again = fit_public_basis(renamed(catalogue), settings, tmp_path)
    assert len(counted) == 1
    assert again.digest == first.digest
    assert fit_public_basis(catalogue, settings, tmp_path / "other").digest == first.digest
    assert len(counted) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 2},
        {"whitening_power": 0.5},
        {"sif_smoothing": 0.3},
        {"lexical_weight": 0.2},
        {"max_tokens": 12},
        {"last_layers": 2},
    ],
)
def test_another_setting_has_another_basis(settings, tmp_path, monkeypatch, change):
    counted, catalogue = fits(monkeypatch), make_catalogue(12)
    fit_public_basis(catalogue, settings, tmp_path)
    other = settings.model_copy(update=change)
    kept = fit_public_basis(catalogue, other, tmp_path)
    assert len(counted) == 2
    assert kept.digest == fit_public_basis(catalogue, other, tmp_path / "alone").digest


def test_other_texts_order_or_code_have_another_basis(settings, tmp_path, monkeypatch):
    counted, catalogue = fits(monkeypatch), make_catalogue(12)
    fit_public_basis(catalogue, settings, tmp_path)
    fit_public_basis(catalogue.take(range(11, -1, -1)), settings, tmp_path)
    fit_public_basis(make_catalogue(12, seed=1), settings, tmp_path)
    assert len(counted) == 3
    monkeypatch.setattr(catalogue_encoder, "_code_digest", lambda: "changed")
    fit_public_basis(catalogue, settings, tmp_path)
    assert len(counted) == 4


def test_a_broken_file_is_made_anew(settings, tmp_path, monkeypatch):
    catalogue = make_catalogue(12)
    first = fit_public_basis(catalogue, settings, tmp_path)
    [path] = tmp_path.glob("basis-*.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    counted = fits(monkeypatch)
    assert fit_public_basis(catalogue, settings, tmp_path).digest == first.digest
    assert len(counted) == 1
