"""Hold a release's season to its plan, its settings and what each merchant signed of it.

A refresh has nothing else of its own, so what it has beside its season is held to its parent here.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.audit.findings import Checklist, Marks
from common.audit.layout import CONTRIBUTIONS, PARENT, RELEASE
from common.audit.rebuilt import settings_of
from common.audit.seals import Vectors
from common.errors import ReleaseError
from common.federation.descent import aggregator_of
from common.federation.season_sum import sum_seasons
from common.privacy.ledger.journal import JournalEntry
from common.release.manifest import SEASON_FILE
from common.release.parent import differences
from common.release.verify import VerifiedRelease, verify_by_digest
from common.season import Season

SEASON_PLACE = ("season", 0)
_FILE = f"{RELEASE}/{SEASON_FILE}"


def check_season(sheet: Checklist, release: VerifiedRelease) -> None:
    """Check a release's season against its own plan and settings; nothing where there is neither.

    Whether it is in the release at all has been checked as the release was verified.
    """
    plan = release.manifest.privacy.privacy_plan
    if not plan.takes_season and SEASON_FILE not in release.files:
        return
    with sheet.check("Season: taken when the settings say, with the plan's noise", _FILE) as marks:
        season = _season(release)
        ends = settings_of(release).season_moments
        if season.ends != ends:
            marks.wrong("season_ends", "It ends at other moments than the settings say.")
        noise_std = plan.noise_std("season") * float(np.sqrt(season.merchants))
        if not np.isclose(season.noise_std, noise_std, rtol=1e-9, atol=0):
            marks.wrong(
                "noise_std",
                f"It says noise of {season.noise_std:.4g}; its plan's is {noise_std:.4g}.",
            )
        marks.says(f"{season.merchants} merchants, noise {season.noise_std:.4g} on the sum")


def check_season_sum(
    sheet: Checklist, release: VerifiedRelease, rounds: Sequence[JournalEntry], vectors: Vectors
) -> None:
    """Add up what the merchants signed and compare it with the release's season, to the bit.

    Args:
        sheet: Takes the findings.
        release: Verified.
        rounds: What is behind the adapter on the journal.
        vectors: Where all of them are what was signed.
    """
    plan = release.manifest.privacy.privacy_plan
    if not plan.takes_season:
        return
    with sheet.check("Season: made again from the contributions, to the bit", CONTRIBUTIONS) as m:
        taken = [one for one in rounds if one.kind == "season"]
        held = vectors.get(SEASON_PLACE)
        if not taken or not held:
            m.skip("it is missing on the journal" if not taken else "its contributions have faults")
            return
        settings, noise_std = settings_of(release), plan.noise_std("season")
        ends, how = settings.season_moments, aggregator_of(settings)
        compare_season(m, _season(release), sum_seasons(held, ends, noise_std, how))


def check_parent(
    sheet: Checklist, release: VerifiedRelease, folder: Path | None, *, demanded: bool
) -> None:
    """Check that a refresh keeps all of its parent but the season; nothing to do with rounds.

    Args:
        sheet: Takes the findings.
        release: Verified, so its settings name the same parent as its manifest.
        folder: Where the parent's release may lie.
        demanded: Whether it must be there: without it nothing says that the adapter is its.
    """
    manifest = release.manifest
    if manifest.privacy.privacy_plan.trains:
        return
    with sheet.check("Parent: all but the season is that of the release it names", PARENT) as marks:
        named = manifest.parent or ""
        if folder is None or not folder.is_dir():
            missing = (
                f"The release keeps the adapter of release {named}, which is not here: give its "
                "folder with --parent."
            )
            if demanded:
                marks.wrong("parent", missing)
            else:
                marks.skip(missing)
            return
        parent = verify_by_digest(folder, named)
        for field, what in differences(release, parent).items():
            marks.wrong(field, f"{field} {what}.", file=RELEASE)
        before, now = _last_end(parent), _last_end(release)
        if before is not None and now is not None and now <= before:
            marks.wrong("season_ends", "Its season ends no later than its parent's.", file=RELEASE)
        marks.says(
            f"version {parent.manifest.version}, {named[:16]}…; how its adapter was made is in its "
            "own audit"
        )


def _last_end(release: VerifiedRelease) -> int | None:
    return None if release.season is None else release.season.ends[-1]


def compare_season(marks: Marks, season: Season, again: Season) -> None:
    """Compare a release's season with what vectors or a sum come to, to the bit."""
    if again.merchants != season.merchants:
        marks.wrong(
            "merchants",
            f"It says {season.merchants} merchants; it is of {again.merchants}.",
            file=_FILE,
        )
    if again.vectors.tobytes() != season.vectors.tobytes():
        marks.wrong("vectors", "What was sent comes to another season.", file=_FILE)
    marks.says(f"{again.vectors.size} numbers of {again.merchants} merchants")


def _season(release: VerifiedRelease) -> Season:
    season = release.season
    if season is None:
        raise ReleaseError("The release has no season.", field="season")
    return season
