"""An honest run passes, and whatever is missing or somebody else's is named."""

import json
import shutil

import pytest

from common.audit.audits import audit_ledger, audit_release, audit_run
from common.audit.findings import Checklist
from common.audit.layout import JOURNAL, LEDGERS, PUBLIC_KEY, RELEASE
from common.errors import InputError, ReleaseError, SettingsError
from common.identity.signing_key import SigningKey
from common.release.manifest import CANARIES_FILE, MANIFEST_FILE, SIGNATURE_FILE
from tests.support.forging import by_name, export, found, named
from tests.support.shops import command, small_options

MANIFEST = f"{RELEASE}/{MANIFEST_FILE}"
CANARIES = f"{RELEASE}/{CANARIES_FILE}"


# ------------------------------------------------------------------------------ honest
def test_an_honest_run_passes_and_every_check_was_made(honest):
    report = audit_run(honest, honest / PUBLIC_KEY)
    assert found(report) == []
    assert report.passed
    assert {check.status for check in report.checks} <= {"passed", "noted"}
    for one in report.merchants:
        assert one.pld == pytest.approx(one.claimed, abs=1e-6)
        assert abs(one.second - one.pld) <= 0.02
        assert 0 <= one.lower < one.claimed < one.rdp
        assert (one.canaries, one.entries) == (512, 5)
        assert [point.epsilon for point in one.curve] == sorted(p.epsilon for p in one.curve)
        assert one.curve[-1].epsilon == pytest.approx(one.claimed, abs=1e-6)
    assert len(report.keys) == 2 + len(report.merchants)


def test_noise_from_a_fixed_seed_is_told_though_the_statement_says_so(honest):
    notes = by_name(audit_run(honest, honest / PUBLIC_KEY), "Epsilon")
    assert len(notes) == 2
    assert all(one.status == "noted" and "PROTECTS NOBODY" in one.detail.upper() for one in notes)


def test_a_release_and_a_ledger_pass_alone(honest):
    release = audit_release(honest / RELEASE, honest / PUBLIC_KEY)
    assert found(release) == []
    assert [one.lower for one in release.merchants] == [
        one.lower for one in audit_run(honest, honest / PUBLIC_KEY).merchants
    ]
    for path in sorted((honest / LEDGERS).iterdir()):
        alone = audit_ledger(path, delta=1e-3)
        held = audit_ledger(path, delta=1e-3, journal=honest / JOURNAL)
        assert found(alone) == found(held) == []
        assert alone.merchants[0].pld == held.merchants[0].pld > 0


def test_files_that_went_on_after_the_release_pass_with_a_note(simulated, tiny_bert, tmp_path):

    shutil.copytree(simulated.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    out = tmp_path / "copy" / "out"
    before = export(out, tmp_path / "before")
    assert command(small_options(out, tiny_bert), tmp_path / "cache").exception is None
    # A later journal and ledgers, which hold one more import, with the release of before.
    shutil.copy(out / JOURNAL, before / JOURNAL)
    shutil.copytree(out / LEDGERS, before / LEDGERS, dirs_exist_ok=True)
    assert len((out / JOURNAL).read_bytes()) > len((simulated / JOURNAL).read_bytes())
    assert found(audit_run(before, before / PUBLIC_KEY)) == []


# --------------------------------------------------------------------- files that are gone
@pytest.mark.parametrize("name", [RELEASE, "operator.pub", JOURNAL, LEDGERS])
def test_what_is_missing_is_named_and_the_rest_is_looked_at(honest, tmp_path, name):
    folder = shutil.copytree(honest, tmp_path / "run")
    gone = folder / name
    (shutil.rmtree if gone.is_dir() else type(gone).unlink)(gone)
    report = audit_run(folder, folder / PUBLIC_KEY)
    assert not report.passed
    assert any(file.startswith(name) for file, _, _ in found(report))
    assert any(check.status == "passed" for check in report.checks)


def test_a_ledger_too_many_and_one_too_few_are_named(forger):
    first, second = (forger.folder / LEDGERS / f"{node}.jsonl" for node in forger.nodes)
    second.rename(second.with_name("stranger.jsonl"))
    report = audit_run(forger.folder, forger.key)
    assert named(report, f"{LEDGERS}/{second.name}", "file")
    assert named(report, f"{LEDGERS}/stranger.jsonl", "merchant")
    assert not any(one[0].endswith(first.name) for one in found(report))


def test_another_merchants_ledger_is_refused(forger):
    first, second = (forger.folder / LEDGERS / f"{node}.jsonl" for node in forger.nodes)
    shutil.copy(second, first)
    assert found(audit_run(forger.folder, forger.key))[0][:2] == (f"{LEDGERS}/{first.name}", 1)


def test_another_operators_key_is_refused(forger, tmp_path):
    SigningKey.create(tmp_path / "other.key").public.save(tmp_path / "other.pub")
    report = audit_run(forger.folder, tmp_path / "other.pub")
    assert named(report, f"{RELEASE}/{SIGNATURE_FILE}", "content")
    with pytest.raises(ReleaseError):
        audit_release(forger.folder / RELEASE, tmp_path / "none.pub")


@pytest.mark.parametrize(
    "audit",
    [audit_run, audit_release, lambda path: audit_ledger(path, delta=1e-3)],
)
def test_what_is_not_there_at_all_is_the_callers_error(audit, tmp_path):
    with pytest.raises(InputError):
        audit(tmp_path / "nowhere")


def test_a_delta_out_of_bounds_is_the_callers_error(honest):
    with pytest.raises(SettingsError):
        audit_ledger(next((honest / LEDGERS).iterdir()), delta=0.0)


@pytest.mark.parametrize("place", [JOURNAL, f"{LEDGERS}/*.jsonl", f"{RELEASE}/{MANIFEST_FILE}"])
def test_a_file_of_nested_brackets_is_a_finding_and_no_crash(honest, tmp_path, place):
    run = shutil.copytree(honest, tmp_path / "run")
    file = min(run.glob(place))
    file.write_bytes(b"[" * 100_000 + b"\n")
    report = audit_run(run, honest / PUBLIC_KEY)
    assert report.verdict == "failed"
    assert any(file.name in name or RELEASE in name for name, _, _ in found(report))


def test_a_check_that_python_gives_up_on_is_a_finding():
    sheet = Checklist()
    with sheet.check("Canaries", "canaries.safetensors"):
        json.loads("[" * 100_000)
    assert not sheet.sound
