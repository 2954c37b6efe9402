"""results.json: what is written is read back, and nothing else is."""

import json
import math
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from rich.console import Console

from common.catalogue import popularity_buckets
from common.errors import InputError
from simulations.report.terminal import best_models, comparison_table, privacy_table
from simulations.results import schema_page
from simulations.results.measures import LOWER_IS_BETTER, METRICS, MODELS, Metric
from simulations.results.schema import (
    PopularityCurve,
    load_results,
    popularity_curve,
    write_results,
)
from tests.support.results_example import (
    example_results,
    examples,
    metrics,
    privacy,
    results_fields,
)

PAGE = Path(__file__).parents[3] / "docs" / "ref-results-schema.md"


@pytest.fixture(scope="module")
def results():
    return example_results()


def printed(table, width=160):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def styled(table):
    console = Console(width=160, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_what_is_written_is_read_back(tmp_path, results):
    write_results(results, tmp_path / "results.json")
    assert load_results(tmp_path / "results.json") == results


def test_the_file_has_the_promised_layout(tmp_path, results):
    write_results(results, tmp_path / "results.json")
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["metrics"]["fused"]["ndcg@10"] == 0.1108
    assert document["rounds"][0]["ndcg@10"] > 0
    assert document["rounds"][0]["tail_recall@10"] > 0
    assert set(document["privacy"]["merchants"]["Little Owl"]["accountants"]) == {
        "pld",
        "prv",
        "rdp",
    }
    required = ["popularity", "local_ease", "frozen_text", "fused_frozen", "solo_adapter"]
    assert set(document["metrics"]) >= {*required, "adapter", "fused"}
    assert set(document["metrics"]["adapter"]) == set(METRICS)


def test_metric_names_agree():
    assert get_args(Metric) == tuple(METRICS)
    assert set(METRICS) >= LOWER_IS_BETTER


def test_a_model_of_another_name_is_taken():
    found = example_results(metrics={**metrics(), "adapter_qv": metrics()["adapter"]})
    assert "Adapter qv" in printed(comparison_table(found))


@pytest.mark.parametrize("undefined", [math.nan, np.float32("nan"), np.float64("nan")])
def test_nan_is_written_as_null(tmp_path, undefined):
    rows = metrics()
    rows["adapter"]["cold_recall@10"] = undefined
    write_results(example_results(metrics=rows), tmp_path / "results.json")
    text = (tmp_path / "results.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["metrics"]["adapter"]["cold_recall@10"] is None
    assert load_results(tmp_path / "results.json").metrics["adapter"]["cold_recall@10"] is None


def test_numpy_numbers_are_taken():
    rows = metrics()
    rows["adapter"]["ndcg@10"] = np.float32(0.5)
    rounds = results_fields()["rounds"]
    rounds[0] |= {"round": np.int64(1), "bytes_up": np.int32(7), "seconds": np.float32(1.5)}
    found = example_results(metrics=rows, rounds=rounds)
    assert found.metrics["adapter"]["ndcg@10"] == 0.5
    assert found.rounds[0].bytes_up == 7
    assert found.rounds[0].seconds == 1.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(more=1), "more: Extra inputs"),
        (lambda d: d["rounds"][3].update(loss=1.0), "rounds.3.loss: Extra inputs"),
        (lambda d: d["privacy"]["merchants"]["Little Owl"].update(mood=1), "mood: Extra inputs"),
        (lambda d: d.pop("privacy"), "privacy: Field required"),
        (lambda d: d["dataset"].pop("synthetic"), "dataset.synthetic: Field required"),
        (lambda d: d["dataset"].update(synthetic="yes"), "synthetic: Input should be a valid bool"),
        (lambda d: d["dataset"].update(items="9"), "items: Input should be a valid integer"),
        (lambda d: d["metrics"]["fused"].pop("auc"), "metrics.fused lacks auc"),
        (lambda d: d["metrics"]["fused"].update({"map@10": 1.0}), "metrics.fused.map@10"),
        (lambda d: d["metrics"]["fused"].update(auc="high"), "metrics.fused.auc"),
        (lambda d: d.update(metrics={}), "metrics: Dictionary should have at least 1"),
        (lambda d: d.update(schema_version=4), "schema_version: Input should be 3"),
        (lambda d: d.update(created="today"), "created: "),
        (lambda d: d["privacy"].update(dp_model="nowhere"), "privacy.dp_model"),
        (lambda d: d["privacy"].update(dp_model="none"), "claims epsilon"),
        (lambda d: d["rounds"][0].update(round=0), "rounds.0.round"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path, results, change, message):
    document = json.loads(results.model_dump_json())
    change(document)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load_results(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_what_is_no_json_is_refused(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(InputError, match="is not results"):
        load_results(tmp_path / "results.json")
    with pytest.raises(InputError, match="cannot be read"):
        load_results(tmp_path / "absent.json")


def test_an_infinite_number_is_refused():
    rows = metrics()
    rows["adapter"]["auc"] = math.inf
    with pytest.raises(ValidationError, match="finite"):
        example_results(metrics=rows)


def test_results_are_frozen(results):
    with pytest.raises(ValidationError, match="frozen"):
        results.name = "other"


def of_origin(origin):
    return [{**example, "origin": origin} for example in examples()]


def test_a_real_shopper_is_shown_only_on_request():
    real = {**results_fields()["dataset"], "synthetic": False}
    with pytest.raises(ValidationError, match="would show a real shopper"):
        example_results(dataset=real, examples=of_origin("shopper"))
    with pytest.raises(ValidationError, match="need a synthetic data set"):
        example_results(dataset=real, examples=of_origin("synthetic"))
    assert example_results(dataset=real, examples=of_origin("typed"))
    assert example_results(dataset=real, examples=of_origin("shopper"), shows_shoppers=True)


@given(
    hnp.arrays(np.int64, st.integers(1, 900), elements=st.integers(0, 5000)), st.integers(10, 400)
)
def test_the_popularity_curve_is_the_sorted_counts_at_its_ranks(counts, points):
    curve = popularity_curve(counts, points)
    ordered = sorted(counts.tolist(), reverse=True)
    assert list(curve.counts) == [ordered[rank - 1] for rank in curve.ranks]
    assert curve.ranks[0] == 1
    assert curve.ranks[-1] == len(counts)
    assert len(curve.ranks) <= points
    head = popularity_buckets(counts).head
    assert curve.head_items == head.sum()
    assert curve.cold_items == (counts == 0).sum()
    if counts.sum():
        assert curve.head_share == pytest.approx(sum(ordered[: head.sum()]) / counts.sum())
    else:
        assert curve.head_share is None


@pytest.mark.parametrize(
    ("ranks", "counts"), [((2, 1), (3, 3)), ((1, 1), (3, 3)), ((1, 2), (3, 4)), ((1, 2), (3,))]
)
def test_what_is_no_curve_is_refused(ranks, counts):
    numbers = {"head_items": 1, "cold_items": 0, "head_share": 0.5}
    with pytest.raises(ValidationError, match=r"must ascend|must descend"):
        PopularityCurve(ranks=ranks, counts=counts, **numbers)


def test_the_schema_page_is_the_one_in_the_docs():
    assert PAGE.read_text() == schema_page.schema_page(), (
        "run: python -m simulations.results.schema_page > docs/ref-results-schema.md"
    )


def test_the_schema_page_names_every_key_of_a_real_file(results):
    """An oracle beside the generator: walk a written file and look its keys up in the page."""
    page = PAGE.read_text()
    document = json.loads(results.model_dump_json())
    named_by_run = {*document["settings"], *document["privacy"]["merchants"], *MODELS}
    named_by_run |= {"dp_model", "rank", "temperature", "lambda", *document["timing"]["phases"]}
    named_by_run |= {"text", "collaborative"}

    def walk(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key not in named_by_run:
                    assert f"| `{key}` |" in page, key
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(document)


def test_the_schema_page_explains_every_key():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 80
    assert not [row for row in rows if "None" in row]


def test_the_comparison_table_shows_models_intervals_and_the_best(results):
    text = printed(comparison_table(results))
    assert "synthetic data" in text
    assert MODELS["fused"] in text
    assert "0.1108" in text
    assert ".1030–.1186" in text
    assert best_models(results.metrics, "ndcg@10") == {"fused"}
    assert best_models(results.metrics, "tail_recall@10") == {"adapter"}
    assert best_models(results.metrics, "gini@10") == {"frozen_text"}
    assert "\x1b[1m0.1108\x1b[0m" in styled(comparison_table(results))
    assert "\x1b[1m0.0985\x1b[0m" not in styled(comparison_table(results))


def test_best_is_nobody_alone_and_both_in_a_tie():
    rows = metrics()
    assert best_models({"adapter": rows["adapter"]}, "auc") == set()
    tied = {"adapter": rows["adapter"], "fused": rows["adapter"]}
    assert best_models(tied, "auc") == {"adapter", "fused"}


def test_an_undefined_metric_is_said_to_be_so():
    rows = metrics()
    rows["adapter"]["cold_recall@10"] = None
    assert "undefined" in printed(comparison_table(example_results(metrics=rows)))


def test_the_privacy_table_shows_each_merchant(results):
    text = printed(privacy_table(results))
    for name in results.privacy.merchants:
        assert name in text
    assert "3.98" in text
    assert "4.38" in text


def test_a_run_without_noise_claims_nothing():
    without = privacy()
    without["dp_model"] = "none"
    for one in without["merchants"].values():
        one |= {"epsilon": None, "delta": None, "accountants": {}, "noise_multiplier": 0.0}
    found = example_results(privacy=without)
    assert found.privacy.worst_epsilon is None
    assert printed(privacy_table(found)).count("none") >= 2 * len(without["merchants"])


def test_markup_in_a_name_is_printed_as_it_is():
    named = privacy()
    named["merchants"] = {"[bold]shop[/nope]": next(iter(named["merchants"].values()))}
    assert "[bold]shop[/nope]" in printed(privacy_table(example_results(privacy=named)))
    rows = {**metrics(), "[red]x[/nope]": metrics()["adapter"]}
    assert "[red]x[/nope]" in printed(comparison_table(example_results(metrics=rows)))


def test_verdicts_follow_the_interval(results):
    by_pair = {
        (one.model, one.baseline, one.metric): one.verdict for one in results.intervals.differences
    }
    assert by_pair["adapter", "local_ease", "ndcg@10"] == "higher"
    assert by_pair["adapter", "fused_frozen", "ndcg@10"] == "lower"
    assert by_pair["adapter", "frozen_text", "tail_recall@10"] == "unclear"
