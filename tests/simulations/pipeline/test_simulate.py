import json
import shutil
import stat
from dataclasses import replace

import pytest

from client.privacy.budget import LEDGER_FILE, open_ledger, spent
from client.privacy.policy import POLICY_FILE, Policy
from client.shop.dataset import load_merchant_data, save_merchant_data
from client.shop.splitting import SplitRule
from client.training.dp_trainer import PrivateTrainer
from common.audit.audits import audit_run
from common.audit.layout import PUBLIC_KEY
from common.errors import InputError, LedgerError, ReleaseError, SettingsError
from common.identity.signing_key import PublicKey
from common.privacy.accounting.accountants import ceiling_for
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.entry import spent_events
from common.privacy.ledger.export import export_ledger
from common.privacy.mechanism.canaries import unpack_records
from common.privacy.mechanism.empirical_bound import audit_canaries
from common.release.manifest import CANARIES_FILE
from common.release.verify import verify_release
from simulations.options import SimulationOptions
from simulations.pipeline.out_folder import EARLIER_LEDGERS, prepare_out
from simulations.pipeline.progress import Screen
from simulations.results.schema import load_results
from tests.support.shops import command, simulate_small, small_options

MODELS = {
    "popularity",
    "local_ease",
    "own_alone",
    "ease_trend",
    "frozen_text",
    "fused_frozen",
    "fused_frozen_boosted",
    "adapter",
    "fused",
    "fused_boosted",
}


@pytest.fixture(scope="module")
def results(simulated):
    return load_results(simulated / "results.json")


def adapter_digest(out):
    return json.loads((out / "release" / "manifest.json").read_text())["adapter"]["digest"]


def ledgers(out):
    for folder in sorted((out / "merchants").glob("0*")):
        path = folder / "node" / LEDGER_FILE
        ledger = open_ledger(path, folder.name)
        yield ledger, Policy.from_toml(folder / POLICY_FILE)


def rounds_of(ledger):
    return [entry.round_number for entry in ledger.entries() if entry.kind == "train"]


# ------------------------------------------------------------------ what comes out
def test_a_simulation_leaves_results_report_release_and_merchants(simulated, results):
    assert set(results.metrics) == MODELS
    assert results.release.adapter_digest == adapter_digest(simulated)
    verified = verify_release(simulated / "release", PublicKey.load(simulated / "operator.pub"))
    assert verified.manifest.adapter.digest == adapter_digest(simulated)
    published = verified.manifest.metrics.values
    assert set(published) == {"own_alone", "frozen_text", "fused_frozen", "adapter", "fused"}
    assert published["fused"] == dict(results.metrics["fused"])
    assert "<html" in (simulated / "report.html").read_text(encoding="utf-8")
    assert len(list((simulated / "merchants").glob("0*"))) == 2
    assert not (simulated / "baselines").exists()


def test_each_merchants_epsilon_is_its_ledgers(simulated, results):
    found = [one.epsilon for one in results.privacy.merchants.values()]
    reports = [spent(ledger, results.settings["delta"]) for ledger, _ in ledgers(simulated)]
    assert found == pytest.approx([report.pld for report in reports])
    for report in reports:
        assert report.pld == pytest.approx(results.settings["epsilon"], abs=0.01)
        assert abs(report.pld - report.prv) < 0.02


def test_rounds_are_recorded_with_epsilon_and_bytes(results):
    assert [one.round for one in results.rounds] == [1, 2, 3]
    epsilons = [one.epsilon for one in results.rounds]
    assert epsilons == sorted(epsilons)
    assert all(one.bytes_up > 0 and one.bytes_down > 0 for one in results.rounds)
    assert all(one.participants == 2 for one in results.rounds)
    assert results.rounds[-1].ndcg is not None


def test_delta_fits_the_number_of_shoppers(simulated, results):
    shoppers = sum(
        load_merchant_data(folder).interactions.shopper_count
        for folder in (simulated / "merchants").glob("0*")
    )
    assert results.settings["delta"] <= 1 / (10 * shoppers)


def test_no_merchants_folder_holds_the_test_period(simulated):
    for folder in (simulated / "merchants").glob("0*"):
        data = load_merchant_data(folder)
        assert data.interactions.time.max() < data.split_rule.test_from


def test_real_shoppers_are_not_shown(simulated, results):
    assert not results.dataset.synthetic
    assert all(example.origin == "typed" for example in results.examples)
    assert all(len(example.history) == 1 for example in results.examples)
    for name in ("results.json", "report.html", "release/manifest.json", "release/STATEMENT.md"):
        assert "shopper-" not in (simulated / name).read_text(encoding="utf-8")


def test_example_scores_are_the_sum_of_their_parts(results):
    assert len(results.examples) == 5
    for example in results.examples:
        assert not {one.title for one in example.recommendations} & set(example.history)
        for one in example.recommendations:
            assert one.score == pytest.approx(sum(one.parts.values()), abs=1e-5)


def test_the_operators_key_is_for_its_owner_only(simulated):
    assert stat.S_IMODE((simulated / "operator.key").stat().st_mode) == 0o600


def test_the_same_command_in_another_place_gives_the_same_adapter(simulated, tiny_bert, tmp_path):
    again = simulate_small(tmp_path / "out", tiny_bert)
    assert adapter_digest(again) == adapter_digest(simulated)
    other = simulate_small(tmp_path / "other", tiny_bert, seed=2)
    assert adapter_digest(other) != adapter_digest(simulated)


# ------------------------------------------------------------------------- the audit
def test_the_audit_stands_beside_the_claim_and_can_be_computed_again(simulated, results):
    manifest = json.loads((simulated / "release" / "manifest.json").read_text(encoding="utf-8"))
    records = unpack_records((simulated / "release" / CANARIES_FILE).read_bytes())
    merchants = results.privacy.merchants
    for (name, one), record in zip(merchants.items(), records.values(), strict=True):
        again = audit_canaries(record, one.delta)
        assert (one.audit.epsilon, one.audit.one_run) == (again.epsilon, again.one_run)
        assert one.audit.commitment == record.commitment
        noise = (one.audit.noise.deviation, one.audit.noise.chance, one.audit.noise.draws)
        assert noise == (again.noise.deviation, again.noise.chance, again.noise.draws)
        assert one.audit.noise.draws == 3 * (512 - record.bits.sum())
        assert record.updates.any(axis=1).all()
        assert (one.audit.canaries, one.audit.steps) == (512, 3)
        assert 0 <= one.audit.epsilon < one.epsilon
        assert manifest["privacy"]["merchants"][name]["audit"] == one.audit.model_dump()
    assert "≥" in (simulated / "report.html").read_text(encoding="utf-8")


def test_a_run_whose_noise_is_too_small_gets_no_release(tiny_bert, tmp_path, monkeypatch):
    std = PrivacyPlan.noise_std
    monkeypatch.setattr(PrivacyPlan, "noise_std", lambda plan, kind: std(plan, kind) / 4)
    arguments = small_options(tmp_path / "out", tiny_bert, rounds=12)  # few steps prove little
    done = command(arguments, tmp_path / "cache")
    assert isinstance(done.exception, ReleaseError)
    assert done.exception.field == "audit"
    assert not (tmp_path / "out" / "release").exists()


def test_without_canaries_a_run_says_that_it_was_not_audited(tiny_bert, tmp_path):
    out = tmp_path / "out"
    arguments = [*small_options(out, tiny_bert), "--set", "audit_canaries=0"]
    done = command(arguments, tmp_path / "cache")
    assert done.exception is None
    found = load_results(out / "results.json").privacy.merchants.values()
    assert [one.audit for one in found] == [None, None]
    assert not (out / "release" / CANARIES_FILE).exists()


# ---------------------------------------------------------------------- resuming
def test_a_stopped_simulation_goes_on_with_the_same_command(
    simulated, tiny_bert, tmp_path, monkeypatch
):
    """Ctrl-C after round 1, in the middle of round 2, and a whole run come to one adapter."""
    shown, private_round, calls = Screen.round, PrivateTrainer.private_round, []

    def stop_after_one(self, record, settings):
        shown(self, record, settings)
        if record.round_number == 1:
            raise KeyboardInterrupt

    def stop_in_the_middle(self, *arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return private_round(self, *arguments)

    out = tmp_path / "out"
    for owner, name, stop in (
        (Screen, "round", stop_after_one),
        (PrivateTrainer, "private_round", stop_in_the_middle),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stop)
            done = command(small_options(out, tiny_bert), tmp_path / "cache")
        assert done.exit_code != 0
        assert not (out / "results.json").exists()
        assert not (out / "release").exists()
    simulate_small(out, tiny_bert)
    assert adapter_digest(out) == adapter_digest(simulated)
    assert [one.round for one in load_results(out / "results.json").rounds] == [1, 2, 3]
    repeated = [[1, 2, 2, 3], [1, 2, 2, 3]]
    assert [rounds_of(ledger) for ledger, _ in ledgers(out)] == repeated
    found = load_results(out / "results.json").privacy.merchants.values()
    for (ledger, policy), one in zip(ledgers(out), found, strict=True):
        report = spent(ledger, policy.delta)
        assert report.rdp <= policy.max_epsilon
        assert report.pld > 4.1  # what was repeated is told
        # Who repeats a round may have seen what came before: the claim is the filter's.
        events = spent_events(ledger.entries())
        assert one.epsilon == pytest.approx(ceiling_for(events, policy.delta))
        assert one.epsilon > report.pld
    assert audit_run(out, out / PUBLIC_KEY).passed


def test_a_finished_simulation_may_be_asked_for_again(simulated, tiny_bert, tmp_path):
    shutil.copytree(simulated.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    out = tmp_path / "copy" / "out"
    before = [rounds_of(ledger) for ledger, _ in ledgers(out)]
    simulate_small(out, tiny_bert)
    assert adapter_digest(out) == adapter_digest(simulated)
    assert [rounds_of(ledger) for ledger, _ in ledgers(out)] == before


def test_other_settings_in_the_same_folder_are_refused_and_change_nothing(
    simulated, tiny_bert, tmp_path
):
    shutil.copytree(simulated.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    out = tmp_path / "copy" / "out"
    arguments = [*small_options(out, tiny_bert), "--set", "learning_rate=0.7"]
    done = command(arguments, tmp_path / "cache")
    assert isinstance(done.exception, InputError)
    assert "other settings" in str(done.exception)
    assert adapter_digest(out) == adapter_digest(simulated)


def test_another_plan_in_the_same_folder_is_refused_before_a_policy_changes(
    simulated, tiny_bert, tmp_path
):
    shutil.copytree(simulated.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    out = tmp_path / "copy" / "out"
    before = [policy.read_bytes() for policy in sorted(out.glob(f"merchants/0*/{POLICY_FILE}"))]
    arguments = [*small_options(out, tiny_bert), "--epsilon", "7"]
    done = command(arguments, tmp_path / "cache")
    assert isinstance(done.exception, InputError)
    assert "--overwrite" in str(done.exception)
    assert before
    after = [policy.read_bytes() for policy in sorted(out.glob(f"merchants/0*/{POLICY_FILE}"))]
    assert after == before


def test_overwrite_starts_anew(simulated, tiny_bert, tmp_path):
    shutil.copytree(simulated.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    out = tmp_path / "copy" / "out"
    before = {export_ledger(ledger.path) for ledger, _ in ledgers(out)}
    assert all(before)
    arguments = [*small_options(out, tiny_bert), "--set", "learning_rate=0.7", "--overwrite"]
    assert command(arguments, tmp_path / "cache").exception is None
    assert adapter_digest(out) != adapter_digest(simulated)
    kept = list((out / EARLIER_LEDGERS).iterdir())
    assert {one.read_bytes() for one in kept} == before  # nothing that was spent is forgotten
    prepare_out(SimulationOptions(out=out, overwrite=True))
    assert set(kept) < set((out / EARLIER_LEDGERS).iterdir())
    assert not (out / "merchants").exists()


def test_overwrite_removes_nothing_where_a_ledger_cannot_be_kept(simulated, tmp_path):
    shutil.copytree(simulated.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    out = tmp_path / "copy" / "out"
    next(out.glob(f"merchants/*/node/{LEDGER_FILE}")).write_bytes(b"not a ledger")
    before = sorted(out.rglob("*"))
    with pytest.raises(LedgerError):
        prepare_out(SimulationOptions(out=out, overwrite=True))
    assert set(before) <= set(out.rglob("*"))


# ----------------------------------------------------------------------- the folder
def test_a_folder_with_other_files_is_left_alone(tiny_bert, tmp_path):
    out = tmp_path / "home"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for more in ([], ["--overwrite"]):
        done = command([*small_options(out, tiny_bert), *more], tmp_path / "cache")
        assert isinstance(done.exception, InputError)
        assert done.exception.field == "out"
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    prepare_out(SimulationOptions(out=tmp_path / "out"))
    prepare_out(SimulationOptions(out=tmp_path / "out"))


# -------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("more", "field"),
    [
        (["--merchants", "0"], "merchants"),
        (["--merchants", "50"], "merchants"),
        (["--partition", "by-hand"], "partition"),
        (["--partition", "column"], "merchant"),
        (["--set", "rank=0"], "rank"),
        (["--set", "rank"], "set"),
        (["--set", "nothing=1"], "nothing"),
        (["--set", "seed=many"], "seed"),
        (["--epsilon", "-1"], "epsilon"),
        (["--noise", "loud"], "noise"),
        (["--marketplace"], "data"),
    ],
)
def test_a_wrong_option_is_an_error_of_ours_that_names_it(tiny_bert, tmp_path, more, field):
    arguments = small_options(tmp_path / "out", tiny_bert)
    done = command([*arguments, *more], tmp_path / "cache")
    assert isinstance(done.exception, InputError)
    assert done.exception.field == field


def test_missing_data_is_an_error_of_ours(tiny_bert, tmp_path):
    done = command(
        small_options(tmp_path / "out", tiny_bert, data=tmp_path / "none"), tmp_path / "cache"
    )
    assert isinstance(done.exception, InputError)


def test_no_data_at_all_needs_an_out(tmp_path):
    done = command(["simulate"], tmp_path)
    assert isinstance(done.exception, InputError)
    assert done.exception.field == "out"


def test_a_budget_that_no_noise_meets_is_a_settings_error(tiny_bert, tmp_path):
    done = command(small_options(tmp_path / "out", tiny_bert, epsilon=1e-9), tmp_path / "cache")
    assert isinstance(done.exception, SettingsError)


# ------------------------------------------------------------------- the baselines
def test_solo_and_baselines_have_ledgers_of_their_own(tiny_bert, tmp_path, simulated):
    arguments = small_options(tmp_path / "out", tiny_bert, processes=1)
    arguments.remove("--fast")
    assert command(arguments, tmp_path / "cache", page=True).exception is None
    out = tmp_path / "out"
    results = load_results(out / "results.json")
    assert set(results.metrics) == MODELS | {
        "solo_adapter",
        "adapter_no_noise",
        "adapter_central",
    }
    assert adapter_digest(out) == adapter_digest(simulated)  # they do not touch the released run
    assert [rounds_of(ledger) for ledger, _ in ledgers(out)] == [[1, 2, 3]] * 2
    assert len(list((out / "baselines").iterdir())) == 4


def test_noise_none_says_that_it_promises_nothing(tiny_bert, tmp_path):
    out = simulate_small(tmp_path / "out", tiny_bert, noise="none")
    results = load_results(out / "results.json")
    assert results.privacy.dp_model == "none"
    assert all(one.epsilon is None for one in results.privacy.merchants.values())
    assert all(one.epsilon is None for one in results.rounds)
    assert "no" in (out / "release" / "STATEMENT.md").read_text().lower()


def test_a_data_set_with_nobody_to_judge_on_is_refused_before_anything_is_spent(
    tmp_path, tiny_bert
):
    arguments = small_options(tmp_path / "out", tiny_bert)
    data = load_merchant_data(tmp_path / "shop")
    late = replace(data, split_rule=SplitRule("time", data.split_rule.valid_from, 2**60))
    save_merchant_data(late, tmp_path / "shop")
    done = command(arguments, tmp_path / "cache")
    assert isinstance(done.exception, InputError)
    assert done.exception.field == "split"
    assert "too few to test: 0" in str(done.exception)
    assert not list((tmp_path / "out").rglob("*.db"))
    assert not list((tmp_path / "out").rglob("manifest.json"))
