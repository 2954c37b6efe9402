"""Ranking with a release, and the base model that it was trained with."""

import pytest

from client.ranking.released_vectors import released_vectors
from common.encoder.catalogue_encoder import forget_base_models
from common.errors import ReleaseError
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from tests.support.shops import make_catalogue


@pytest.fixture(scope="module")
def release(simulated):
    return verify_release(simulated / "release", PublicKey.load(simulated / "operator.pub"))


def test_another_base_model_is_refused(release, tmp_path, monkeypatch):
    monkeypatch.setattr("client.ranking.released_vectors.base_model_digest", lambda *_: "0" * 64)
    with pytest.raises(ReleaseError) as caught:
        released_vectors(release, make_catalogue(8), tmp_path)
    assert caught.value.field == "base_model"


def test_a_catalogue_that_was_encoded_before_needs_no_base_model(release, tmp_path, monkeypatch):
    catalogue = make_catalogue(8)
    before = released_vectors(release, catalogue, tmp_path)
    forget_base_models()
    monkeypatch.setattr("common.encoder.catalogue_encoder.load_base_model", pytest.fail)
    again = released_vectors(release, catalogue, tmp_path)
    assert (again.adapted == before.adapted).all()
    assert (again.frozen == before.frozen).all()
