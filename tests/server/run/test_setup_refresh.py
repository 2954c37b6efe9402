"""A refresh is opened on its parent's model, whatever the catalogue is now, or not at all."""

import shutil

import pytest

from common.audit.layout import PUBLIC_KEY, RELEASE
from common.catalogue import Catalogue, Item, read_catalogue, write_catalogue
from common.encoder.release_files import released_model
from common.errors import ReleaseError, SettingsError
from common.identity.signing_key import PublicKey
from common.release.manifest import MANIFEST_FILE
from common.release.verify import verify_release
from common.settings.refresh import refreshed_settings
from server.run.files import CATALOGUE_FILE
from server.run.setup import open_run


@pytest.fixture
def parent(simulated):
    return verify_release(simulated / RELEASE, PublicKey.load(simulated / PUBLIC_KEY))


@pytest.fixture
def config(simulated, parent, tmp_path):
    """What a server starts a refresh with; an item has come to the catalogue since."""
    manifest = parent.manifest
    asked = {"season_ends": "2030-01-01", "epsilon": 0.5}
    settings = refreshed_settings(dict(manifest.adapter.settings), manifest.digest, asked)
    before = read_catalogue(simulated / "merchants" / CATALOGUE_FILE)
    grown = Catalogue((*before.items, Item("new", "brass lamp", "brass lamp")))
    write_catalogue(grown, tmp_path / "catalogue.jsonl")
    return {
        **settings.to_flat(),
        "catalogue": str(tmp_path / "catalogue.jsonl"),
        "parent": str(simulated / RELEASE),
        "cache": str(simulated.parent / "cache"),
    }


def test_adapter_and_basis_are_the_parents_though_the_catalogue_has_grown(config, parent):
    setup, model = open_run(config), released_model(parent)
    assert setup.adapter.digest == parent.manifest.adapter.digest == setup.kept_adapter
    assert setup.basis == model.basis.to_bytes() == parent.files["basis.safetensors"]
    assert (setup.plan.rounds, setup.plan.takes_season) == (0, True)
    assert setup.season_size == model.basis.vector_width


@pytest.mark.attack
@pytest.mark.parametrize(
    ("changes", "field"),
    [({"history_decay": 0.3}, "history_decay"), ({"refresh_of": "0" * 64}, "release")],
)
def test_another_release_or_other_settings_as_the_parents_open_nothing(config, changes, field):
    with pytest.raises(ReleaseError) as caught:
        open_run({**config, **changes})
    assert caught.value.field == field


def test_other_weights_of_the_base_model_open_nothing(config, monkeypatch):
    """The adapter is for those of its training, whatever lies under the model's name by now."""
    monkeypatch.setattr("server.run.setup.base_model_digest", lambda *_: "ab" * 32)
    with pytest.raises(ReleaseError) as caught:
        open_run(config)
    assert caught.value.field == "base_model"


@pytest.mark.attack
def test_a_parent_that_was_altered_opens_nothing(config, simulated, tmp_path):
    place = shutil.copytree(simulated / RELEASE, tmp_path / "altered")
    content = (place / MANIFEST_FILE).read_bytes()
    (place / MANIFEST_FILE).write_bytes(content.replace(b'"rank":3', b'"rank":4'))
    with pytest.raises(ReleaseError):
        open_run({**config, "parent": str(place)})


def test_without_a_parent_there_is_nothing_to_refresh(config):
    del config["parent"]
    with pytest.raises(SettingsError) as caught:
        open_run(config)
    assert caught.value.field == "parent"
