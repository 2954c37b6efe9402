"""Make the adapter again from what each node signed that it sent, round after round, to the bit.

The journal says who took part and what each one signed; the folder `contributions` has the vectors.
The mean and the step are the server's own code. So an adapter that these vectors do not come to is
found, whoever signed it, and a vector that is not what a node sent is named by merchant and round.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from common.adapter import AdapterState
from common.arrays import load_arrays
from common.audit.evidence import Evidence
from common.audit.findings import Checklist, Marks
from common.audit.layout import CONTRIBUTIONS, JOURNAL, RELEASE
from common.audit.rebuilt import (
    Descended,
    Place,
    compare_adapter,
    demand_places,
    place_of,
    settings_of,
    setup_of,
    told_of,
)
from common.audit.seals import Signed, Vectors, check_seals
from common.audit.season import check_season_sum
from common.audit.secure_sums.sums import check_sums
from common.errors import FedtailError, InputError, ReleaseError
from common.federation.contribution_files import read_round, round_file
from common.federation.descent import Descent
from common.federation.optimiser import OptimiserState
from common.privacy.accounting.plan import EventKind, PrivacyPlan
from common.privacy.ledger.contributions import (
    Contribution,
    Purpose,
    contributions_file,
    read_contributions,
    read_contributions_file,
    rounds_behind,
    vector_digest,
)
from common.privacy.ledger.journal import JournalEntry
from common.release.manifest import ADAPTER_FILE, BASIS_FILE, CONTRIBUTIONS_FILE, MANIFEST_FILE
from common.release.verify import VerifiedRelease
from common.settings.lora_targets import LORA_A, PROJECTION_FILE, state_name

_SIGNED = "Contributions: signed by each merchant of each round"
_VECTORS = "Contributions: the vectors are those that were signed"
_REBUILT = "Adapter: made again from the contributions, to the bit"


def check_contributions(sheet: Checklist, found: Evidence) -> None:
    """Check every contribution behind the release's adapter, and make the adapter again."""
    release, journal = found.release, found.journal
    if release is None or journal is None:
        for name in (_SIGNED, _VECTORS, _REBUILT):
            with sheet.check(name, CONTRIBUTIONS) as marks:
                marks.skip("the release or the journal could not be read")
        return
    statement = release.manifest.privacy
    plan, named = statement.privacy_plan, statement.journal
    journal = journal if named is None else journal[: named.entries]  # what came later is not it
    if plan.dp_model not in {"local", "distributed"}:
        with sheet.check(_REBUILT, CONTRIBUTIONS) as marks:
            marks.note("only a sum of contributions carries all noise, so none may be shown")
        return
    rounds = _rounds(release, journal, plan)
    with sheet.check("Adapter: where it started from", RELEASE) as marks:
        start = _initial_adapter(release) if plan.trains else _released_adapter(release)
        marks.says(f"{start.size} numbers, {start.digest[:16]}…")
    if sheet.checks[-1].status == "failed":
        return
    if plan.dp_model == "distributed":
        check_sums(sheet, release, found.folder, rounds, journal, start)
        return
    signed = _check_signed(sheet, release, rounds, plan, start)
    check_listed(sheet, release, journal)
    vectors = _check_vectors(sheet, found.folder, rounds, signed, start.size)
    check_season_sum(sheet, release, rounds, vectors)
    check_seals(sheet, release, signed, vectors)
    if plan.trains:
        _rebuild(sheet, release, rounds, vectors, start)


def check_listed(
    sheet: Checklist, release: VerifiedRelease, journal: Sequence[JournalEntry] | None
) -> None:
    """Check the list of contributions that a release carries, for its merchants to find theirs."""
    manifest = release.manifest
    if manifest.privacy.dp_model != "local":
        return
    title, file = "Contributions: the release lists them", f"{RELEASE}/{CONTRIBUTIONS_FILE}"
    with sheet.check(title, file) as marks:
        content = release.files.get(CONTRIBUTIONS_FILE, b"")
        listed = read_contributions_file(content)
        known = {one.node: one.signer for one in manifest.privacy.ledgers.values()}
        for number, one in enumerate(listed, 1):
            if one.merchant not in known:
                marks.wrong("merchant", f"{_named(one)}: not in the statement.", entry=number)
        marks.says(f"{len(listed)} contributions")
        if not listed:
            marks.wrong("contributions", "The release lists none.")
        if journal is None:
            if any(known.get(one.merchant) != one.signer for one in listed):
                marks.note("some are by another key than the statement's: a key was renewed")
            return
        statement = manifest.privacy
        digest, runs = statement.privacy_plan.digest, statement.run_ids
        if content != contributions_file(journal, manifest.adapter.digest, digest, runs):
            marks.wrong("contributions", "It is another list than the journal has.")


def _rounds(
    release: VerifiedRelease, journal: Sequence[JournalEntry], plan: PrivacyPlan
) -> list[JournalEntry]:
    """Return histogram, season and the rounds behind the adapter, in order.

    Where no round came to it, they are those behind the plan's last round, to be compared with it.
    """
    adapter = release.manifest.adapter.digest
    if not any(one.adapter == adapter and one.plan_digest == plan.digest for one in journal):
        last = "train" if plan.trains else "season"
        ends = [one for one in journal if (one.kind, one.plan_digest) == (last, plan.digest)]
        adapter = ends[-1].adapter if ends else ""
    runs = release.manifest.privacy.run_ids
    return list(rounds_behind(journal, adapter, plan.digest, runs))[::-1]


def _check_signed(
    sheet: Checklist,
    release: VerifiedRelease,
    rounds: Sequence[JournalEntry],
    plan: PrivacyPlan,
    start: AdapterState,
) -> Signed:
    """Return what was signed, by round and merchant, and find fault with what is missing or not."""
    signed: Signed = {}
    with sheet.check(_SIGNED, JOURNAL) as marks:
        setup = setup_of(release)
        demand_places(marks, plan, rounds)
        if rounds and not any(one.contributions for one in rounds):
            marks.wrong("contributions", "No merchant signed what it sent, in any round.")
            return signed
        before = start.digest
        for entry in rounds:
            signed[place_of(entry)] = _signed_in(marks, entry, before)
            before = entry.adapter or before
        every = [one for row in signed.values() for one in row.values()]
        others = [one for one in every if one.purpose.setup != setup]
        if others:
            marks.wrong(
                "setup",
                f"{_named(others[0])}: made with other settings, or on another basis, than the "
                "release names.",
                file=f"{RELEASE}/{MANIFEST_FILE}",
            )
        marks.says(f"{len(every)} in {len(rounds)} rounds")
    return signed


def _signed_in(marks: Marks, entry: JournalEntry, before: str) -> dict[str, Contribution]:
    """Return a round's contributions by merchant; each must be by the key of its ledger's head."""
    number = entry.round_number
    signers = {one.head.merchant: one.head.signer for one in entry.read_receipts()}
    kind: EventKind = "season" if entry.kind == "season" else "popularity"
    kind = "train" if number else kind
    found: dict[str, Contribution] = {}
    for one in read_contributions(entry):
        setup = one.purpose.setup
        purpose = Purpose(
            kind, entry.run_id, number, entry.plan_digest, setup, before if number else ""
        )
        signer = signers.get(one.merchant, "")
        expected = Contribution(one.merchant, purpose, one.digest, signer, one.seal)
        if fault := one.fault(expected):
            marks.wrong(
                f"contributions.{fault}",
                f"{one.merchant!r}, {_lower(place_of(entry))}: not of this {fault}.",
                entry=entry.number,
            )
        if one.merchant in found or one.merchant not in entry.participants:
            marks.wrong(
                "contributions",
                f"{one.merchant!r}, {_lower(place_of(entry))}: it took no part, or is named twice.",
                entry=entry.number,
            )
        found[one.merchant] = one
    for name in entry.participants:
        if name not in found:
            marks.wrong(
                "contributions",
                f"{name!r}, {_lower(place_of(entry))}: it took part and nothing is signed by it.",
                entry=entry.number,
            )
    return found


def _check_vectors(
    sheet: Checklist, folder: Path, rounds: Sequence[JournalEntry], signed: Signed, size: int
) -> Vectors:
    """Return the vectors of the rounds for which all of them are what was signed."""
    whole: Vectors = {}
    with sheet.check(_VECTORS, CONTRIBUTIONS) as marks:
        count = 0
        for entry in rounds:
            number, place = entry.round_number, place_of(entry)
            kind: EventKind | None = "season" if entry.kind == "season" else None
            file = f"{CONTRIBUTIONS}/{round_file(number, kind)}"
            try:
                vectors = read_round(folder / CONTRIBUTIONS, number, kind)
            except FedtailError as error:
                marks.wrong(error.field or "file", str(error), file=file)
                continue
            wrong = list(_faults(vectors, signed.get(place, {}), size if number else None))
            for field, name, what in wrong:
                marks.wrong(field, f"{name!r}, {_lower(place)}: {what}", file=file)
            if not wrong:
                whole[place] = vectors
            count += len(vectors)
        marks.says(f"{count} vectors")
    return whole


def _faults(
    vectors: Mapping[str, NDArray[np.float32]], signed: Mapping[str, Contribution], size: int | None
) -> Iterator[tuple[str, str, str]]:
    """Yield field, merchant and what is wrong with a round's vectors."""
    for name in sorted({*vectors, *signed}):
        if name not in vectors:
            yield "contribution", name, "its vector is missing."
        elif name not in signed:
            yield "contribution", name, "its vector is signed by nobody."
        elif size is not None and vectors[name].size != size:
            yield "size", name, "its vector is not one number for each of the adapter's."
        elif vector_digest(vectors[name]) != signed[name].digest:
            yield "digest", name, "its vector is not the one that it signed."


def _rebuild(
    sheet: Checklist,
    release: VerifiedRelease,
    rounds: Sequence[JournalEntry],
    vectors: Vectors,
    start: AdapterState,
) -> None:
    """Take every round's step again and compare what it comes to."""
    with sheet.check(_REBUILT, JOURNAL) as marks:
        trained = [one for one in rounds if one.round_number]
        missing = [place_of(one) for one in trained if place_of(one) not in vectors]
        if not trained or missing:
            marks.skip("a round is missing" if not missing else f"{_lower(missing[0])} has faults")
            return
        descent = Descent.of(settings_of(release))

        def step_of(entry: JournalEntry, adapter: AdapterState, state: OptimiserState) -> Descended:
            sent = vectors[place_of(entry)]
            step = descent.step(adapter, state, entry.round_number, sent)
            return step.adapter, step.optimiser

        compare_adapter(marks, release, trained, start, step_of)


def _released_adapter(release: VerifiedRelease) -> AdapterState:
    """Return the adapter that a refresh keeps: it has no other to start from.

    Raises:
        ReleaseError: if the release's tensors are not those that its manifest names.
    """
    names = [name for name in (ADAPTER_FILE, PROJECTION_FILE) if name in release.files]
    tensors = {
        name: tensor
        for file in names
        for name, tensor in AdapterState.from_bytes(release.files[file]).tensors.items()
    }
    only_b = {name: tensor for name, tensor in tensors.items() if ".lora_B." in name}
    for found in (AdapterState(one) for one in (only_b, tensors) if one):
        if found.digest == release.manifest.adapter.digest:
            return found
    raise ReleaseError("The adapter is not the one that the manifest names.", field="adapter")


def _initial_adapter(release: VerifiedRelease) -> AdapterState:
    """Return the adapter before the first round: B at zero, and A on the basis where it is trained.

    Raises:
        InputError: if a file of the release is not one of float32 tensors.
        SettingsError: as `settings_of`.
    """
    settings = settings_of(release)
    names = [name for name in (ADAPTER_FILE, PROJECTION_FILE) if name in release.files]
    tensors = {
        name: tensor
        for file in names
        for name, tensor in AdapterState.from_bytes(release.files[file]).tensors.items()
    }
    try:
        basis = load_arrays(release.files[BASIS_FILE])
    except SafetensorError as error:
        raise InputError("The basis is not a safetensors file.", field="basis") from error
    directions = {
        state_name(f"{name.removeprefix(LORA_A)}.lora_A.default.weight"): tensor
        for name, tensor in basis.items()
        if name.startswith(LORA_A)
    }
    started = {}
    for name, tensor in tensors.items():
        if ".lora_B." in name:
            started[name] = np.zeros_like(tensor)
        elif settings.lora == "lora":
            if name not in directions:
                raise InputError("The basis has no directions for a trained A.", field="basis")
            started[name] = directions[name]
    if not started:
        raise InputError("The release has no trained tensor.", field="adapter")
    return AdapterState(started)


def _named(one: Contribution) -> str:
    return f"{one.merchant!r}, {_lower((one.purpose.kind, one.purpose.round_number))}"


def _lower(place: Place) -> str:
    """Return what a round is called within a sentence."""
    told = told_of(place)
    return told[0].lower() + told[1:]
