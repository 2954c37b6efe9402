import numpy as np
import pytest

from common.catalogue import write_catalogue
from common.encoder.public_basis import PublicBasis
from common.errors import InputError, SettingsError
from common.federation.optimiser import AdamScalar, Sgd
from server.run.files import CATALOGUE_FILE
from server.run.setup import open_run
from tests.support.shops import make_catalogue, make_settings


@pytest.fixture
def federation(tmp_path):
    (tmp_path / "f").mkdir()
    write_catalogue(make_catalogue(25), tmp_path / "f" / CATALOGUE_FILE)
    return tmp_path / "f"


@pytest.fixture
def config(tiny_bert, federation, tmp_path):
    settings = make_settings(base_model=str(tiny_bert)).to_flat()
    return {**settings, "federation": str(federation), "cache": str(tmp_path / "cache")}


def test_a_run_has_all_that_the_strategy_needs(config, tmp_path):
    setup = open_run(
        {
            **config,
            "folder": str(tmp_path / "checkpoints"),
            "learning_rate": 0.25,
            "schedule": "cosine",
            "min_merchants": 2,
            "quorum": 0.75,
            "wait_seconds": 9.0,
            "round_timeout": 11.0,
        }
    )
    assert not setup.adapter.flatten().any()  # B starts at zero: f is the frozen encoder
    assert list(setup.adapter.tensors) == [
        "base_model.model.encoder.layer.2.output.dense.lora_B.weight"
    ]
    assert PublicBasis.from_bytes(setup.basis).mean.shape == (32,)
    assert (setup.plan.rounds, setup.plan.dp_model) == (3, "local")
    assert setup.settings["rank"] == 3
    assert (setup.learning_rate, setup.schedule) == (0.25, "cosine")
    quorum = setup.quorum
    assert (quorum.minimum, quorum.fraction, quorum.wait_seconds) == (2, 0.75, 9.0)
    assert (setup.round_timeout, setup.folder) == (11.0, tmp_path / "checkpoints")


def test_the_step_is_bounded_as_the_settings_say(config):
    setup = open_run({**config, "optimiser": "adam_scalar", "momentum": 0.5, "tau": 0.25})
    assert setup.optimiser == AdamScalar(beta1=0.5, tau=0.25)


def test_places_are_not_sent_to_nodes(config):
    setup = open_run(config)
    assert not {"federation", "cache", "folder", "merchants", "catalogue"} & set(setup.settings)
    assert setup.folder is None


def test_the_catalogues_file_may_be_named_instead_and_hyphens_are_read(config, federation):
    elsewhere = federation / CATALOGUE_FILE
    named = {name.replace("_", "-"): value for name, value in config.items()}
    del named["federation"]
    setup = open_run({**named, "catalogue": str(elsewhere), "federation": ""})
    assert setup.basis == open_run(config).basis


def test_the_first_adapter_of_plain_lora_is_the_basis_and_zero(config):
    setup = open_run({**config, "lora": "lora"})
    basis = PublicBasis.from_bytes(setup.basis)
    by_letter = {name.split(".lora_")[1][0]: one for name, one in setup.adapter.tensors.items()}
    assert np.array_equal(by_letter["A"], next(iter(basis.directions.values())))
    assert not by_letter["B"].any()


def test_central_noise_is_shared_by_as_many_as_are_named(config):
    setup = open_run({**config, "noise": "central", "merchants": 4})
    assert setup.plan.merchants == 4
    alone = open_run({**config, "noise": "central"})
    assert alone.plan.noise_std("train") == pytest.approx(2 * setup.plan.noise_std("train"))


def test_the_optimiser_is_the_one_that_is_named(config):
    assert isinstance(open_run({**config, "optimiser": "sgd"}).optimiser, Sgd)


def test_progress_is_told(config):
    told = []
    open_run(config, lambda done, total: told.append((done, total)))
    assert told[-1] == (25, 25)


@pytest.mark.parametrize("places", [{}, {"federation": "", "catalogue": ""}])
def test_a_run_without_a_catalogue_says_how_to_name_one(config, places):
    del config["federation"]
    with pytest.raises(SettingsError) as caught:
        open_run({**config, **places})
    assert caught.value.field == "catalogue"
    assert "`catalogue`" in str(caught.value)


def test_a_missing_catalogue_is_an_input_error(config, tmp_path):
    with pytest.raises(InputError) as caught:
        open_run({**config, "federation": str(tmp_path / "nowhere")})
    assert caught.value.field == "catalogue"


@pytest.mark.parametrize("value", ["many", "1.5", "0", "-2", 2.5, True])
def test_a_number_of_merchants_that_is_none_is_refused(config, value):
    with pytest.raises(SettingsError) as caught:
        open_run({**config, "merchants": value})
    assert caught.value.field == "merchants"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"learning_rat": 0.1}, "learning_rat"),
        ({"rank": 0}, "rank"),
        ({"rank": 65}, "rank"),
        ({"last_layers": 4}, "last_layers"),
        ({"max_tokens": 65}, "max_tokens"),
        ({"base_model": "/nowhere/at/all"}, "base_model"),
        ({"epsilon": 1e-9}, "epsilon"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(config, change, field):
    with pytest.raises(SettingsError) as caught:
        open_run({**config, **change})
    assert caught.value.field == field
