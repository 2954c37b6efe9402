"""docs/ref-results.md is what the command makes of the committed extracts, and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from common.errors import InputError
from simulations.results.schema import write_results
from simulations.results.sections import Fairness
from simulations.results_page import page
from simulations.results_page.extracts import SHOWN, extract, read_extracts, write_extract
from simulations.results_page.page import EXTRACTS, PAGE, main, make_page, results_page
from simulations.results_page.seeds import grouped
from tests.support.results_example import example_results, results_fields

SMALL = 20_000  # a run with all models, by size of shop


def run(seed=0, shift=0.0, settings=None, **changes):
    """Example results of a seed, all its NDCG moved by `shift`."""
    fields = results_fields(**changes)
    fields["settings"] = {**fields["settings"], "seed": seed, **(settings or {})}
    for row in fields["metrics"].values():
        row["ndcg@10"] += shift
    for row in fields["intervals"]["metrics"].values():
        row["ndcg@10"] = {name: value + shift for name, value in row["ndcg@10"].items()}
    return example_results(**fields)


def folders(tmp_path, *all_results):
    for place, results in enumerate(all_results):
        folder = tmp_path / f"run-{place}"
        folder.mkdir()
        write_results(results, folder / "results.json")
        yield str(folder)


# ------------------------------------------------------------------- what is committed
def test_the_page_in_the_docs_is_the_one_the_command_makes():
    assert PAGE.read_text(encoding="utf-8") == make_page(EXTRACTS)


def test_the_committed_extracts_are_small_and_tell_nothing_of_a_machine():
    paths = sorted(EXTRACTS.glob("*.json"))
    assert paths
    for path in paths:
        told = path.read_text(encoding="utf-8")
        assert len(told) < SMALL
        assert "/" not in told.replace("\\/", "")
    assert [one.file_name for one in read_extracts(EXTRACTS)] == [path.name for path in paths]


def test_every_committed_target_is_about_a_data_set_by_its_own_name():
    names = {one.dataset for one in page.read_targets(EXTRACTS / page.TARGETS)}
    assert names == {
        "online_retail",
        "amazon_games_5core",
        "amazon_industrial_2018_recent",
    }


# ------------------------------------------------------------------------ an extract
def test_an_extract_keeps_the_numbers_and_drops_titles_paths_and_commands(tmp_path):
    results = run(settings={"base_model": str(tmp_path / "bert-tiny"), "delta": 1e-9})
    path = write_extract(extract(results), tmp_path)
    told = path.read_text(encoding="utf-8")
    assert len(told) < SMALL
    for secret in ("teapot", str(tmp_path), "--marketplace", "Made-up numbers"):
        assert secret not in told
    [kept] = read_extracts(tmp_path)
    assert kept.settings["base_model"] == "bert-tiny"
    assert kept.settings["delta"] == 1e-9  # settings are not rounded
    assert all(set(of_model) <= set(SHOWN) for of_model in kept.metrics.values())
    assert kept.metrics["fused"]["ndcg@10"] == pytest.approx(results.metrics["fused"]["ndcg@10"])
    assert kept.epsilon == pytest.approx(results.privacy.worst_epsilon)
    assert kept.environment.commit == "0123abc"
    assert kept.environment.platform == results.environment.platform.split()[0] == "Linux"
    assert results.environment.platform != "Linux"


def test_a_run_made_again_takes_the_place_of_the_old_one_and_another_does_not(tmp_path):
    for results in (run(1), run(1, shift=0.01), run(2), run(1, settings={"rank": 2})):
        write_extract(extract(results), tmp_path)
    assert len(read_extracts(tmp_path)) == 3


def test_a_file_that_is_no_extract_is_named(tmp_path):
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(InputError, match=r"broken\.json"):
        read_extracts(tmp_path)


# ---------------------------------------------------------------------- over seeds
def test_seeds_of_one_configuration_are_one_group_in_their_order():
    runs = [extract(one) for one in (run(2), run(0), run(0, settings={"epsilon": 8.0}), run(1))]
    first, second = grouped(runs)
    assert [one.seed for one in first.runs] == [0]
    assert first.first.settings["epsilon"] == 8.0
    assert [one.seed for one in second.runs] == [0, 1, 2]


def test_means_and_ends_are_means_over_seeds():
    shifts = (0.0, 0.01, 0.05)
    [group] = grouped([extract(run(seed, shift)) for seed, shift in enumerate(shifts)])
    base = extract(run())
    found = group.metric("fused", "ndcg@10")
    assert found.mean == pytest.approx(base.metrics["fused"]["ndcg@10"] + np.mean(shifts))
    assert found.low == pytest.approx(base.intervals["fused"]["ndcg@10"].low + np.mean(shifts))
    assert found.seeds == 3
    difference = group.difference("fused", "local_ease", "ndcg@10")
    assert difference.mean == pytest.approx(0.1108 - 0.0888)
    assert (difference.clear, difference.seeds) == (3, 3)
    assert group.difference("fused", "nobody", "ndcg@10").mean is None
    assert group.metric("popularity", "auc").mean is None
    assert group.metric("fused", "coverage@10").low is None


def test_a_seed_without_an_end_leaves_the_mean_without_one():
    """The mean of the other seeds' ends would be too sure."""
    fields = results_fields()
    unknown = {"mean": 0.02, "low": None, "high": None}
    [first, *others] = fields["intervals"]["differences"]
    cut = {**fields["intervals"], "differences": [{**first, **unknown}, *others]}
    [group] = grouped([extract(run(0)), extract(run(1, intervals=cut))])
    found = group.difference(first["model"], first["baseline"], first["metric"])
    assert found.mean == pytest.approx((first["mean"] + 0.02) / 2)
    assert (found.low, found.high, found.seeds) == (None, None, 2)


# ------------------------------------------------------------------------- the page
def test_the_page_tells_models_differences_commit_and_environment(tmp_path):
    page = results_page([extract(run(seed)) for seed in (0, 1)], [], tmp_path)
    for text in (
        "## marketplace, seed 0",
        "Synthetic: made up by a program.",
        "Seeds 0, 1.",
        "| `fused` | **0.1108** (0.1030 to 0.1186) |",
        "| `fused` − `local_ease` | +0.0220 (+0.0179 to +0.0261) | 2 of 2 clearly above |",
        "`0123abc`",
        "Python 3.",
    ):
        assert text in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} <= {3, 4, 5, 6, 7, 8}
    assert page.index("| `popularity`") < page.index("| `local_ease`") < page.index("| `fused`")


def test_remarks_stand_under_the_data_sets_name(tmp_path):
    (tmp_path / "marketplace, seed 0.txt").write_text("A remark.\n", encoding="utf-8")
    page = results_page([extract(run())], [], tmp_path)
    assert page.index("## marketplace") < page.index("A remark.") < page.index("### 8 merchants")


def test_gate_fairness_and_held_out_merchants_are_told(tmp_path):
    held = {name: results_fields()[name] for name in ("merchants", "metrics", "intervals")}
    spread = {"model": "fused", "metric": "ndcg@10", "worst_merchant": "Little Owl"}
    gain = {"model": "fused", "baseline": "local_ease", "metric": "ndcg@10", "merchants": 8}
    ends = {"mean": -0.01, "low": -0.02, "high": 0.01}
    found = Fairness(
        spreads=[{**spread, "mean": 0.11, "worst": 0.08}],
        gains=[{**gain, "ahead": 7, "median": 0.02, "worst": ends, "worst_merchant": "Little Owl"}],
    )
    gate = {"holdout": "open", "cases": 90, "passed": False, "reason": "it lost", "checks": []}
    results = run(fairness=found, held_out=held, gate=gate)
    kept = extract(results)
    assert all(set(of_model) <= set(SHOWN) for of_model in kept.held_out.metrics.values())
    assert "Little Owl" not in kept.model_dump_json()
    page = results_page([kept], [], tmp_path)
    for text in (
        "| `fused` − `local_ease` | NDCG@10 | 7 of 8 | +0.0200 | -0.0100 | -0.0100 (-0.0200 to",
        "| `fused` | 0.1100 | 0.0800 |",
        "Merchants that never trained, 8 a run",
        "Release gate, seed 0: refused. it lost.",
    ):
        assert text in page


def test_the_worst_merchant_is_a_mean_over_all_seeds_also_where_two_lose_as_much(tmp_path):
    gain = {"model": "fused", "baseline": "local_ease", "metric": "ndcg@10", "merchants": 8}
    kept = []
    for seed, mean in enumerate((-0.03, 0.0, 0.0)):
        ends = {"mean": mean, "low": mean - 0.01, "high": mean + 0.02}
        told = {**gain, "ahead": 7, "median": 0.02, "worst": ends, "worst_merchant": "Little Owl"}
        kept.append(extract(run(seed, fairness=Fairness(spreads=[], gains=[told]))))
    page = results_page(kept, [], tmp_path)
    assert "| 21 of 24 | +0.0200 | -0.0100 | -0.0300 (-0.0400 to -0.0100) |" in page


def test_the_command_that_is_shown_asks_for_all_that_was_measured(tmp_path):
    """Without them the reader's run would not have the page's gate, curve and merchants."""
    fields = results_fields()
    held = {name: fields[name] for name in ("merchants", "metrics", "intervals")}
    gate = {"holdout": "open", "cases": 90, "passed": True, "reason": "it won", "checks": []}
    spread = {"ndcg@10": 0.1, "tail_recall@10": 0.04}
    told = {"auc": 0.5, "low": 0.4, "high": 0.6, "advantage": 0.1, "chance": 0.2, "bound": 1.0}
    both = {"adapter": spread, "fused": spread}
    points = [
        {"epsilon": e, "metrics": both, "membership": {**told, "members": 9, "others": 9}}
        for e in (None, 4.0, 0.5)
    ]
    curve = {
        "held_back": 0.2,
        "frozen": {"frozen_text": spread, "fused_frozen": spread},
        "points": points,
    }
    real = {**fields["dataset"], "name": "shop", "synthetic": False, "partition": "random"}
    full = run(held_out=held, gate=gate, epsilon_curve=curve, dataset=real, examples=[])
    page = results_page([extract(full)], [], tmp_path)
    asked = (
        "fedtail simulate --data shop --merchants 8 --partition random --held-out-merchants 8 "
        "--public-holdout open --epsilon-curve inf,4,0.5 --rounds 40"
    )
    assert asked in page
    metrics = {
        name: row
        for name, row in fields["metrics"].items()
        if name not in ("solo_adapter", "adapter_no_noise")
    }
    assert "--fast" in results_page([extract(run(metrics=metrics))], [], tmp_path)
    assert "--fast" not in page


# ---------------------------------------------------------------------- the command
def test_the_command_keeps_extracts_and_writes_the_page(tmp_path, capsys):
    kept, page = tmp_path / "kept", tmp_path / "page.md"
    places = ["--extracts", str(kept), "--page", str(page)]
    assert main([*folders(tmp_path, run(0), run(1)), *places]) == 0
    assert len(list(kept.glob("*.json"))) == 2
    assert "Seeds 0, 1." in page.read_text(encoding="utf-8")
    before = page.read_bytes()
    assert main(places) == 0  # from the extracts alone
    assert page.read_bytes() == before
    assert "written" in capsys.readouterr().out


def test_the_command_names_what_it_cannot_read(tmp_path, capsys):
    assert main([str(tmp_path / "nothing"), "--extracts", str(tmp_path)]) == 2
    assert "nothing" in capsys.readouterr().err


def test_an_extract_has_only_json_a_reader_knows(tmp_path):
    path = write_extract(extract(run()), tmp_path)
    fields = json.loads(path.read_text(encoding="utf-8"))
    assert Path(path).name.startswith("marketplace--seed-0-local-eps4-")
    assert fields["metrics"]["popularity"]["auc"] is None
