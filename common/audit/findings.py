"""What an audit found: a list of checks, each passed or with findings that name what is wrong."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from common.errors import FedtailError
from common.record import Record

Status = Literal["passed", "noted", "skipped", "failed"]
Kind = Literal["ledger", "release", "run"]
Verdict = Literal["passed", "not authenticated", "failed"]

_PLACE = re.compile(r"\b(?:Entry|Line) (\d+)\b")


class Finding(Record):
    """One thing that is wrong.

    Attributes:
        file: In which file, below what was audited.
        entry: Which entry of it, from 1; null where it has none.
        field: Which field.
        message: What is wrong with it.
    """

    file: str
    entry: int | None
    field: str
    message: str

    def __str__(self) -> str:
        place = "" if self.entry is None else f", entry {self.entry}"
        return f"{self.file}{place}, {self.field}: {self.message}"


class Check(Record):
    """One check: `noted` passed with a remark to read, `skipped` could not be made.

    Attributes:
        name: What was checked.
        subject: Of which merchant; empty where it is of the whole run.
        status: What came of it.
        detail: What was looked at.
        findings: What is wrong.
    """

    name: str
    subject: str
    status: Status
    detail: str
    findings: tuple[Finding, ...]


class CurvePoint(Record):
    """Epsilon by PLD of all entries up to this one."""

    entry: int
    time: float
    epsilon: float


class MerchantAudit(Record):
    """One merchant's claim beside what was computed; null where it could not be, or is infinite.

    Attributes:
        name: The merchant's.
        node: The name on its ledger.
        entries: How many entries of its ledger the claim must cover.
        claimed: Epsilon as the statement claims it.
        delta: At which every epsilon here is.
        pld: Computed from the entries.
        second: The same by the second accountant.
        rdp: The same by Rényi accounting, which the budget is held by.
        lower: What its revealed canaries prove.
        one_run: The same by the bound that assumes nothing.
        canaries: How many there were.
        curve: Epsilon as it grew.
    """

    name: str
    node: str
    entries: int | None = None
    claimed: float | None = None
    delta: float | None = None
    pld: float | None = None
    second: float | None = None
    rdp: float | None = None
    lower: float | None = None
    one_run: float | None = None
    canaries: int | None = None
    curve: tuple[CurvePoint, ...] = ()


class Several(Record):
    """Epsilon of a shopper at so many merchants, for both DP models of the noise."""

    merchants: int
    local: float
    central: float


class Report(Record):
    """All that one audit found; `audit-*.json` is this record.

    Attributes:
        kind: What was audited.
        target: Its path as it was given.
        created: When, UTC, ISO 8601.
        verdict: `failed` if something is wrong. `not authenticated` if nothing is, but the key
            that everything hangs on came with the files: whoever made them up made the key up too.
        accountants: What computed epsilon, first and second.
        keys: The keys that signatures were checked with, hex, by what they sign: compare them on
            another way than you got the files.
        DP model: Where the noise was added; empty where there is no statement.
        checks: In the order in which they were made.
        merchants: One for each ledger.
        several: For a shopper of several merchants.
        not_protected: What no number here covers.
    """

    format: Literal["fedtail-audit"] = "fedtail-audit"
    format_version: Literal[2] = 2
    kind: Kind
    target: str
    created: str
    verdict: Verdict
    accountants: dict[str, str]
    keys: dict[str, str]
    dp_model: str = ""
    checks: tuple[Check, ...]
    merchants: tuple[MerchantAudit, ...]
    several: tuple[Several, ...] = ()
    not_protected: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, by a key that the auditor brought."""
        return self.verdict == "passed"


class Marks:
    """What one check has found so far."""

    def __init__(self, file: str) -> None:
        self.file, self.detail = file, ""
        self.status: Status = "passed"
        self.findings: list[Finding] = []

    def says(self, detail: str) -> None:
        """Tell what was looked at."""
        self.detail = detail

    def note(self, detail: str) -> None:
        """Tell what a reader should know, though nothing is wrong."""
        self.status = "noted" if self.status == "passed" else self.status
        self.detail = f"{self.detail}; {detail}" if self.detail else detail

    def skip(self, why: str) -> None:
        """Tell why the check cannot be made."""
        self.status, self.detail = "skipped", why

    def wrong(
        self, field: str, message: str, *, entry: int | None = None, file: str | None = None
    ) -> None:
        """Add a finding."""
        named = Finding(file=file or self.file, entry=entry, field=field, message=message)
        self.findings.append(named)
        self.status = "failed"


class Checklist:
    """The checks of one audit, in order."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    @contextmanager
    def check(self, name: str, file: str, subject: str = "") -> Iterator[Marks]:
        """Make one check, of one merchant or of all; what is raised in it is a finding in `file`.

        Errors of ours and of the disk are findings: they are what a damaged file looks like. So is
        JSON nested so deep that Python gives up: somebody made it so.
        """
        marks = Marks(file)
        try:
            yield marks
        except FedtailError as error:
            place = _PLACE.search(str(error))
            entry = int(place[1]) if place else None
            marks.wrong(error.field or "content", str(error), entry=entry)
        except OSError as error:
            marks.wrong("file", f"It cannot be read: {error.strerror}.")
        except RecursionError:
            marks.wrong("content", "It is nested too deep to be read.")
        self.checks.append(
            Check(
                name=name,
                subject=subject,
                status=marks.status,
                detail=marks.detail,
                findings=tuple(marks.findings),
            )
        )

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return all(one.status != "failed" for one in self.checks)
