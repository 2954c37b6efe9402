"""The gate on an operator's server: what fails it is not signed."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import server.releases.public_holdout as gate
from common.catalogue import write_catalogue
from common.encoder.catalogue_encoder import fit_public_basis
from common.errors import FederationError, InputError, ReleaseError
from common.federation.optimiser import OptimiserState
from server.releases import decision
from server.run.checkpoint import Checkpoint, write_checkpoint
from server.run.files import CATALOGUE_FILE
from server.run.outcome import write_outcome
from tests.support.shops import make_catalogue, make_settings

CATALOGUE = make_catalogue(60)


def write_shoppers(path, count=60, **changes):
    rng, lines = np.random.default_rng(0), []
    for _ in range(count):
        texts = [CATALOGUE.items[place].text for place in rng.choice(60, 6, replace=False)]
        lines.append(json.dumps({"history": texts[:4], "bought": texts[4:], **changes}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_who_bought_something_new_is_a_case(tmp_path):
    texts = [item.text for item in CATALOGUE.items]
    lines = [
        {"history": [texts[0], texts[0], "unknown"], "bought": [texts[0], texts[2]]},
        {"history": [texts[1]], "bought": [texts[1], "unknown"]},
        {"history": [], "bought": [texts[1]]},
    ]
    path = tmp_path / "public.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    read = gate.PublicShoppers.load(path, CATALOGUE)
    assert read.seen.toarray().nonzero() == (np.array([0]), np.array([0]))
    assert read.seen[0, 0] == 2
    assert list(read.bought.indices) == [2]


@pytest.mark.parametrize("line", ["", "[]", "{}", '{"history": "a", "bought": []}', "\x00"])
def test_a_line_that_is_no_shopper_is_named_and_not_quoted(tmp_path, line):
    path = write_shoppers(tmp_path / "public.jsonl", 2)
    path.write_text(path.read_text() + line + "\n" + "{}")
    with pytest.raises(InputError, match=r"line 3") as caught:
        gate.PublicShoppers.load(path, CATALOGUE)
    assert caught.value.field == "public_holdout"


@pytest.fixture
def finished(tiny_bert, tmp_path):
    """The folder of a run whose adapter is as it began: no better than frozen text."""
    settings, cache = make_settings(base_model=str(tiny_bert)), tmp_path / "cache"
    basis = fit_public_basis(CATALOGUE, settings, cache)
    from common.encoder.adapted_encoder import AdaptedEncoder
    from common.encoder.catalogue_encoder import cached_base_model

    model = cached_base_model(settings.base_model)
    adapter = AdaptedEncoder(model, basis, settings.lora_targets).adapter()
    run, plan = tmp_path / "run", settings.plan()
    write_catalogue(CATALOGUE, run / CATALOGUE_FILE)
    state = OptimiserState.empty(adapter.size)
    done = Checkpoint(plan.rounds, adapter, state, None, (), plan.digest, "settings")
    write_checkpoint(run, done)
    write_outcome(run, adapter, basis.to_bytes(), {})
    return SimpleNamespace(run=run, settings=settings, cache=cache, done=done)


def test_what_is_no_better_than_frozen_text_fails(finished, tmp_path):
    holdout = write_shoppers(tmp_path / "public.jsonl")
    with pytest.raises(ReleaseError) as caught:
        gate.check_release(finished.run, finished.settings, holdout, finished.cache)
    assert caught.value.field == "gate"
    told = json.loads((finished.run / decision.DECISION_FILE).read_text())
    assert (told["passed"], told["cases"]) == (False, 60)
    assert "ndcg@10 is not higher" in told["reason"]


def test_too_few_public_shoppers_fail(finished, tmp_path):
    with pytest.raises(ReleaseError, match="50 are needed"):
        gate.check_release(
            finished.run, finished.settings, write_shoppers(tmp_path / "few.jsonl", 49),
            finished.cache,
        )  # fmt: skip


def test_a_run_that_goes_on_is_not_judged(finished, tmp_path):
    early = Checkpoint(1, *list(vars(finished.done).values())[1:])
    write_checkpoint(finished.run, early)
    with pytest.raises(FederationError):
        gate.check_release(finished.run, finished.settings, tmp_path / "none", finished.cache)


def test_nothing_is_signed_that_has_not_passed(tmp_path):
    """Without a gate there is no decision; with one, only what has passed is signed."""
    decision.check_decision(tmp_path)
    decision.await_decision(tmp_path)
    with pytest.raises(ReleaseError, match="not been judged"):
        decision.check_decision(tmp_path)
    for content in (b"", b"[]", b'{"passed": 1, "reason": ""}'):
        (tmp_path / decision.DECISION_FILE).write_bytes(content)
        with pytest.raises(ReleaseError):
            decision.check_decision(tmp_path)
    decision.keep_decision(tmp_path, passed=True, cases=60, reason="higher")
    decision.await_decision(tmp_path)
    decision.check_decision(tmp_path)
