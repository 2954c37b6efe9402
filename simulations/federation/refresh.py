"""A refresh of a simulated run: its merchants, their ledgers and its journal go on.

Only the season is taken anew, by the deployed app as everything else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.node.settings import merchant_folders
from client.privacy.budget import LEDGER_FILE, open_ledger
from client.privacy.policy import POLICY_FILE
from common.audit.layout import PARENT, PUBLIC_KEY, RELEASE
from common.errors import InputError
from common.files import sha256_hex, write_atomic
from common.identity.signing_key import PublicKey
from common.privacy.accounting.plan import PrivacyPlan
from common.privacy.ledger.entry import spent_events
from common.release.parent import trained_digest
from common.release.verify import VerifiedRelease, verify_by_digest, verify_release
from common.settings.refresh import refreshed_settings
from common.settings.run import RunSettings
from server.run.files import JOURNAL_FILE
from simulations.data.shop import Shop
from simulations.federation.comparisons import FEDERATED, MERCHANTS, check_same_merchants
from simulations.federation.folders import policy_text
from simulations.federation.runner import Beside, FinishedRun, Watch, run_federation

POINTER = "refresh-of.json"  # in the folder of a refresh: the run whose merchants it goes on with


@dataclass(frozen=True, eq=False)
class EarlierRun:
    """A simulation, or a refresh of one, whose season is to be taken anew.

    Attributes:
        folder: Of the simulation that made the merchants, and has their ledgers.
        place: Of the release that trained the adapter: the parent, also of a second refresh.
        release: It, verified.
        latest: The release that `run` has, whose season the next one must be later than.
    """

    folder: Path
    place: Path
    release: VerifiedRelease
    latest: VerifiedRelease

    @classmethod
    def open(cls, run: Path) -> "EarlierRun":
        """Read what `fedtail simulate` left in `run`.

        Raises:
            InputError: if it left no release there: the gate refused it, or it has not ended.
            ReleaseError: if the release does not verify.
        """
        place = run / RELEASE
        if not place.is_dir() or not (run / PUBLIC_KEY).is_file():
            raise InputError(f"{run} holds no release of a simulation.", field="refresh_of")
        latest = verify_release(place, PublicKey.load(run / PUBLIC_KEY))
        trained, release = trained_digest(latest.manifest), latest
        if trained != latest.manifest.digest:
            place = run / PARENT
            release = verify_by_digest(place, trained)
        return cls(_first(run), place.resolve(), release, latest)

    def settings(self, ends: str, named: Mapping[str, Any], merchants: int) -> RunSettings:
        """Return the refresh's settings.

        Args:
            ends: When the season ends, unless `named` says so.
            named: What was asked for by name; the rest stays as the release has it.
            merchants: How many there are.

        Raises:
            SettingsError: as `refreshed_settings`.
        """
        manifest = self.release.manifest
        before = dict(manifest.adapter.settings)
        values = {"season_ends": ends, **named}
        if values.get("noise", before["noise"]) == "distributed":
            values.setdefault("min_merchants", merchants)
        ended = self.latest.season
        return refreshed_settings(
            before, manifest.digest, values, after=0 if ended is None else ended.ends[-1]
        )

    def refreshed(
        self, shops: Sequence[Shop], settings: RunSettings, out: Path, cache: Path, watch: Watch
    ) -> FinishedRun:
        """Take the season of the run's merchants, on their own ledgers.

        Args:
            shops: The merchants, as the run dealt them.
            settings: As `settings` returns them.
            out: For checkpoints; the same call goes on there.
            cache: For encodings of public text.
            watch: Told of progress.

        Raises:
            InputError: if the run's merchants are others.
            FedtailError: whatever stops a run.
        """
        merchants, plan = self.folder / MERCHANTS, settings.plan(len(shops))
        check_same_merchants(shops, merchants)
        write_atomic(out / POINTER, json.dumps(str(self.folder.resolve())).encode())
        allow_refresh(merchants, plan)
        journal = self.folder / FEDERATED / JOURNAL_FILE
        versions = frozenset(one.manifest.version for one in (self.release, self.latest))
        beside = Beside(self.place, journal, _run_id(settings), versions)
        return run_federation(merchants, settings, out / FEDERATED, cache, watch, beside)


def merchants_of(run: Path) -> Path:
    """Return where the merchants of a simulation, or of a refresh, lie."""
    return _first(run) / MERCHANTS


def _first(run: Path) -> Path:
    """Return the simulation that a refresh goes back to; a simulation itself."""
    pointer = run / POINTER
    return Path(json.loads(pointer.read_bytes())) if pointer.exists() else run


def allow_refresh(merchants: Path, plan: PrivacyPlan) -> None:
    """Have each made-up merchant's policy cover a refresh beside what its ledger holds."""
    for place in merchant_folders(merchants):
        ledger = open_ledger(place / "node" / LEDGER_FILE, place.name)
        spent = spent_events(ledger.entries())
        write_atomic(place / POLICY_FILE, policy_text(plan, spent))


def _run_id(settings: RunSettings) -> int:
    """Return a refresh's number on the journal: its own, and the same when it goes on."""
    about = f"{settings.refresh_of} {settings.season_ends}"
    return int(sha256_hex(about.encode())[:15], 16)
