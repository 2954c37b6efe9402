"""An honest run passes; a flipped bit, a lost file and a signed lie are each found and named."""

import random
import re
import shutil
from dataclasses import replace

import pytest
from forging import Forger, export, files_of

from common.audit.auditing import audit_ledger, audit_release, audit_run
from common.audit.layout import JOURNAL, LEDGERS, RELEASE
from common.errors import InputError, ReleaseError, SettingsError
from common.privacy.lanes import pack_records, unpack_records
from common.release.manifest import LANES_FILE, MANIFEST_FILE, SIGNATURE_FILE, STATEMENT_FILE

MANIFEST = f"{RELEASE}/{MANIFEST_FILE}"
LANES = f"{RELEASE}/{LANES_FILE}"


@pytest.fixture(scope="module")
def honest(simulated, tmp_path_factory):
    """What an auditor of a small honest run is given."""
    return export(simulated, tmp_path_factory.mktemp("audited") / "run")


@pytest.fixture
def forger(simulated, honest, tmp_path):
    return Forger(simulated, shutil.copytree(honest, tmp_path / "run"))


def found(report):
    """Each finding's file, entry and field."""
    return [(one.file, one.entry, one.field) for check in report.checks for one in check.findings]


def named(report, file, field):
    return any((one[0], one[2]) == (file, field) for one in found(report))


def by_name(report, start):
    return [check for check in report.checks if check.name.startswith(start)]


# ------------------------------------------------------------------------------ honest
def test_an_honest_run_passes_and_every_check_was_made(honest):
    report = audit_run(honest)
    assert found(report) == []
    assert report.passed
    assert {check.status for check in report.checks} <= {"passed", "noted"}
    for one in report.merchants:
        assert one.pld == pytest.approx(one.claimed, abs=1e-6)
        assert abs(one.second - one.pld) <= 0.02
        assert 0 <= one.lower < one.claimed < one.rdp
        assert (one.lanes, one.entries) == (512, 4)
        assert [point.epsilon for point in one.curve] == sorted(p.epsilon for p in one.curve)
        assert one.curve[-1].epsilon == pytest.approx(one.claimed, abs=1e-6)
    assert len(report.keys) == 2 + len(report.merchants)


def test_noise_from_a_fixed_seed_is_told_though_the_statement_says_so(honest):
    notes = by_name(audit_run(honest), "Epsilon")
    assert len(notes) == 2
    assert all(one.status == "noted" and "PROTECTS NOBODY" in one.detail.upper() for one in notes)


def test_a_release_and_a_ledger_pass_alone(honest):
    release = audit_release(honest / RELEASE)
    assert found(release) == []
    assert [one.lower for one in release.merchants] == [
        one.lower for one in audit_run(honest).merchants
    ]
    for path in sorted((honest / LEDGERS).iterdir()):
        alone = audit_ledger(path, delta=1e-3)
        held = audit_ledger(path, delta=1e-3, journal=honest / JOURNAL)
        assert found(alone) == found(held) == []
        assert alone.merchants[0].pld == held.merchants[0].pld > 0


def test_files_that_went_on_after_the_release_pass_with_a_note(simulated, tiny_bert, tmp_path):
    from shops import command, small_options

    shutil.copytree(simulated.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("cache"))
    out = tmp_path / "copy" / "out"
    before = export(out, tmp_path / "before")
    assert command(small_options(out, tiny_bert), tmp_path / "cache").exception is None
    shutil.copy(out / JOURNAL, before / JOURNAL)  # a later journal, the release of before
    assert len((out / JOURNAL).read_bytes()) > len((simulated / JOURNAL).read_bytes())
    assert found(audit_run(before)) == []


# ------------------------------------------------------------------------ flipped bits
def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_a_hundred_flipped_bits_are_all_found_and_the_file_is_named(honest, tmp_path):
    """Bits drawn over ledgers, journal, statement and the rest of the release."""
    rng = random.Random(20261124)  # noqa: S311 - which bits to flip is no secret
    folder = shutil.copytree(honest, tmp_path / "run")
    assert audit_run(folder).passed
    paths = [path for path in files_of(folder) if path.name != "operator.pub"]
    statement = [folder / MANIFEST, folder / RELEASE / STATEMENT_FILE]
    ledgers = [path for path in paths if path.parent.name == LEDGERS]
    drawn = [*paths, *rng.choices(ledgers, k=30), *[folder / JOURNAL] * 25]
    drawn += rng.choices(statement, k=25)
    drawn += rng.choices(paths, k=100 - len(drawn))
    assert len(drawn) == 100
    missed = []
    for path in drawn:
        whole, bit = path.read_bytes(), rng.randrange(path.stat().st_size * 8)
        flip(path, bit)
        report = audit_run(folder)
        path.write_bytes(whole)
        files = {one[0] for one in found(report)}
        # The signature covers the manifest: which of the two was altered nobody can tell.
        pair = {MANIFEST, f"{RELEASE}/{SIGNATURE_FILE}"}
        name = path.relative_to(folder).as_posix()
        right = bool(files & (pair if name in pair else {name}))
        if report.passed or not right:
            missed.append((name, bit, sorted(files)))
    assert missed == []


def test_a_flipped_bit_in_an_entry_names_the_entry_and_the_field(honest, tmp_path):
    folder = shutil.copytree(honest, tmp_path / "run")
    for path in (next((folder / LEDGERS).iterdir()), folder / JOURNAL):
        whole = path.read_bytes()
        lines = whole.split(b"\n")
        digit = re.search(rb'round_number\\":(\d)', lines[1])
        lines[1] = lines[1][: digit.start(1)] + b"7" + lines[1][digit.end(1) :]
        path.write_bytes(b"\n".join(lines))
        name = path.relative_to(folder).as_posix()
        assert (name, 2, "hash") in found(audit_run(folder))
        path.write_bytes(whole)


@pytest.mark.parametrize("which", ["signature", "hash"])
def test_capitals_in_hex_are_a_change_like_any_other(honest, tmp_path, which):
    path = shutil.copy(next((honest / LEDGERS).iterdir()), tmp_path / "ledger.jsonl")
    text = path.read_text("utf-8")
    value = re.search(rf'"{which}":"([0-9a-f]+)"', text)[1]
    path.write_text(text.replace(f'"{which}":"{value}"', f'"{which}":"{value.upper()}"'), "utf-8")
    assert found(audit_ledger(path, delta=1e-3)) == [("ledger.jsonl", 1, which)]


# --------------------------------------------------------------------- files that are gone
@pytest.mark.parametrize("name", [RELEASE, "operator.pub", JOURNAL, LEDGERS])
def test_what_is_missing_is_named_and_the_rest_is_looked_at(honest, tmp_path, name):
    folder = shutil.copytree(honest, tmp_path / "run")
    gone = folder / name
    (shutil.rmtree if gone.is_dir() else type(gone).unlink)(gone)
    report = audit_run(folder)
    assert not report.passed
    assert any(file.startswith(name) for file, _, _ in found(report))
    assert any(check.status == "passed" for check in report.checks)


def test_a_ledger_too_many_and_one_too_few_are_named(forger):
    first, second = (forger.folder / LEDGERS / f"{node}.jsonl" for node in forger.nodes)
    second.rename(second.with_name("stranger.jsonl"))
    report = audit_run(forger.folder)
    assert named(report, f"{LEDGERS}/{second.name}", "file")
    assert named(report, f"{LEDGERS}/stranger.jsonl", "merchant")
    assert not any(one[0].endswith(first.name) for one in found(report))


def test_another_merchants_ledger_is_refused(forger):
    first, second = (forger.folder / LEDGERS / f"{node}.jsonl" for node in forger.nodes)
    shutil.copy(second, first)
    assert found(audit_run(forger.folder))[0][:2] == (f"{LEDGERS}/{first.name}", 1)


def test_another_operators_key_is_refused(forger, tmp_path):
    from common.release.signing import SigningKey

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


# ------------------------------------------------------------------------- signed lies
def of_first(change):
    """Change the first merchant's part of a map by name."""

    def changed(held):
        first = min(held)
        return {**held, first: {**held[first], **change(held[first])}}

    return changed


def cheaper(one):
    accountants = {**one["accountants"], "pld": one["epsilon"] - 0.5}
    return {"epsilon": one["epsilon"] - 0.5, "accountants": accountants}


LIES = {
    "a smaller epsilon": (
        {"merchants": of_first(cheaper)},
        {(MANIFEST, "epsilon"), (MANIFEST, "pld")},
    ),
    "a larger epsilon": (
        {"merchants": of_first(lambda one: {"epsilon": one["epsilon"] + 0.5})},
        {(MANIFEST, "epsilon")},
    ),
    "another second accountant's value": (
        {"merchants": of_first(lambda one: {"accountants": {**one["accountants"], "prv": 3.0}})},
        {(MANIFEST, "prv")},
    ),
    "a smaller lower bound": (
        {"merchants": of_first(lambda one: {"audit": {**one["audit"], "epsilon": 0.0}})},
        {(LANES, "epsilon")},
    ),
    "no audit": ({"merchants": of_first(lambda one: {"audit": None})}, {(RELEASE, "audit")}),
    "other lanes": (
        {"merchants": of_first(lambda one: {"audit": {**one["audit"], "commitment": "ab" * 32}})},
        {(LANES, "commitment")},
    ),
    "a secret seed": ({"noise": {"seeded": False}}, {(MANIFEST, "noise.seeded")}),
    "less at several merchants": (
        {"several": lambda held: [{**one, "local": held[0]["local"]} for one in held]},
        {(MANIFEST, "several.local")},
    ),
    "a ledger that stood elsewhere": (
        {"ledgers": of_first(lambda one: {"hash": "cd" * 32})},
        {("LEDGER", "hash")},
    ),
    "a shorter ledger": (
        {"ledgers": of_first(lambda one: {"entries": one["entries"] - 1})},
        {("LEDGER", "hash"), (MANIFEST, "epsilon"), (MANIFEST, "pld"), (MANIFEST, "rdp")},
    ),
    "a longer ledger": (
        {"ledgers": of_first(lambda one: {"entries": one["entries"] + 1})},
        {("LEDGER", "entries")},
    ),
    "another node's key": (
        {"ledgers": of_first(lambda one: {"signer": "cd" * 32})},
        {("LEDGER", "signer")},
    ),
    "another journal's key": (
        {"journal": lambda held: {**held, "key": "cd" * 32}},
        {(JOURNAL, "signer")},
    ),
    "another journal": ({"journal": lambda held: {**held, "hash": "cd" * 32}}, {(JOURNAL, "hash")}),
    "a longer journal": (
        {"journal": lambda held: {**held, "entries": held["entries"] + 1}},
        {(JOURNAL, "entries")},
    ),
    "no journal": ({"journal": None}, {(RELEASE, "journal")}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_statement_that_says_otherwise_is_found_and_nothing_else_is_blamed(forger, lie):
    changes, expected = LIES[lie]
    forger.statement(**changes)
    own = f"{LEDGERS}/{forger.nodes[0]}.jsonl"
    wrong = {
        ("LEDGER" if file == own else file, field)
        for file, _, field in found(audit_run(forger.folder))
    }
    assert expected <= wrong
    extra = {(MANIFEST, "prv")} if lie == "a shorter ledger" else set()
    assert wrong <= expected | extra


def test_a_page_that_says_more_than_the_record_is_found(forger):
    forger.release(page=b"# Privacy statement\n\nNothing can go wrong.\n")
    for report in (audit_run(forger.folder), audit_release(forger.folder / RELEASE)):
        assert found(report) == [(f"{RELEASE}/{STATEMENT_FILE}", None, "text")]


def test_an_adapter_that_no_round_made_is_found(forger):
    forger.release(lambda document: document["adapter"].update(digest="ab" * 32))
    report = audit_run(forger.folder)
    assert named(report, f"{RELEASE}/adapter/adapter_model.safetensors", "adapter.digest")
    assert named(report, JOURNAL, "adapter")


# ------------------------------------------------------- lies of a merchant and the server
def test_a_cut_ledger_is_missed_by_the_journal(forger):
    node = forger.nodes[0]
    forger.ledger(node, lambda entries: entries[:-1])
    report = audit_run(forger.folder)
    assert (f"{LEDGERS}/{node}.jsonl", 4, "rollback") in found(report)
    assert named(report, f"{LEDGERS}/{node}.jsonl", "round_number")
    assert named(report, MANIFEST, "epsilon")


def test_an_entry_below_its_plans_price_is_found(forger):
    node = forger.nodes[0]
    forger.ledger(
        node,
        lambda entries: [
            *entries[:-1],
            replace(entries[-1], noise_multiplier=2 * entries[-1].noise_multiplier),
        ],
    )
    report = audit_run(forger.folder)
    assert (f"{LEDGERS}/{node}.jsonl", 4, "noise_multiplier") in found(report)
    assert named(report, f"{LEDGERS}/{node}.jsonl", "rollback")


def test_lanes_that_were_not_committed_to_before_training_do_not_count(forger):
    forger.journal(lambda entries: [one for one in entries if one.kind != "lanes"])
    assert [one[2] for one in found(audit_run(forger.folder))] == ["commitment"] * 2
    assert audit_release(forger.folder / RELEASE).passed  # alone it cannot be told


def test_lanes_that_were_committed_to_after_training_do_not_count(forger):
    def late(entries):
        return [
            *(one for one in entries if one.kind != "lanes"),
            *(one for one in entries if one.kind == "lanes"),
        ]

    forger.journal(late)
    report = audit_run(forger.folder)
    assert [one[2] for one in found(report)] == ["commitment"] * 2
    assert "after a round" in str(by_name(report, "Lanes: committed")[0].findings[0])


def test_lanes_with_other_bits_are_not_those_committed_to(forger):
    records = unpack_records((forger.folder / LANES).read_bytes())
    first = min(records)
    records[first] = replace(records[first], bits=~records[first].bits)
    forger.release(**{LANES_FILE: pack_records(records.values())})
    report = audit_run(forger.folder)
    assert named(report, LANES, "commitment")
    assert named(report, LANES, "epsilon") or named(report, LANES, "one_run")


def test_lanes_that_hide_a_step_are_told_and_such_of_a_step_never_charged_are_wrong(forger):
    records = unpack_records((forger.folder / LANES).read_bytes())
    first = min(records)
    whole = records[first]
    records[first] = replace(whole, rounds=whole.rounds + 7)
    forger.release(**{LANES_FILE: pack_records(records.values())})
    report = audit_run(forger.folder)
    assert found(report) == [(LANES, None, "rounds")] * 3
    records[first] = replace(whole, rounds=whole.rounds[:-1], lanes=whole.lanes[:-1])
    forger.release(**{LANES_FILE: pack_records(records.values())})
    report = audit_run(forger.folder)
    assert named(report, LANES, "steps")  # the statement says three
    assert "1 charged steps were not watched" in by_name(report, "Lanes: committed")[0].detail


def test_a_merchant_in_a_round_without_a_head_is_found(forger):
    def headless(entries):
        return [
            replace(one, receipts=one.receipts[1:]) if one.kind == "train" else one
            for one in entries
        ]

    forger.journal(headless)
    wrong = found(audit_run(forger.folder))
    assert {(file, field) for file, _, field in wrong} == {(JOURNAL, "receipts")}
    assert len(wrong) == 3


def test_a_round_of_no_run_and_a_plan_under_anothers_digest_are_found(forger):
    forger.journal(lambda entries: [one for one in entries if one.kind != "run"])
    assert named(audit_run(forger.folder), JOURNAL, "run_id")


def test_a_plan_under_another_digest_is_found(forger):
    def swapped(entries):
        return [
            replace(one, plan=one.plan.replace('"steps":3', '"steps":2'))
            if one.kind == "run"
            else one
            for one in entries
        ]

    forger.journal(swapped)
    assert (JOURNAL, 1, "plan_digest") in found(audit_run(forger.folder))
