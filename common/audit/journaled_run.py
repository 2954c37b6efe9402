"""The run that an adapter comes from, as the journal has it: every round that its plan demands.

What a release says of itself only tells where to look. What must be there follows from the plan:
its histogram, its season, each round from the first to the last, and whoever took part in any. Of
a refresh that is its season, and nothing else may be there.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from common.audit.findings import Checklist, Marks
from common.audit.layout import JOURNAL, MANIFEST
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.journal import JournalEntry
from common.release.manifest import Manifest
from common.release.statement import Statement


@dataclass(frozen=True)
class JournaledRun:
    """The rounds behind an adapter.

    Attributes:
        plan: The release's.
        histogram: The entry of the histogram of popularity; None where the plan takes none, or
            where it is missing.
        rounds: The rounds that were found, in order; all of 1 to `plan.rounds` in an honest run.
        season: The entry of the season; None where the plan takes none, or where it is missing.
    """

    plan: PrivacyPlan
    histogram: JournalEntry | None
    rounds: tuple[JournalEntry, ...]
    season: JournalEntry | None = None

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """The histogram and the season, if there are any, and the rounds."""
        once = (one for one in (self.histogram, self.season) if one is not None)
        return (*once, *self.rounds)

    @property
    def nodes(self) -> frozenset[str]:
        """Whoever took part in any of it, by the name on ledger and journal."""
        return frozenset(name for entry in self.entries for name in entry.participants)

    @property
    def trained(self) -> frozenset[str]:
        """Whoever took part in a round."""
        return frozenset(name for entry in self.rounds for name in entry.participants)


def pinned(journal: Sequence[JournalEntry], statement: Statement) -> tuple[JournalEntry, ...]:
    """Return the part of a journal that a release pins: what came later is no part of it."""
    return tuple(journal[: 0 if statement.journal is None else statement.journal.entries])


def find_run(
    sheet: Checklist, manifest: Manifest, journal: Sequence[JournalEntry] | None
) -> JournaledRun | None:
    """Find the rounds behind a release's adapter on the journal that it pins.

    A run has a number for each start, and a round that a crash cut short is on the journal more
    than once. So rounds are found going back from the last: each is the latest of its number
    before the one that follows it.

    Args:
        sheet: Takes the findings.
        manifest: Of a verified release.
        journal: Read and checked; None where there is none that can be trusted.

    Returns:
        None if there is no journal, or no round on it came to the adapter.
    """
    run: JournaledRun | None = None
    with sheet.check("Adapter: what the last round of its plan came to", JOURNAL) as marks:
        if journal is None:
            marks.skip("there is no journal that can be trusted")
        else:
            run = _found(marks, manifest, journal)
    with sheet.check("Journal: every round that the plan demands", JOURNAL) as marks:
        if run is None:
            marks.skip("no round on the journal came to the adapter")
        else:
            _demand_rounds(marks, run)
            _demand_merchants(marks, run)
            rounds = f"{len(run.rounds)} of {run.plan.rounds} rounds"
            told = rounds if run.plan.trains else "a season and no rounds"
            marks.says(f"{told}, {len(run.nodes)} merchants")
    return run


def _found(
    marks: Marks, manifest: Manifest, journal: Sequence[JournalEntry]
) -> JournaledRun | None:
    statement = manifest.privacy
    plan, runs = statement.privacy_plan, set(statement.run_ids)
    own = [
        one
        for one in pinned(journal, statement)
        if one.plan_digest == plan.digest and one.run_id in runs
    ]
    last = _last_round(marks, plan, manifest.adapter.digest, own)
    if last is None:
        return None
    told = f"round {last.round_number}" if plan.trains else "kept as it was by the season"
    marks.says(f"{told} of run {last.run_id}")
    return _behind(plan, own, last)


def _last_round(
    marks: Marks, plan: PrivacyPlan, adapter: str, own: Sequence[JournalEntry]
) -> JournalEntry | None:
    kind = "train" if plan.trains else "season"
    made = [one for one in own if one.kind == kind and one.adapter == adapter]
    if not made:
        marks.wrong("adapter", "No round of the statement's plan and run came to this adapter.")
        return None
    if not plan.trains:
        _refuse_rounds(marks, own)
        return made[-1]
    ended = [one for one in made if one.round_number == plan.rounds]
    if not ended:
        marks.wrong(
            "round_number",
            f"The adapter is what round {made[-1].round_number} came to; its plan has "
            f"{plan.rounds}.",
            entry=made[-1].number,
        )
    return (ended or made)[-1]


def _refuse_rounds(marks: Marks, own: Sequence[JournalEntry]) -> None:
    """Find fault with whatever a refresh took of the shoppers beside its season."""
    for entry in own:
        if entry.kind in {"train", "popularity"}:
            marks.wrong(
                "kind",
                "The plan takes a season and has no rounds, and something else was taken.",
                entry=entry.number,
            )


def _behind(plan: PrivacyPlan, own: Sequence[JournalEntry], last: JournalEntry) -> JournaledRun:
    """Return histogram, season and the rounds up to `last`, as far as they are there."""
    if not plan.trains:
        return JournaledRun(plan, None, (), last)
    by_round: dict[tuple[str, int], list[JournalEntry]] = {}
    for entry in own:
        by_round.setdefault((entry.kind, entry.round_number), []).append(entry)

    def latest(kind: str, number: int, before: int) -> JournalEntry | None:
        alike = by_round.get((kind, number), [])
        place = bisect_left(alike, before, key=lambda one: one.number)
        return alike[place - 1] if place else None

    rounds = [last]
    for number in range(last.round_number - 1, 0, -1):
        found = latest("train", number, rounds[-1].number)
        if found is not None:
            rounds.append(found)
    season = latest("season", 0, rounds[-1].number)
    histogram = latest("popularity", 0, (season or rounds[-1]).number)
    return JournaledRun(plan, histogram, tuple(reversed(rounds)), season)


def _demand_rounds(marks: Marks, run: JournaledRun) -> None:
    """Find fault with each stretch of rounds that is missing, and with what must come before."""
    plan, expected = run.plan, 1
    for entry in run.rounds:
        if entry.round_number > expected:
            marks.wrong(
                "round_number",
                f"{_rounds(expected, entry.round_number - 1)} of the plan's {plan.rounds} "
                f"{'is' if entry.round_number - 1 == expected else 'are'} not before it.",
                entry=entry.number,
            )
        expected = entry.round_number + 1
    if expected <= plan.rounds:
        marks.wrong(
            "round_number",
            f"{_rounds(expected, plan.rounds)} of the plan's {plan.rounds} must follow it.",
            entry=run.rounds[-1].number,
        )
    if plan.takes_histogram and run.histogram is None:
        marks.wrong(
            "kind",
            "The plan takes a histogram of popularity, and none is before the first round.",
            entry=run.rounds[0].number,
        )
    if plan.takes_season and run.season is None:
        marks.wrong(
            "kind",
            "The plan takes a season, and none is before the first round.",
            entry=run.rounds[0].number,
        )


def _rounds(first: int, last: int) -> str:
    return f"Round {first}" if first == last else f"Rounds {first} to {last}"


def _demand_merchants(marks: Marks, run: JournaledRun) -> None:
    """Find fault with a round of nobody, or one whose shared noise lacks a merchant's part.

    Of a round that was given up `common.audit.secure_sums.failed` asks whether it may be nobody's.
    """
    for entry in run.entries:
        if entry.given_up and run.plan.dp_model == "distributed":
            continue
        count = len(set(entry.participants))
        if not count or count != len(entry.participants):
            marks.wrong("participants", "It names nobody, or somebody twice.", entry=entry.number)
        elif run.plan.dp_model == "central" and count != run.plan.merchants:
            marks.wrong(
                "participants",
                f"{count} merchants took part; the noise is shared by {run.plan.merchants}.",
                entry=entry.number,
            )


def check_merchants(sheet: Checklist, statement: Statement, run: JournaledRun | None) -> None:
    """Check that the statement names every merchant that the adapter learnt from."""
    title = "Statement: every merchant that the adapter learnt from"
    with sheet.check(title, MANIFEST) as marks:
        if run is None:
            marks.skip("the run is not on a journal that can be trusted")
            return
        told = {one.node for one in statement.ledgers.values()}
        for node in sorted(run.nodes - told):
            first = next(one.number for one in run.entries if node in one.participants)
            marks.wrong(
                "ledgers",
                f"{node!r} took part (entry {first} of the journal), and the statement does not "
                "name it.",
            )
        marks.says(f"{len(run.nodes)} merchants")
