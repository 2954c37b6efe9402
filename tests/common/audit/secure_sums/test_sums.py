"""A run with distributed noise, exported: its sums are taken again, and a forged one is found."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from common.audit.audits import audit_release, audit_run
from common.audit.layout import CONTRIBUTIONS, RELEASE
from common.federation.contribution_files import sum_file
from common.federation.framing_file import FRAMING_FILE
from common.federation.secure_step import summed_season
from common.privacy.secagg.replay import sum_again
from common.privacy.secagg.transcript import Transcript
from common.release.manifest import CANARY_SUMS_FILE
from tests.support.forging import by_name, found
from tests.support.honest_runs import HonestRun

NAMES = ("Zoë's", "ash", "birch", "茶叶店", "elm", "fir")
AGAIN = "Sums: taken again from what the nodes signed"
REBUILT = "Adapter: made again from the sums, to the bit"


@pytest.fixture(scope="module")
def exported(tiny_bert, tmp_path_factory):
    """One honest run's folder and the key to audit it by."""
    root = tmp_path_factory.mktemp("sums")
    run = HonestRun(
        root / "out",
        tiny_bert,
        NAMES,
        cache=root / "cache",
        noise="distributed",
        epsilon=2.0,
        season_ends="2020-01-01",
    )
    return run.export(run.train())


@pytest.fixture
def copy(exported, tmp_path):
    folder, key = exported
    return shutil.copytree(folder, tmp_path / "run"), key


def test_an_honest_run_passes_and_tells_epsilon_by_who_is_absent(exported):
    report = audit_run(*exported)
    assert found(report) == []
    assert report.verdict == "passed"
    assert not [one for one in report.checks if one.status == "skipped"]
    (absent,) = by_name(report, "Absent merchants: epsilon computed again from the plan")
    assert absent.detail.count(":") == 4  # missing or with the server: 0, 1 and 2
    (again,) = by_name(report, AGAIN)
    assert "sums of 6 to 6 merchants; the plan's noise needs 4 of 6" in again.detail
    (rebuilt,) = by_name(report, REBUILT)
    assert rebuilt.status == "passed"
    (columns,) = by_name(report, "Canaries: the columns are those of the sums")
    assert "of everybody's noise" in columns.detail


def test_the_release_alone_passes_with_its_canaries(exported):
    folder, key = exported
    report = audit_release(folder / RELEASE, key)
    assert found(report) == []
    (sums,) = by_name(report, "Canaries: what the sums show of them")
    assert sums.detail == "2 sums, 32 columns of 6 merchants"


def fields(folder, key):
    return {
        (check.name, one.field) for check in audit_run(folder, key).checks for one in check.findings
    }


def test_a_transcript_that_is_missing_or_of_another_round_is_found(copy):
    folder, key = copy
    place = folder / CONTRIBUTIONS
    first = (place / sum_file(1, "train")).read_bytes()
    (place / sum_file(2, "train")).write_bytes(first)
    assert (AGAIN, "round_number") in fields(folder, key)
    (place / sum_file(2, "train")).unlink()
    assert fields(folder, key) == {(AGAIN, "file")}
    (place / sum_file(2, "train")).write_bytes(b"rubbish")
    assert fields(folder, key) == {(AGAIN, "transcript")}


def test_sums_under_other_settings_than_the_release_names_are_found(exported, monkeypatch):
    """Every party signed for settings and basis: an operator cannot put others beside its sums."""
    from common.audit import rebuilt as module

    monkeypatch.setattr(module, "run_digest", lambda *_: "f" * 64)
    assert (AGAIN, "setup") in fields(*exported)


def test_a_sum_with_another_count_of_canaries_is_found(exported, monkeypatch):
    from common.audit.secure_sums import sums as module

    gradient = module._gradient
    monkeypatch.setattr(
        module, "_gradient", lambda *given: (gradient(*given)[0], gradient(*given)[1][1:])
    )
    assert (REBUILT, "canaries") in fields(*exported)


def few(_transcript, total):
    return total and replace(total, survivors=total.survivors[:3])


def many(transcript, _total):
    if transcript is None:
        return None
    roster = transcript.roster
    twice = replace(roster, advertisements=roster.advertisements * 2)
    return replace(transcript, roster=twice)


def of(**terms):
    def change(transcript, _total):
        return transcript and replace(transcript, terms=replace(transcript.terms, **terms))

    return change


def shown_as(monkeypatch, change):
    """Let an audit see sums that are signed and open, and say something else than they do."""
    from common.audit.secure_sums import evidence as module

    changed = {}

    class Changed:
        @staticmethod
        def from_bytes(content):
            found = Transcript.from_bytes(content)
            other = change(found, None) or found
            changed[id(other)] = found, other
            return other

    def again(transcript, signers):
        total = sum_again(changed[id(transcript)][0], signers)
        return change(None, total) or total

    monkeypatch.setattr(module, "Transcript", Changed)
    monkeypatch.setattr(module, "sum_again", again)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (few, {"survivors", "participants"}),
        (many, {"merchants"}),
        (of(run_id="another"), {"run_id"}),
        (of(plan_digest="f" * 64), {"plan_digest"}),
    ],
    ids=["of fewer than carry the noise", "of more than the plan's", "another run", "another plan"],
)
def test_whose_sum_it_is_and_of_what_is_held_against_journal_and_plan(
    exported, monkeypatch, change, named
):
    """Sums that are signed and open, and are not those that the release needs."""
    shown_as(monkeypatch, change)
    assert {field for name, field in fields(*exported) if name == AGAIN} == named


def test_a_sum_taken_at_another_adapter_is_found(exported, monkeypatch):
    def asked(transcript, _total):
        if transcript is None:
            return None
        masked = tuple(
            replace(one, binding=replace(one.binding, asked="f" * 64)) for one in transcript.masked
        )
        return replace(transcript, masked=masked)

    shown_as(monkeypatch, asked)
    assert (REBUILT, "asked") in fields(*exported)


def test_an_adapter_that_nobody_was_asked_for_is_not_signed(copy):
    folder, key = copy
    path = folder / CONTRIBUTIONS / sum_file(1, "train")
    found = Transcript.from_bytes(path.read_bytes())

    def bound(messages):
        return tuple(replace(one, binding=replace(one.binding, asked="f" * 64)) for one in messages)

    other = replace(found, masked=bound(found.masked), replies=bound(found.replies))
    path.write_bytes(other.to_bytes())
    assert (AGAIN, "signature") in fields(folder, key)


def test_a_masked_vector_that_nobody_signed_is_found(copy):
    folder, key = copy
    path = folder / CONTRIBUTIONS / sum_file(1, "train")
    tensors = load(path.read_bytes())
    name = next(one for one in sorted(tensors) if one.startswith("masked/"))
    tensors[name] = tensors[name].copy()
    tensors[name][-8] ^= 1  # the last number
    path.write_bytes(save(tensors))
    assert (AGAIN, "signature") in fields(folder, key)


def test_a_share_that_was_altered_opens_nothing_or_is_not_signed(copy):
    folder, key = copy
    path = folder / CONTRIBUTIONS / sum_file(1, "train")
    tensors = load(path.read_bytes())
    for name in [one for one in tensors if one.startswith("unmask/")][:3]:
        del tensors[name]
    path.write_bytes(save(tensors))
    assert {name for name, _ in fields(folder, key)} == {AGAIN}


def test_a_framing_of_another_model_comes_to_another_adapter(copy):
    folder, key = copy
    path = folder / CONTRIBUTIONS / FRAMING_FILE
    tensors = load(path.read_bytes())
    frame = next(one for one in tensors if one.startswith("frame/"))
    tensors[frame] = tensors[frame] * 1.5
    path.write_bytes(save(tensors))
    assert (REBUILT, "adapter") in fields(folder, key)
    path.unlink()
    assert fields(folder, key) == {(REBUILT, "framing")}


@pytest.mark.parametrize("field", ["vectors", "merchants"])
def test_a_season_that_the_sum_does_not_come_to_is_found(exported, monkeypatch, field):
    from common.audit.secure_sums import sums as module

    def other(*arguments):
        season = summed_season(*arguments)
        return replace(season, **{field: getattr(season, field) * 2})

    monkeypatch.setattr(module, "summed_season", other)
    assert fields(*exported) == {("Season: made again from the sum, to the bit", field)}


def test_columns_that_the_sums_did_not_show_are_found(exported, tmp_path, monkeypatch):
    """The operator signs a release whose columns have more noise than the sums had."""
    from common.audit.secure_sums import sums as module
    from common.privacy.mechanism.sum_canaries import CanarySums

    folder, key = exported
    sums = CanarySums.from_bytes((folder / RELEASE / CANARY_SUMS_FILE).read_bytes())
    object.__setattr__(sums, "columns", (sums.columns * 2).astype(np.float32))
    monkeypatch.setattr(module, "read_canary_sums", lambda _: sums)
    shown = "Canaries: the columns are those of the sums"
    assert (shown, "canaries") in fields(folder, key)
    few = CanarySums.start(sums.run_id, sums.plan, sums.roster, sums.columns.shape[1])
    few = few.observed(2, sums.roster, sums.columns[0].astype(np.float64), 1.0)
    monkeypatch.setattr(module, "read_canary_sums", lambda _: few)
    assert (shown, "canaries") in fields(folder, key)
    other = replace(sums, run_id="another")
    monkeypatch.setattr(module, "read_canary_sums", lambda _: other)
    assert (shown, "run_id") in fields(folder, key)


def test_a_run_that_was_stopped_passes_and_tells_which_sums_are_not_shown(tiny_bert, tmp_path):
    run = HonestRun(
        tmp_path / "out",
        tiny_bert,
        NAMES[:5],
        cache=tmp_path / "cache",
        noise="distributed",
        epsilon=2.0,
    )
    assert run.train(stop_after=1) is None
    report = audit_run(*run.export(run.train()))
    assert found(report) == []
    (again,) = by_name(report, AGAIN)
    assert again.status == "passed"
    (shown,) = by_name(report, "Canaries: the columns are those of the sums")
    assert "1 sums, before a restart or another setup, are not shown" in shown.detail
