"""What a simulation's release may not carry: exact figures of a shop's own shoppers."""

from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from common.release.manifest import MetricsRecord
from common.settings.run import RunSettings
from simulations.options import SimulationOptions, sizes_declared
from simulations.pipeline.publish import told_metrics
from simulations.pipeline.records import Beside
from simulations.pipeline.warning_lines import LEARNT, UNTOLD, warnings
from simulations.results.sections import EpsilonCurve

METRICS = {"adapter": {"ndcg@10": 0.123456}, "solo_adapter": {"ndcg@10": 0.1}}


def test_exact_figures_of_a_shops_own_shoppers_are_not_told():
    told = told_metrics("nothing", "Corner shop, 60 shoppers", METRICS)
    assert told.values == {}
    assert "Corner" not in told.model_dump_json()


@pytest.mark.parametrize("measured_on", ["public", "simulated"])
def test_figures_of_public_and_made_up_shoppers_are_told(measured_on):
    told = told_metrics(measured_on, "a data set", METRICS)
    assert told.values == {"adapter": {"ndcg@10": 0.123456}}


def test_figures_measured_on_nothing_are_no_record():
    with pytest.raises(ValidationError, match="measured on nothing"):
        MetricsRecord(measured_on="nothing", data="d", values=METRICS)


def test_data_are_a_shops_own_unless_said_to_be_public(tmp_path):
    assert SimulationOptions(out=tmp_path).measured_on == "simulated"
    assert SimulationOptions(out=tmp_path, data=tmp_path).measured_on == "nothing"
    public = SimulationOptions(out=tmp_path, data=tmp_path, public_data=True)
    assert public.measured_on == "public"


def test_a_curve_over_a_shops_own_shoppers_stays_behind():
    spread = {"ndcg@10": 0.1, "tail_recall@10": 0.04}
    told = {"auc": 0.5, "low": 0.4, "high": 0.6, "advantage": 0.1, "chance": 0.2, "bound": 1.0}
    point = {
        "epsilon": 4.0,
        "metrics": {"adapter": spread, "fused": spread},
        "membership": {**told, "members": 9, "others": 9},
    }
    frozen = {"frozen_text": spread, "fused_frozen": spread}
    beside = Beside(epsilon_curve=EpsilonCurve(held_back=0.2, frozen=frozen, points=(point,)))
    assert beside.files("nothing") == {}
    for measured_on in ("public", "simulated"):
        assert set(beside.files(measured_on)) == {"epsilon-curve.json", "epsilon-curve.svg"}


def test_sizes_are_declared_where_both_were_set():
    assert sizes_declared({"size_bracket": 100, "delta": 1e-5})
    assert not sizes_declared({"size_bracket": 100})
    assert not sizes_declared({"delta": 1e-5})


@pytest.mark.parametrize("public", [True, False])
def test_a_person_is_told_that_results_of_real_shoppers_are_exact(tmp_path, public):
    options = SimulationOptions(out=tmp_path, data=tmp_path, public_data=public)
    told = list(warnings(options, RunSettings(), SimpleNamespace(catalogue_declared=True)))
    assert LEARNT not in told
    assert (UNTOLD in told) is not public
    assert "exactly" in UNTOLD
