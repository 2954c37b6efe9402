"""What is made again of a run and held to it: its rounds, its adapter step by step, its settings.

The same for vectors that each node signed and for sums of masked ones.
"""

from collections.abc import Callable, Sequence

from common.adapter import AdapterState
from common.audit.findings import Marks
from common.audit.layout import RELEASE
from common.errors import InputError
from common.federation.optimiser import OptimiserState
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.journal import JournalEntry
from common.release.manifest import BASIS_FILE, MANIFEST_FILE
from common.release.verify import VerifiedRelease
from common.settings.run import RunSettings, Scalar, run_digest

Place = tuple[str, int]  # a kind of round, and its number
Descended = tuple[AdapterState, OptimiserState]
StepOf = Callable[[JournalEntry, AdapterState, OptimiserState], Descended | None]


def demand_places(marks: Marks, plan: PrivacyPlan, rounds: Sequence[JournalEntry]) -> None:
    """Find fault with each round, histogram and season of the plan that is not among `rounds`."""
    there = {place_of(one) for one in rounds}
    for place in needed(plan):
        if place not in there:
            marks.wrong("round_number", f"{told_of(place)} is not behind the adapter.")


def needed(plan: PrivacyPlan) -> list[Place]:
    """Return what must be behind the last round's adapter, in order."""
    once = [("popularity", 0)] if plan.takes_histogram else []
    once += [("season", 0)] if plan.takes_season else []
    return [*once, *(("train", number) for number in range(1, plan.rounds + 1))]


def place_of(entry: JournalEntry) -> Place:
    """Return which round an entry of the journal is about."""
    return entry.kind, entry.round_number


def told_of(place: Place) -> str:
    """Return what a round is called where a finding begins with it."""
    kind, number = place
    return f"Round {number}" if number else "The season" if kind == "season" else "The histogram"


def compare_adapter(
    marks: Marks,
    release: VerifiedRelease,
    trained: Sequence[JournalEntry],
    start: AdapterState,
    step_of: StepOf,
) -> None:
    """Take every round's step again, and compare what it comes to with journal and release.

    Args:
        marks: Takes the findings.
        release: Verified.
        trained: The rounds, in order.
        start: The adapter before the first.
        step_of: Gives adapter and optimiser after a round; None where it found a fault.
    """
    adapter, state = start, OptimiserState.empty(start.size)
    for entry in trained:
        after = step_of(entry, adapter, state)
        if after is None:
            break
        adapter, state = after
        if adapter.digest != entry.adapter:
            told = f"{told_of(place_of(entry))} comes to another adapter than the journal says."
            marks.wrong("adapter", told, entry=entry.number)
            break
    if adapter.digest != release.manifest.adapter.digest:
        file = f"{RELEASE}/{MANIFEST_FILE}"
        marks.wrong("adapter.digest", "The rounds come to another adapter.", file=file)
    marks.says(f"{len(trained)} rounds, {adapter.size} numbers, {adapter.digest[:16]}…")


def setup_of(release: VerifiedRelease) -> str:
    """Return the digest of the release's settings and basis, which every party signed for.

    Raises:
        InputError: if a setting is not a scalar.
    """
    settings: dict[str, Scalar] = {}
    for name, value in release.manifest.adapter.settings.items():
        if not isinstance(value, bool | int | float | str):
            raise InputError("A setting in the manifest is not a scalar.", field="settings")
        settings[name] = value
    return run_digest(settings, release.files[BASIS_FILE])


def settings_of(release: VerifiedRelease) -> RunSettings:
    """Return a release's settings.

    Raises:
        SettingsError: if they are none.
    """
    return RunSettings.from_flat(dict(release.manifest.adapter.settings))
