"""The numbers for Prometheus, and the alerts that read them."""

import re
import time
from dataclasses import replace
from pathlib import Path

import yaml

from server.monitoring import metrics
from server.run.oversight.run_state import NodeNote, RunState, StateFile
from tests.support.fake_node import shops
from tests.support.ledger_node import town

__all__ = ["shops", "town"]  # fixtures
RULES = Path(__file__).parents[3] / "deploy/prometheus/fedtail-server.rules.yml"


def test_a_runs_numbers(town):
    town.run(rounds=2)
    text = metrics.metrics_page(town.run_folder).decode()
    for line in (
        'fedtail_run_round{run="run"} 2.0',
        'fedtail_run_phase{phase="ended",run="run"} 1.0',
        'fedtail_run_nodes{run="run",state="in"} 3.0',
        'fedtail_round_participants{run="run"} 3.0',
        "fedtail_releases 0.0",
    ):
        assert line in text
    assert 'fedtail_merchant_epsilon{merchant="ash"}' in text


def test_a_wait_that_is_over_is_told(town):
    town.run(rounds=1)
    now = time.time()
    state = RunState(
        "train", 2, 6, since=now - 300, until=now - 200, answered=1, needed=2,
        waits_for=("birch",), nodes=(NodeNote("birch", "quarantined", "quarantine:vector", 3),),
    )  # fmt: skip
    StateFile(town.run_folder, replace(state))._write()
    text = metrics.metrics_page(town.run_folder).decode()
    overdue = float(re.search(r'run_overdue_seconds\{run="run"\} (\S+)', text)[1])
    assert 190 < overdue < 260
    assert 'fedtail_run_answers_missing{run="run"} 1.0' in text
    assert 'fedtail_run_strikes{merchant="birch",run="run"} 3.0' in text


def test_alerts_read_numbers_that_there_are():
    rules = [one for group in yaml.safe_load(RULES.read_text())["groups"] for one in group["rules"]]
    assert len(rules) >= 8
    for rule in rules:
        named = set(re.findall(r"fedtail_(\w+)", rule["expr"]))
        assert named <= set(metrics._GAUGES), rule["alert"]
        assert named or rule["expr"].startswith("up{")
