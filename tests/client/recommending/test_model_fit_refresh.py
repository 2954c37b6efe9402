"""A shop takes a fresh season into its model without a fit, and nothing that calls itself one."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from client.recommending import model_fit
from client.recommending.cli import app
from client.recommending.model_fit import fit_and_keep, fit_shop_model, refreshed_model
from client.recommending.model_history import source_of
from client.recommending.shop_model import load_shop_model, save_shop_model
from client.shop.dataset import load_merchant_data, save_merchant_data
from client.shop.splitting import SplitRule
from common.audit.layout import PUBLIC_KEY, RELEASE
from common.errors import ReleaseError
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from tests.support.forging import Forger, export
from tests.support.refreshed_runs import RefreshedRun, give_another_adapter, honest_then_refreshed
from tests.support.shops import DAY


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def runs(tiny_bert, cache, tmp_path_factory):
    """A run whose season ends after all that a shop fits by, and a refresh of it."""
    root = tmp_path_factory.mktemp("runs")
    ends = {"season_ends": "1971-01-01"}
    return honest_then_refreshed(
        root, tiny_bert, cache, asked={"season_ends": "1971-02-01"}, shoppers=40, **ends
    )


@pytest.fixture
def fitted(runs, cache, tmp_path):
    """A shop's folder, its models' folder with one of the training's release, and the key."""
    earlier, _ = runs
    shop = tmp_path / "shop"
    save_merchant_data(load_merchant_data(earlier.folders[0]), shop)
    key, folder = earlier.out / PUBLIC_KEY, tmp_path / "model"
    made = fit_and_keep(earlier.out / RELEASE, key, shop, folder, cache)
    assert not made.season_alone
    return shop, folder, key


def refuse_to_fit(monkeypatch):
    def fitted_anew(*_, **__):
        raise AssertionError("The shop was fitted anew.")

    monkeypatch.setattr(model_fit, "fit_shop_model", fitted_anew)


def test_what_comes_of_it_is_what_a_fit_would_have_come_to(
    runs, fitted, cache, tmp_path, monkeypatch
):
    """To the bit, as no season was known in the periods that the weights were fitted on."""
    shop, folder, key = fitted
    before = load_shop_model(folder)
    place = runs[1].out / RELEASE
    release = verify_release(place, PublicKey.load(key))
    whole = fit_shop_model(
        release, load_merchant_data(shop), cache, source=source_of(release, shop)
    )
    expected = save_shop_model(whole, tmp_path / "whole")
    refuse_to_fit(monkeypatch)
    made = fit_and_keep(place, key, shop, folder, cache)
    assert made.season_alone
    assert made.release == release.manifest.version
    assert made.digest == expected
    after = load_shop_model(folder)
    assert after.source.release_digest == release.manifest.digest
    old, new = before.ranker.season, after.ranker.season
    assert not np.array_equal(old.federated.scores, new.federated.scores)
    np.testing.assert_array_equal(old.own.scores, new.own.scores)
    assert made.season_counts == new.federated.reliability


def test_somebody_who_fits_is_told_how_much_of_the_season_counts(runs, fitted, cache):
    shop, folder, key = fitted
    made = fit_and_keep(runs[0].out / RELEASE, key, shop, folder, cache)
    asked = ["--release", runs[0].out / RELEASE, "--key", key, "--shop", shop, "--model", folder]
    told = CliRunner().invoke(app, ["fit", *map(str, asked), "--cache", str(cache)])
    assert told.exit_code == 0
    assert f"The release's season counts {made.season_counts:.0%}:" in told.stdout


def test_a_shop_without_a_clock_takes_no_season_of_anybody(runs, cache, tmp_path):
    earlier, later = runs
    shop, key, folder = tmp_path / "shop", earlier.out / PUBLIC_KEY, tmp_path / "model"
    data = load_merchant_data(earlier.folders[0])
    untimed = replace(data.interactions, timed=False)
    save_merchant_data(
        replace(data, interactions=untimed, split_rule=SplitRule("leave_last_out")), shop
    )
    fit_and_keep(earlier.out / RELEASE, key, shop, folder, cache)
    assert fit_and_keep(later.out / RELEASE, key, shop, folder, cache).season_alone
    assert not load_shop_model(folder).ranker.season.federated.scores.any()


def test_a_refresh_that_is_stale_by_the_shops_last_sale_counts_less(runs, fitted, monkeypatch):
    """The season ends a half-life before the shop's last sale."""
    _, folder, key = fitted
    place, trusted = runs[1].out / RELEASE, PublicKey.load(key)
    release, model = verify_release(place, trusted), load_shop_model(folder)
    last = int(model.purchases.time.max())
    counts = {}
    for days in (0, 15):
        season = replace(release.season, ends=(last - days * DAY,), noise_std=0.0)
        monkeypatch.setattr(type(release), "season", property(lambda _, it=season: it))
        found = refreshed_model(release, place, trusted, model.source, folder)
        counts[days] = found.ranker.season.federated.reliability
    assert counts == {0: 1.0, 15: pytest.approx(0.5)}


def test_a_later_refresh_is_taken_by_a_model_of_an_earlier_one(
    runs, fitted, cache, tmp_path, monkeypatch
):
    """The parent of both is the training; one may be left out."""
    shop, folder, key = fitted
    later = RefreshedRun(tmp_path / "later", runs[0], of=runs[1].out, season_ends="1971-03-01")
    later.export(later.refresh())
    refuse_to_fit(monkeypatch)
    for place in (runs[1].out, later.out):
        assert fit_and_keep(place / RELEASE, key, shop, folder, cache).season_alone


def test_new_purchases_are_fitted(runs, fitted, cache):
    shop, folder, key = fitted
    data = load_merchant_data(shop)
    fewer = data.interactions.where(np.arange(len(data.interactions)) > 0)
    save_merchant_data(replace(data, interactions=fewer), shop)
    assert not fit_and_keep(runs[1].out / RELEASE, key, shop, folder, cache).season_alone


def test_a_shop_that_was_never_fitted_is(runs, cache, tmp_path):
    earlier, later = runs
    key, folder = earlier.out / PUBLIC_KEY, tmp_path / "model"
    made = fit_and_keep(later.out / RELEASE, key, earlier.folders[0], folder, cache)
    assert not made.season_alone


@pytest.mark.attack
def test_another_adapter_in_a_refresh_is_not_taken(runs, fitted, cache, tmp_path):
    """Signed by the operator; the model's own release says what the parent's is."""
    shop, folder, key = fitted
    forger = Forger(runs[0].out, export(runs[1].out, tmp_path / "forged"))
    give_another_adapter(forger)
    before = load_shop_model(folder).digest
    with pytest.raises(ReleaseError, match="is not the parent's"):
        fit_and_keep(forger.folder / RELEASE, key, shop, folder, cache)
    assert load_shop_model(folder).digest == before


def test_a_model_of_another_training_is_fitted_anew(runs, fitted, cache, tmp_path):
    """An operator has trained twice, and refreshes the other: that is no fraud."""
    shop, folder, key = fitted
    forger = Forger(runs[0].out, export(runs[0].out, tmp_path / "other"))
    give_another_adapter(forger)
    fit_and_keep(forger.folder / RELEASE, key, shop, folder, cache)
    assert not fit_and_keep(runs[1].out / RELEASE, key, shop, folder, cache).season_alone


def test_a_model_whose_release_is_gone_is_fitted(runs, fitted, cache):
    shop, folder, key = fitted
    for kept in folder.glob("release-*"):
        shutil.rmtree(kept)
    assert not fit_and_keep(runs[1].out / RELEASE, key, shop, folder, cache).season_alone
