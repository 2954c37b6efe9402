"""Check the sums of a run that failed: each stays charged, none is hidden, and they are few.

Of one that was beyond bounds the server has seen the sum, and must show what the nodes signed: a
sum that did not fail is found. That too few answered is the server's word, as it is that a round
had to be stopped; whoever lies so gives up a round that was paid for, and learns nothing by it.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common.audit.findings import Checklist, Marks
from common.audit.layout import CONTRIBUTIONS, JOURNAL
from common.audit.rebuilt import place_of, settings_of, setup_of, told_of
from common.audit.secure_sums.evidence import KINDS, signers_at, take_again
from common.errors import FederationError
from common.federation.failed_sums import ENDED, MOST_FAILED, failed_file, is_beyond
from common.federation.secure_step import decoded
from common.privacy.ledger.journal import JournalEntry
from common.release.verify import VerifiedRelease

_FAILED = "Failed sums: each is charged and told, and did fail"


def check_failed(
    sheet: Checklist,
    release: VerifiedRelease,
    folder: Path,
    rounds: Sequence[JournalEntry],
    journal: Sequence[JournalEntry],
) -> None:
    """Check every sum of the run that the journal says has failed.

    Args:
        sheet: Takes the findings.
        release: Verified, of a run with distributed noise.
        folder: The run's exported files.
        rounds: Histogram, season and rounds behind the adapter, in order.
        journal: All of it that the release knows.
    """
    statement = release.manifest.privacy
    digest, runs = statement.privacy_plan.digest, set(statement.run_ids)
    with sheet.check(_FAILED, JOURNAL) as marks:
        found = [
            one
            for one in journal
            if one.failed and one.plan_digest == digest and one.run_id in runs
        ]
        count, shown = Counter[str](), 0
        for entry in found:
            told = told_of(place_of(entry))
            if entry.participants:
                text = f"{told}: it failed, and merchants took part."
                marks.wrong("participants", text, entry=entry.number)
            elif entry.reason == ENDED:
                if count[entry.run_id] < MOST_FAILED or entry.receipts:
                    text = f"{told}: it was given up before {MOST_FAILED} sums had failed."
                    marks.wrong("reason", text, entry=entry.number)
                continue
            count[entry.run_id] += 1
            if count[entry.run_id] > MOST_FAILED:
                text = f"{told}: more than {MOST_FAILED} sums of one start have failed."
                marks.wrong("reason", text, entry=entry.number)
            if is_beyond(entry.reason, entry.kind):
                _check_beyond(marks, release, folder, entry, journal)
                shown += 1
        steps = sum(not one.given_up for one in rounds if one.round_number)
        given_up = sum(one.given_up for one in rounds)
        marks.says(f"{count.total()} failed; {steps} rounds made a step, {given_up} were given up")
        if found:
            marks.note(
                f"{shown} of them were beyond what honest merchants give, as their transcripts "
                f"show; that too few answered in {count.total() - shown} is the server's word"
            )


def _check_beyond(
    marks: Marks,
    release: VerifiedRelease,
    folder: Path,
    entry: JournalEntry,
    journal: Sequence[JournalEntry],
) -> None:
    """Check that a sum was opened as the journal says, and is beyond what honest parties give."""
    plan, kind = release.manifest.privacy.privacy_plan, KINDS[entry.kind]
    path = folder / CONTRIBUTIONS / failed_file(entry.number)
    signers = signers_at(journal, entry)
    taken = take_again(marks, path, entry, plan, setup_of(release), signers)
    if taken is None:
        return
    told, file = told_of(place_of(entry)), f"{CONTRIBUTIONS}/{path.name}"
    if kind == "train" and taken.asked != entry.adapter:
        marks.wrong("asked", f"{told}: it was taken at another adapter.", file=file)
    columns = settings_of(release).audit_canaries if kind == "train" else 0
    try:
        decoded(taken.total, plan, kind, columns)
    except FederationError as error:
        if error.public() != entry.reason:
            text = f"{told}: it fails by {error.public()}, and not as the journal says."
            marks.wrong("reason", text, file=file)
    else:
        text = f"{told}: it did not fail: it is within what honest merchants give."
        marks.wrong("reason", text, file=file)
