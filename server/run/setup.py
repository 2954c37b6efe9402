"""From a run's configuration to all that the strategy needs: basis, first adapter, plan, quorum."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.catalogue import read_catalogue
from common.encoder.adapted_encoder import AdaptedEncoder
from common.encoder.catalogue_encoder import bare_encoder, base_model_digest, fit_public_basis
from common.encoder.release_files import ReleasedModel, released_model
from common.errors import ReleaseError, SettingsError
from common.federation.bounds import Part
from common.federation.descent import aggregator_of, optimiser_of
from common.release.parent import check_kept
from common.release.verify import verify_by_digest
from common.settings.run import RunSettings
from common.wire.messages import Scalar
from server.run.admission_checks import Conditions
from server.run.cohort import Quorum
from server.run.exchange import Patience
from server.run.files import CATALOGUE_FILE, JOURNAL_FILE, SERVER_FOLDER
from server.run.oversight.run_log import read_format
from server.run.run_setup import RunSetup

PLACES = (
    "federation",
    "catalogue",
    "folder",
    "journal",
    "cache",
    "members",
    "authority",
    "new_ledger_keys",
    "merchants",
    "log_format",
    "parent",
)
_PATHS = frozenset(
    {"federation", "catalogue", "folder", "journal", "cache", "members", "authority", "parent"}
)


def open_run(
    run_config: Mapping[str, Scalar], progress: Callable[[int, int], None] | None = None
) -> RunSetup:
    """Return the setup of the run that `run_config` describes.

    Args:
        run_config: The names of `RunSettings`, and beside them the places
            `federation` (a simulated federation's folder, which holds the public catalogue),
            `catalogue` (the file, where there is no such folder), `folder` (for checkpoints),
            `journal` (the journal's file, shared by all runs; else within `folder`),
            `cache` (for encodings), `members` (the file of enrolled nodes, see
            `server.run.admission_checks`), `authority` (the file of who signs the nodes'
            certificates), `new_ledger_keys` (names, with commas, of merchants
            whose ledger may come back under another key), and `merchants`, how many share
            noise that is distributed or central, `log_format`, json or text, and `parent`, the
            folder of the release whose season is taken anew. Paths are relative to the folder that
            `SERVER_FOLDER` in the environment names.
        progress: Told how many items of how many to encode are done.

    Raises:
        SettingsError: if a setting is unknown or out of bounds, or no catalogue is named.
        InputError: if the catalogue cannot be read.
        ReleaseError: if the run is a refresh, and `parent` is not the release that it names, or
            was made under other settings.
    """
    named = {name.replace("-", "_"): value for name, value in run_config.items()}
    places = {name: str(named.pop(name)) for name in PLACES if named.get(name)}
    places |= {name: _placed(places[name]) for name in _PATHS & places.keys()}
    for name in PLACES:
        named.pop(name, None)
    settings = RunSettings.from_flat(named)
    catalogue_path = _catalogue_path(places)
    cache = Path(places["cache"]) if "cache" in places else catalogue_path.parent / ".cache"
    catalogue = read_catalogue(catalogue_path)
    parent = _parent(places, settings, cache)
    basis = parent.basis if parent else fit_public_basis(catalogue, settings, cache, progress)
    encoder = bare_encoder(basis, settings, cache)
    plan = settings.plan(_merchants(places.get("merchants", str(settings.planned_merchants))))
    # Distributed noise spares some of the merchants; elsewhere the least is what settings say.
    least = plan.least_merchants if plan.dp_model == "distributed" else settings.min_merchants
    return RunSetup(
        adapter=parent.adapter if parent else encoder.adapter(),
        basis=basis.to_bytes(),
        plan=plan,
        settings=settings.to_flat(),
        optimiser=optimiser_of(settings),
        learning_rate=settings.learning_rate,
        schedule=settings.schedule,
        quorum=Quorum(least, settings.quorum, settings.wait_seconds),
        round_timeout=settings.round_timeout,
        prepare_timeout=settings.prepare_timeout,
        patience=Patience(grace=settings.grace_seconds),
        aggregate=aggregator_of(settings),
        parts=_parts(encoder),
        log_format=read_format(places.get("log_format", "")),
        season_ends=settings.season_moments,
        vector_width=basis.vector_width,
        folder=Path(places["folder"]) if "folder" in places else None,
        journal=_journal_path(places),
        conditions=_conditions(
            places, base_model_digest(settings.base_model, cache), catalogue.text_keys
        ),
    )


def _parent(places: Mapping[str, str], settings: RunSettings, cache: Path) -> ReleasedModel | None:
    """Return the model of the release that a refresh keeps; None where the run has rounds.

    Its basis is kept too: in another one the season's numbers would say something else.
    """
    if settings.rounds:
        return None
    if "parent" not in places:
        raise SettingsError(
            "A refresh needs the folder of the release that it refreshes: set `parent`.",
            field="parent",
        )
    release = verify_by_digest(Path(places["parent"]), settings.refresh_of)
    check_kept(settings.to_flat(), release)
    weights = release.manifest.base_model.weights_sha256
    if base_model_digest(settings.base_model, cache) != weights:
        raise ReleaseError(
            f"The release that is refreshed was trained on other weights of {settings.base_model}.",
            field="base_model",
        )
    return released_model(release)


def _parts(encoder: AdaptedEncoder) -> tuple[Part, ...]:
    """Return the trained tensors with the coordinates in which nodes clip and noise them."""
    frames = ((one, encoder.noise_basis(name)) for name, one in encoder.trained())
    return tuple(
        Part(tuple(one.shape), None if frame is None else frame.numpy()) for one, frame in frames
    )


def _placed(path: str) -> str:
    """Return where a place lies: every node reads the configuration, so it names no whole path."""
    return str(Path(os.environ.get(SERVER_FOLDER, "")) / path)


def _merchants(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise SettingsError(
            f"merchants is {value!r}; it must be a whole number, at least 1.", field="merchants"
        )
    return int(value)


def _conditions(
    places: Mapping[str, str], base_model: str, text_keys: NDArray[np.uint64]
) -> Conditions:
    names = (name.strip() for name in places.get("new_ledger_keys", "").split(","))
    members = Path(places["members"]) if "members" in places else None
    authority = Path(places["authority"]) if "authority" in places else None
    return Conditions(members, frozenset(filter(None, names)), base_model, text_keys, authority)


def _journal_path(places: Mapping[str, str]) -> Path | None:
    if "journal" in places:
        return Path(places["journal"])
    return Path(places["folder"]) / JOURNAL_FILE if "folder" in places else None


def _catalogue_path(places: Mapping[str, str]) -> Path:
    if "catalogue" in places:
        return Path(places["catalogue"])
    if "federation" in places:
        return Path(places["federation"]) / CATALOGUE_FILE
    raise SettingsError(
        "The run names no public catalogue; set `catalogue` to its file, or `federation` to a "
        "folder that `fedtail simulate` made.",
        field="catalogue",
    )
