"""Set a refresh up: whose adapter it keeps, under which settings, and where its run lies.

It is a run like any other, with a folder of its own, `EXPERIMENT-season-DAY`. What it keeps is
written there at its first start, so that the same run goes on, and is published, with it.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime

from common.errors import FederationError, ReleaseError, SettingsError
from common.files import sha256_hex
from common.release.manifest import MANIFEST_FILE
from common.release.parent import trained_digest
from common.release.verify import VerifiedRelease, verify_by_digest
from common.settings.refresh import OWN, refreshed_settings
from common.settings.run import RunSettings
from server.operations.experiment import Experiment, RunFolder
from server.operations.folder import ServerFolder
from server.operations.publication.publishing import changing_repository
from server.releases.federations import Federation
from server.run.checkpoint import read_checkpoint

_MARK = "-season-"
_GIVEN = OWN - {"epsilon", "season_ends"}  # what the experiment's file may say of a refresh


def refresh_experiment(
    server: ServerFolder,
    experiment: Experiment,
    *,
    epsilon: float | None,
    day: date | None = None,
    now: datetime | None = None,
) -> Experiment:
    """Return the run that takes the season of the latest release anew, or goes on with it.

    Args:
        server: The server's folder.
        experiment: Of the training: its name, its catalogues as they are now, and what its file
            says of who takes part.
        epsilon: What the refresh may cost a shopper; what it began with where it goes on.
        day: At whose start (UTC) the season ends. Without one, that of a refresh which has not
            taken its season, or else today.
        now: The time; for tests.

    Raises:
        FederationError: if nothing is published, or the release is not in the server's folder.
        ReleaseError: if the release whose training made the adapter was withdrawn; or if it was
            begun for another adapter than members use by now, whom it would take back to that.
        SettingsError: as `refreshed_settings`, or for a day that has not begun, or another epsilon
            than it began with.
        InputError: if what it began with cannot be read.
    """
    now = now or datetime.now(UTC)
    latest, parent = _kept(server, now)
    version = parent.manifest.version
    if day is None:
        day = next(_unfinished(server, experiment, version), now.date())
    run = RunFolder(server.runs.resolve() / f"{experiment.name}{_MARK}{day.isoformat()}")
    began = run.refresh
    if began is None:
        _check_begun(day, now)
        settings = _settled(experiment, day, epsilon, latest, parent)
        run.note_refresh(version, settings.to_flat())
    else:
        if began[0] != version:
            raise ReleaseError(
                f"The refresh of {day} keeps the adapter of release {began[0]}; by now members use "
                f"that of {version}, and would go back. Refresh that one, with a later --day.",
                field="refresh",
            )
        settings = RunSettings.from_flat(began[1])
        if epsilon not in {None, settings.epsilon}:
            raise SettingsError(
                f"The refresh of {day} began with epsilon {settings.epsilon:g}, and goes on with "
                "it. For another one name a later --day.",
                field="epsilon",
            )
    return replace(
        experiment, name=run.root.name, settings=settings, public_holdout=None, chosen={}
    )


def latest_refresh(server: ServerFolder, experiment: Experiment) -> Experiment:
    """Return the last refresh of an experiment, to sign its release.

    Raises:
        FederationError: if there is none.
        InputError: if what it began with cannot be read.
    """
    days = sorted(_days(server, experiment))
    if not days:
        raise FederationError(
            f"{experiment.name} has no refresh: start one with `fedtail server refresh`.",
            field="run",
        )
    return refresh_experiment(server, experiment, epsilon=None, day=days[-1])


def refreshes_of(server: ServerFolder, version: str, now: datetime) -> list[str]:
    """Return the published refreshes that keep the adapter of a release of the server's folder."""
    try:
        digest = sha256_hex((server.releases / version / MANIFEST_FILE).read_bytes())
    except OSError:
        return []
    with changing_repository(server, now) as federation:
        listed = {one: federation.digest_of(one) for one in federation.versions()}
    return [one for one, named in listed.items() if _parent_of(server, one, named) == digest]


def _parent_of(server: ServerFolder, version: str, digest: str) -> str | None:
    try:
        return verify_by_digest(server.releases / version, digest).manifest.parent
    except ReleaseError:
        return None  # it is not here any more, or damaged


def _check_begun(day: date, now: datetime) -> None:
    """Refuse a season that ends in the future: it lacks what is sold until then.

    Raises:
        SettingsError: if it does.
    """
    if day > now.date():
        raise SettingsError(
            f"{day} has not begun (UTC): a season that ends then lacks what is sold until then, "
            "and no other could be taken before.",
            field="season_ends",
        )


def _kept(server: ServerFolder, now: datetime) -> tuple[VerifiedRelease, VerifiedRelease]:
    """Return the release that members use, and the one whose training made its adapter."""
    with changing_repository(server, now) as federation:
        latest = _published(server, federation, federation.latest().version)
        trained = trained_digest(latest.manifest)
        if trained == latest.manifest.digest:
            return latest, latest
        version = _version_of(server, trained)
        return latest, _published(server, federation, version)


def _settled(
    experiment: Experiment,
    day: date,
    epsilon: float | None,
    latest: VerifiedRelease,
    parent: VerifiedRelease,
) -> RunSettings:
    """Return the refresh's settings."""
    season, settings = latest.season, experiment.settings
    asked = {name: getattr(settings, name) for name in settings.model_fields_set & _GIVEN}
    asked |= {"season_ends": day.isoformat()}
    asked |= {} if epsilon is None else {"epsilon": epsilon}
    manifest = parent.manifest
    return refreshed_settings(
        dict(manifest.adapter.settings),
        manifest.digest,
        asked,
        after=0 if season is None else season.ends[-1],
    )


def _published(
    server: ServerFolder, federation: Federation, version: str | None
) -> VerifiedRelease:
    """Return a release of the server's folder that members may use, held to the signed list."""
    if version is None:
        raise FederationError("There is no release to refresh: publish one first.", field="release")
    if version not in federation.versions():
        raise ReleaseError(
            f"Release {version}, which trained the adapter, was withdrawn: a refresh would bring "
            "it back. Train anew.",
            field="release",
        )
    return verify_by_digest(server.releases / version, federation.digest_of(version))


def _version_of(server: ServerFolder, digest: str) -> str:
    """Return the version of the release of a digest in the server's folder."""
    for path in server.releases.glob(f"*/{MANIFEST_FILE}"):
        if sha256_hex(path.read_bytes()) == digest:
            return path.parent.name
    raise FederationError(
        f"Release {digest[:16]}…, which trained the adapter, is not in {server.releases}: put it "
        "back from a copy.",
        field="release",
    )


def _days(server: ServerFolder, experiment: Experiment) -> Iterator[date]:
    start = f"{experiment.name}{_MARK}"
    for path in server.runs.glob(f"{start}*"):
        try:
            day = date.fromisoformat(path.name.removeprefix(start))
        except ValueError:
            continue  # another experiment's
        if RunFolder(path).refresh is not None:
            yield day


def _unfinished(server: ServerFolder, experiment: Experiment, version: str) -> Iterator[date]:
    """Yield the days of refreshes of a release that have not taken their season, the last first."""
    for day in sorted(_days(server, experiment), reverse=True):
        run = RunFolder(server.runs / f"{experiment.name}{_MARK}{day.isoformat()}")
        held = read_checkpoint(run.root)
        of = run.refresh or ("", {})
        if of[0] == version and not run.released and (held is None or held.season is None):
            yield day
