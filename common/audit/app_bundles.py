"""Hold what ledgers, journal and statement say of the code that ran against each other."""

from collections.abc import Mapping, Sequence

from common.audit.findings import Checklist
from common.audit.layout import JOURNAL, LEDGERS, RELEASE
from common.privacy.ledger.entry import Entry
from common.privacy.ledger.journal import JournalEntry
from common.release.manifest import MANIFEST_FILE
from common.release.statement import Statement


def check_app_bundles(
    sheet: Checklist,
    statement: Statement,
    journal: Sequence[JournalEntry] | None,
    ledgers: Mapping[str, Sequence[Entry]],
) -> None:
    """Check that each charge of the run was made by an app bundle that the statement names.

    A bundle that the merchant let in although it was not its own can write any digest. What this
    finds is an operator that ran one code and names another.

    Args:
        sheet: Takes the findings.
        statement: Of a verified release.
        journal: The server's; None where it cannot be trusted.
        ledgers: By node.
    """
    told, plan = set(statement.app_sha256), statement.privacy_plan.digest
    with sheet.check("Code: the app bundle that ran, in ledgers and journal", RELEASE) as marks:
        for entry in journal or ():
            if entry.kind == "run" and entry.plan_digest == plan and entry.app_digest not in told:
                if entry.app_digest:
                    reason = "The server ran an app bundle that the statement does not name."
                elif told:
                    reason = "The server did not say which app bundle it ran."
                else:
                    continue
                marks.wrong("app_digest", reason, entry=entry.number, file=JOURNAL)
        for node, entries in ledgers.items():
            of_run = (one for one in entries if one.plan_digest == plan)
            other = next((one for one in of_run if one.app_digest not in (told or {""})), None)
            if other is not None:
                marks.wrong(
                    "app_digest",
                    "It was charged by an app bundle that the statement does not name.",
                    entry=other.number,
                    file=f"{LEDGERS}/{node}.jsonl",
                )
        if told:
            marks.says(", ".join(sorted(told)))
        else:
            marks.note(f"{RELEASE}/{MANIFEST_FILE} does not say which app bundle ran")
