"""Take every secure sum of a run again from what the nodes signed, and make the adapter of them.

With `distributed` noise there is no merchant's vector to be shown. There is a transcript of each
sum: masked vectors, views and shares, each signed by its party with the key of its ledger. The
protocol's own server takes the masks off again. So a sum that is not the one the nodes opened, one
of fewer merchants than carry the plan's noise, and an adapter that other sums come to are found.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.adapter import AdapterState
from common.audit.canaries import read_canary_sums
from common.audit.findings import Checklist, Marks
from common.audit.layout import CONTRIBUTIONS, JOURNAL, RELEASE
from common.audit.rebuilt import (
    Descended,
    Place,
    compare_adapter,
    demand_places,
    needed,
    settings_of,
    setup_of,
    told_of,
)
from common.audit.season import SEASON_PLACE, compare_season
from common.audit.secure_sums.evidence import KINDS, Taken, signers_at, take_again
from common.audit.secure_sums.failed import check_failed
from common.errors import InputError, PrivacyError
from common.federation.bounds import Framing
from common.federation.contribution_files import sum_file
from common.federation.descent import Descent
from common.federation.framing_file import FRAMING_FILE, read_framing
from common.federation.optimiser import OptimiserState
from common.federation.secure_step import mean_gradient, summed_season
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.journal import JournalEntry
from common.privacy.mechanism.canaries import unpack_records
from common.privacy.mechanism.empirical_bound import noise_of_all
from common.privacy.mechanism.measured_noise import SHOWN_CHANCE
from common.privacy.mechanism.shares import share_form
from common.privacy.mechanism.sum_canaries import CanarySums
from common.privacy.secagg.server import SecureSum
from common.release.manifest import (
    CANARIES_FILE,
    CANARY_SUMS_FILE,
)
from common.release.verify import VerifiedRelease

_AGAIN = "Sums: taken again from what the nodes signed"
_REBUILT = "Adapter: made again from the sums, to the bit"
_SHOWN = "Canaries: the columns are those of the sums"


def check_sums(  # noqa: PLR0917 - each is of another type or named as in `check_contributions`
    sheet: Checklist,
    release: VerifiedRelease,
    folder: Path,
    rounds: Sequence[JournalEntry],
    journal: Sequence[JournalEntry],
    start: AdapterState,
) -> None:
    """Check every sum behind the release's adapter, and make adapter, season and columns of them.

    Args:
        sheet: Takes the findings.
        release: Verified, of a run with distributed noise.
        folder: The run's exported files.
        rounds: Histogram, season and rounds behind the adapter, in order.
        journal: All of it that the release knows: it has each node's key.
        start: The adapter before the first round.
    """
    plan = release.manifest.privacy.privacy_plan
    taken: dict[Place, Taken] = {}
    with sheet.check(_AGAIN, CONTRIBUTIONS) as marks:
        setup = setup_of(release)
        demand_places(marks, plan, rounds)
        for entry in rounds:
            if entry.given_up:
                continue  # `common.audit.secure_sums.failed` has it
            signers = signers_at(journal, entry)
            path = folder / CONTRIBUTIONS / sum_file(entry.round_number, KINDS[entry.kind])
            one = take_again(marks, path, entry, plan, setup, signers)
            if one is not None:
                taken[entry.kind, entry.round_number] = one
        counts = [len(one.total.survivors) for one in taken.values()]
        if counts:
            marks.says(
                f"{len(taken)} sums of {min(counts)} to {max(counts)} merchants; the plan's noise "
                f"needs {plan.least_merchants} of {plan.merchants}, so that "
                f"{min(counts) - plan.least_merchants} in them may be with the server"
            )
    given_up = sum(entry.given_up for entry in rounds)
    whole = len(taken) + given_up == len(rounds) == len(needed(plan))
    with sheet.check(_REBUILT, JOURNAL) as marks:
        if not whole:
            marks.skip("a sum is missing, or has faults")
        elif not plan.trains:
            marks.says("nothing was trained: it is the parent's")
        else:
            framing = read_framing(folder / CONTRIBUTIONS)
            trained = [
                (one, taken.get(("train", one.round_number))) for one in rounds if one.round_number
            ]
            _rebuild(marks, release, framing, trained, start)
    check_failed(sheet, release, folder, rounds, journal)
    _check_season(sheet, release, taken, whole=whole)
    _check_canaries(sheet, release, rounds, taken, whole=whole)


def _rebuild(
    marks: Marks,
    release: VerifiedRelease,
    framing: Framing,
    trained: Sequence[tuple[JournalEntry, Taken | None]],
    start: AdapterState,
) -> None:
    """Take every round's step again and compare what it comes to; one given up made none."""
    settings, plan = settings_of(release), release.manifest.privacy.privacy_plan
    if framing.size != start.size:
        file = f"{CONTRIBUTIONS}/{FRAMING_FILE}"
        marks.wrong("framing", "It is for an adapter of another size.", file=file)
        return
    descent = Descent.of(settings)
    sums = {entry.round_number: one for entry, one in trained}

    def step_of(
        entry: JournalEntry, adapter: AdapterState, state: OptimiserState
    ) -> Descended | None:
        number = entry.round_number
        taken, told = sums[number], told_of(("train", number))
        if taken is None:
            return adapter, state  # given up: no step
        if taken.asked != adapter.digest:
            marks.wrong("asked", f"{told}: it was taken at another adapter.", entry=entry.number)
            return None
        gradient, columns = _gradient(taken.total, plan, framing)
        if columns.size != settings.audit_canaries:
            marks.wrong("canaries", f"{told}: it has another count of canaries.")
        step = descent.step_on(adapter, state, number, gradient, taken.total.survivors)
        return step.adapter, step.optimiser

    compare_adapter(marks, release, [entry for entry, _ in trained], start, step_of)


def _gradient(
    total: SecureSum, plan: PrivacyPlan, framing: Framing
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if total.vector.size < framing.inner_size:
        raise InputError("A sum has fewer numbers than the adapter moves in.", field="framing")
    return mean_gradient(total, plan, framing)


def _check_season(
    sheet: Checklist, release: VerifiedRelease, taken: Mapping[Place, Taken], *, whole: bool
) -> None:
    plan = release.manifest.privacy.privacy_plan
    if not plan.takes_season:
        return
    with sheet.check("Season: made again from the sum, to the bit", CONTRIBUTIONS) as marks:
        season = release.season
        if not whole or season is None:
            marks.skip("a sum is missing, or has faults")
            return
        total = taken[SEASON_PLACE].total
        compare_season(
            marks, season, summed_season(total, plan, settings_of(release).season_moments)
        )


def _check_canaries(
    sheet: Checklist,
    release: VerifiedRelease,
    rounds: Sequence[JournalEntry],
    taken: Mapping[Place, Taken],
    *,
    whole: bool,
) -> None:
    """Check that the release shows the sums' own columns, of the run's last start."""
    sums = read_canary_sums(release)
    if sums is None:
        return  # `check_bound` says what of it is missing
    with sheet.check(_SHOWN, f"{RELEASE}/{CANARY_SUMS_FILE}") as marks:
        if not whole:
            marks.skip("a sum is missing, or has faults")
            return
        plan = release.manifest.privacy.privacy_plan
        if sums.plan != plan.to_json():
            marks.wrong("plan", "They are of another plan.")
        count = sums.columns.shape[1]
        again = CanarySums.start(sums.run_id, plan.to_json(), sums.roster, count)
        trained = [entry for entry in rounds if entry.round_number and not entry.given_up]
        for entry in trained:
            one = taken[entry.kind, entry.round_number]
            if one.run_id != sums.run_id:
                continue
            if one.roster != sums.roster:
                again = CanarySums.start(sums.run_id, plan.to_json(), sums.roster, count)
                continue
            again = again.observed(
                entry.round_number,
                one.total.survivors,
                _columns_of(one, plan, count),
                plan.max_grad_norm,
            )
        if trained and sums.run_id != trained[-1].run_id:
            marks.wrong("run_id", "They are not of the run's last start.")
        if not len(again.rounds) or again.to_bytes() != sums.to_bytes():
            marks.wrong("canaries", "The columns shown are not those of the sums.")
        _tell_noise(marks, release, sums)
        if len(sums.rounds) < len(trained):
            unseen = len(trained) - len(sums.rounds)
            marks.note(f"{unseen} sums, before a restart or another setup, are not shown")


def _columns_of(one: Taken, plan: PrivacyPlan, count: int) -> NDArray[np.float64]:
    form = share_form(plan, "train", one.total.vector.size).form
    return form.decode(one.total.vector)[one.total.vector.size - count :]


def _tell_noise(marks: Marks, release: VerifiedRelease, sums: CanarySums) -> None:
    """Tell where the sums hold less noise than their merchants' shares together."""
    content = release.files.get(CANARIES_FILE)
    try:
        found = noise_of_all(sums, {} if content is None else unpack_records(content))
    except PrivacyError as error:
        marks.wrong(error.field or "canaries", str(error))
        return
    marks.says(
        f"{len(sums.rounds)} sums; {found.deviation or 0:.3f} of everybody's noise, over "
        f"{found.draws} draws"
    )
    if found.chance < SHOWN_CHANCE:
        marks.note(
            "the sums hold less noise than all their merchants should have added: epsilon is that "
            "for as many absent as are spared, and no better"
        )
