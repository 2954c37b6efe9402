"""A release is judged on public shoppers, who are nobody's private ones, and may be refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from client.shop.dataset import save_merchant_data
from common.errors import InputError, ReleaseError
from common.identity.signing_key import PublicKey
from common.release.verify import verify_release
from server.releases.gate import decide_release
from simulations.evaluation import release_gate
from simulations.evaluation.release_gate import check_apart, load_holdout
from simulations.options import SimulationOptions
from simulations.results.schema import load_results
from tests.support.shops import command, make_shop, small_options


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    folder = tmp_path_factory.mktemp("public") / "shop"
    save_merchant_data(make_shop("Open shop", items=50, shoppers=120, seed=5), folder)
    return folder


def part_of(data, rows):
    keep = np.zeros(len(data.interactions), bool)
    keep[rows] = True
    return replace(data, interactions=data.interactions.where(keep))


def always(passed):
    """A decision on arrays that leave no doubt."""

    def decide(release, frozen, *, seed):
        zero = {name: np.zeros(80) for name in frozen}
        one = {name: np.ones(80) for name in frozen}
        return decide_release(*((one, zero) if passed else (zero, one)), seed=seed, resamples=20)

    return decide


# ----------------------------------------------------------------- whose shoppers
def test_private_shoppers_are_no_hold_out():
    private = make_shop(seed=1)
    check_apart(make_shop(seed=2), private)
    for some in (slice(None), [7], slice(3, 9)):
        with pytest.raises(InputError) as caught:
            check_apart(part_of(private, some), private)
        assert caught.value.field == "public_holdout"
        assert "shopper-" not in str(caught.value)


def test_the_same_purchases_under_other_item_ids_are_still_found():
    private = make_shop(seed=1)
    places = np.arange(len(private.catalogue))[::-1]
    rows = replace(private.interactions, item=places[private.interactions.item].astype(np.int32))
    turned = replace(private, catalogue=private.catalogue.take(places), interactions=rows)
    with pytest.raises(InputError):
        check_apart(turned, private)


def test_real_data_has_no_hold_out_unless_it_is_named(tmp_path, public):
    data = make_shop(seed=1)
    real = SimulationOptions(out=tmp_path, data=tmp_path)
    assert load_holdout(real, data, tmp_path) is None
    none = SimulationOptions(out=tmp_path, public_holdout="none")
    assert load_holdout(none, data, tmp_path) is None
    named = replace(real, public_holdout=str(public))
    assert load_holdout(named, data, tmp_path).name == "Open shop"


def test_the_marketplaces_hold_out_is_other_shoppers_of_the_same_items(tmp_path, marketplace):
    options, market = SimulationOptions(out=tmp_path), marketplace
    shop = load_holdout(options, market.data, tmp_path)
    assert len(shop.test_cases) > 500
    assert shop.data.catalogue is market.data.catalogue or (
        shop.data.catalogue.digest == market.data.catalogue.digest
    )
    again = load_holdout(options, market.data, tmp_path)
    assert np.array_equal(again.past.item, shop.past.item)
    # They follow the same vogue: what sells to them is what sells to the private ones.
    ours, theirs = (one.item_counts() for one in (shop.past, market.data.interactions))
    assert spearmanr(ours, theirs).statistic > 0.5


def test_a_hold_out_without_a_test_is_an_error(tmp_path):
    data = make_shop(seed=3)
    nothing = part_of(data, data.interactions.time < data.split_rule.test_from)
    save_merchant_data(nothing, tmp_path / "shop")
    options = SimulationOptions(out=tmp_path, data=tmp_path, public_holdout=str(tmp_path / "shop"))
    with pytest.raises(InputError) as caught:
        load_holdout(options, make_shop(seed=1), tmp_path)
    assert caught.value.field == "public_holdout"


# ------------------------------------------------------------------ what comes of it
def test_a_refused_release_is_not_published_and_the_reason_stands(
    simulated, tiny_bert, tmp_path, public, monkeypatch
):
    shutil.copytree(simulated.parent, tmp_path / "copy")
    out = tmp_path / "copy" / "out"
    assert (out / "release").exists()  # of an earlier run: it must not pass for this one's
    assert load_results(out / "results.json").gate is None
    monkeypatch.setattr(release_gate, "decide_release", always(passed=False))
    arguments = [*small_options(out, tiny_bert), "--public-holdout", str(public)]
    done = command(arguments, out.parent / "cache", page=True)
    assert isinstance(done.exception, ReleaseError)
    assert done.exception.field == "gate"
    assert not (out / "release").exists()
    results = load_results(out / "results.json")
    assert results.release is None
    assert not results.gate.passed
    assert results.gate.reason in str(done.exception)
    assert "refused" in done.output
    assert results.gate.checks[0].metric in (out / "report.html").read_text(encoding="utf-8")
    assert results.metrics["adapter"]["ndcg@10"] is not None  # the research stands


@pytest.fixture(scope="module")
def passed(tiny_bert, tmp_path_factory, public):
    """The folder of a run whose release passed, and what the decision was given."""
    out, seen = tmp_path_factory.mktemp("passed") / "out", {}

    def looking(release, frozen, *, seed):
        seen.update(release=release, frozen=frozen)
        return always(passed=True)(release, frozen, seed=seed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release_gate, "decide_release", looking)
        arguments = [*small_options(out, tiny_bert), "--public-holdout", str(public)]
        assert command(arguments, out.parent / "cache").exception is None
    return out, seen


def test_a_release_that_passes_carries_the_gate_under_its_signature(passed):
    out, _ = passed
    verified = verify_release(out / "release", PublicKey.load(out / "operator.pub"))
    gate = json.loads(verified.files["gate.json"])
    assert gate["passed"]
    assert gate == load_results(out / "results.json").gate.model_dump(mode="json")


def test_the_gate_judges_the_release_and_the_frozen_model_on_the_hold_out(passed, public):
    out, seen = passed
    shop = load_holdout(
        SimulationOptions(out=out, data=out, public_holdout=str(public)), make_shop(seed=1), out
    )
    assert len(seen["release"]["ndcg@10"]) == len(shop.test_cases)
    assert not np.array_equal(seen["release"]["auc"], seen["frozen"]["auc"])


def test_the_private_data_as_hold_out_is_refused_before_anything_is_trained(tiny_bert, tmp_path):
    arguments = small_options(tmp_path / "out", tiny_bert)
    done = command([*arguments, "--public-holdout", str(tmp_path / "shop")], tmp_path / "cache")
    assert isinstance(done.exception, InputError)
    assert done.exception.field == "public_holdout"
    assert not (tmp_path / "out" / "checkpoints").exists()
