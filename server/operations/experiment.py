"""An operator's experiment file: which catalogues, which settings, and where the run is kept.

    catalogues = ["shop-a.jsonl", "shop-b.jsonl"]
    public_holdout = "public-shoppers.jsonl"

    [auto]
    clock = true
    merchants = 8

    [settings]
    rounds = 40

The run's name is the file's; its folder keeps the checkpoints, so the same file goes on with the
same run. The settings are those of `fedtail simulate`. With [auto], what [settings] does not name
is chosen from these declared facts, the size bracket, epsilon and the catalogues.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from common.catalogue import merge_catalogues, read_catalogue, write_catalogue
from common.errors import InputError, SettingsError
from common.files import write_atomic
from common.privacy.accounting.plan import LEAST_SHARING
from common.settings.auto import Choice, DeclaredFacts, fit_settings
from common.settings.run import RunSettings, Scalar, read_toml
from server.operations.folder import ServerFolder
from server.run.files import CATALOGUE_FILE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KNOWN = {"auto", "catalogues", "public_holdout", "settings"}
_AUTO = {"clock": bool, "merchants": int}
_RUN_IDS = "run-ids.json"
_RELEASED = "release.json"
_SEASON = "season.json"
_REFRESH = "refresh.json"


@dataclass(frozen=True)
class Experiment:
    """A run as the operator asks for it.

    Attributes:
        name: Of the run.
        catalogues: Files with merchants' public catalogues.
        settings: The run's.
        public_holdout: Public shoppers that a release is judged on before it is signed
            (`server.releases.public_holdout`); None where there are none.
        chosen: What [auto] chose, with its reasons; `settings` has it already.
    """

    name: str
    catalogues: tuple[Path, ...]
    settings: RunSettings
    public_holdout: Path | None = None
    chosen: Mapping[str, Choice] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> "Experiment":
        """Read an experiment file.

        Raises:
            InputError: if it cannot be read or is not TOML; with [auto], if a catalogue cannot.
            SettingsError: if a name is unknown, or a value of the wrong kind or out of bounds.
        """
        table = read_toml(path)
        unknown = sorted(table.keys() - _KNOWN)
        if unknown:
            raise SettingsError(
                f"{path.name}: there is no {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}. "
                "Settings of the run go under [settings].",
                field=unknown[0],
            )
        if not _NAME.fullmatch(path.stem):
            raise SettingsError(
                "The experiment's file names the run: letters, digits, hyphens and underscores.",
                field="experiment",
            )
        files, settings = table.get("catalogues"), table.get("settings", {})
        if not isinstance(files, list) or not files or not all(isinstance(f, str) for f in files):
            raise SettingsError(
                f"{path.name}: `catalogues` must be a list of files, at least one.",
                field="catalogues",
            )
        if not isinstance(settings, dict):
            raise SettingsError(f"{path.name}: [settings] must be a table.", field="settings")
        read = RunSettings.from_flat(settings)
        if read.noise == "distributed" and read.min_merchants < LEAST_SHARING:
            raise SettingsError(
                f"noise: distributed takes at least {LEAST_SHARING} merchants; say in [settings] "
                "how many there are: min_merchants.",
                field="min_merchants",
            )
        if read.noise not in {"local", "distributed"}:
            raise SettingsError(
                f"noise: {read.noise} exists in simulation only; merchants' nodes refuse it.",
                field="noise",
            )
        holdout = table.get("public_holdout")
        if holdout is not None and not (isinstance(holdout, str) and holdout):
            raise SettingsError(
                f"{path.name}: `public_holdout` must be a file's name.", field="public_holdout"
            )
        catalogues = tuple(path.parent / file for file in files)
        chosen: dict[str, Choice] = {}
        if "auto" in table:
            facts = _facts(path, table["auto"], catalogues, read)
            read, chosen = fit_settings(read, facts, settings)
        return cls(
            path.stem, catalogues, read, None if holdout is None else path.parent / holdout, chosen
        )


def _facts(
    path: Path, table: object, catalogues: Sequence[Path], settings: RunSettings
) -> DeclaredFacts:
    """Return what an experiment's file declares for [auto]."""
    if not isinstance(table, dict) or table.keys() != _AUTO.keys():
        raise SettingsError(
            f"{path.name}: [auto] must be a table of {' and '.join(_AUTO)}.", field="auto"
        )
    for name, kind in _AUTO.items():
        if type(table[name]) is not kind:  # true is an int
            raise SettingsError(
                f"{path.name}: {name} in [auto]: a {type(table[name]).__name__} was given; it must "
                f"be {'true or false' if kind is bool else 'a whole number, at least 1'}.",
                field=name,
            )
    return DeclaredFacts.of(map(read_catalogue, catalogues), settings, **table)


@dataclass(frozen=True)
class RunFolder:
    """Where one run is kept on the server."""

    root: Path

    @classmethod
    def prepare(cls, server: ServerFolder, experiment: Experiment) -> "RunFolder":
        """Make the run's folder, or take it as a stop left it, with the public catalogue in it.

        Raises:
            InputError: if a catalogue cannot be read.
        """
        folder = cls(server.runs.resolve() / experiment.name)
        merged = merge_catalogues([read_catalogue(path) for path in experiment.catalogues])
        write_catalogue(merged, folder.root / CATALOGUE_FILE)
        return folder

    def settled(self, experiment: Experiment, today: date | None = None) -> Experiment:
        """Return the experiment with the end of its season: named, or the day of its first start.

        The day is kept in the run's folder, so that the same run goes on, and is published, with
        it. A run that an earlier version began, which took no season, goes on without one.

        Args:
            experiment: As it was read.
            today: The day that a fresh run takes; None changes nothing on disk.

        Raises:
            InputError: if what is kept cannot be read.
            SettingsError: if the shares of the budget leave nothing for training.
        """
        asked, path = experiment.settings, self.root / _SEASON
        if "season_ends" in asked.model_fields_set or not asked.season_share:
            return experiment
        if not path.exists():
            if today is None or self.run_ids:
                return experiment
            write_atomic(path, json.dumps([today.isoformat()]).encode())
        settings = RunSettings.from_flat(
            {**asked.model_dump(), "season_ends": ",".join(_read_list(path))}
        )
        return replace(experiment, settings=settings)

    def config(self, server: ServerFolder, settings: RunSettings) -> dict[str, Scalar]:
        """Return the run's configuration, as Flower carries it to everybody who takes part.

        Its places are relative to the server's folder: where that lies is no merchant's business.
        """
        places = {
            "catalogue": self.root / CATALOGUE_FILE,
            "folder": self.root,
            "journal": server.journal,
            "cache": server.cache,
            "members": server.members,
            "authority": server.authority,
        }
        root = server.root.resolve()
        if self.refresh is not None:
            places["parent"] = server.releases / self.refresh[0]
        told = {name: str(path.resolve().relative_to(root)) for name, path in places.items()}
        return {**settings.to_flat(), **told}

    @property
    def refresh(self) -> tuple[str, dict[str, Scalar]] | None:
        """The version of the release that the run refreshes, and its settings; None with rounds.

        Raises:
            InputError: if what is kept cannot be read.
        """
        path = self.root / _REFRESH
        if not path.exists():
            return None
        try:
            version, settings = json.loads(path.read_bytes())
            return Path(version).name, dict(settings)
        except (OSError, ValueError, TypeError):
            raise InputError(f"{path} cannot be read; put back a copy.", field="refresh") from None

    def note_refresh(self, version: str, settings: Mapping[str, Scalar]) -> None:
        """Remember which release the run refreshes, and with which settings."""
        write_atomic(self.root / _REFRESH, json.dumps([version, dict(settings)]).encode())

    @property
    def run_ids(self) -> frozenset[str]:
        """Flower's numbers of the run: one for each time it was started."""
        path = self.root / _RUN_IDS
        return frozenset(_read_list(path)) if path.exists() else frozenset()

    def note_run_id(self, run_id: int) -> None:
        """Remember one more number."""
        content = json.dumps(sorted(self.run_ids | {str(run_id)}))
        write_atomic(self.root / _RUN_IDS, content.encode())

    @property
    def released(self) -> str:
        """The version of the run's release; empty where there is none yet."""
        path = self.root / _RELEASED
        return _read_list(path)[0] if path.exists() else ""

    def note_release(self, version: str) -> None:
        """Remember that the run was released."""
        write_atomic(self.root / _RELEASED, json.dumps([version]).encode())


def _read_list(path: Path) -> list[str]:
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, list) and found and all(isinstance(one, str) for one in found):
            return found
    except (OSError, ValueError):
        pass
    raise InputError(f"{path} cannot be read; put back a copy.", field=path.stem)
