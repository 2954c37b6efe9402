"""Models kept beside the one that serves, and how a merchant goes back to one.

Files of a model are named by what they hold, so models share them: a kept model is one more
manifest in the folder. Going back is one rename, that of the manifest which serves. The releases
that kept models are of lie beside them, since a model serves only while its release is verified.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.recommending.shop_model import (
    MANIFEST,
    ModelManifest,
    ModelSource,
    ShopModel,
    is_fresh,
    load_shop_model,
    parse_model_manifest,
    read_manifest,
    remove_unnamed,
    save_shop_model,
)
from client.shop.pointer import dataset_digest
from common.errors import InputError, ReleaseError
from common.files import PRIVATE_MODE, sync_folder, write_atomic
from common.identity.signing_key import PublicKey
from common.release.code_digest import code_digest
from common.release.verify import VerifiedRelease, verify_release

MOST_KEPT = 5  # models in a folder, with the one that serves
_LOCK = "lock"
_SHOWN_DIGITS = 16


@dataclass(frozen=True)
class KeptModel:
    """A model that can serve.

    Attributes:
        digest: SHA-256 of its manifest, as hex.
        source: What it was made of.
        fitted: When, in seconds since 1970 UTC: its file's own time.
        serves: Whether the folder's manifest names it.
    """

    digest: str
    source: ModelSource
    fitted: float
    serves: bool


def keep_shop_model(model: ShopModel, folder: Path, release: Path, most: int = MOST_KEPT) -> str:
    """Save a model as the one that serves, keep those before it, and return its digest.

    Of more than `most` the oldest go. Whatever stops this leaves a whole model serving.

    Args:
        model: See `save_shop_model`.
        folder: The models' folder.
        release: The folder of the model's release, already verified; a copy is kept.
        most: How many models stay, this one with them: 1 forgets all purchases of earlier ones.

    Raises:
        InputError: as `save_shop_model`, or if `most` is below 1.
        OSError: if the disk is full, or the folder cannot be written.
    """
    if most < 1:
        raise InputError(f"{most} models cannot be kept; one serves.", field="keep")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(folder):
        _keep_serving(folder)  # a folder of an earlier version keeps its model too
        if model.source is not None:
            _keep_release(release, folder, model.source.release_digest)
        digest = save_shop_model(model, folder, named_elsewhere=_named_files(folder))
        _keep_serving(folder)
        _forget_oldest(folder, most)
    return digest


def kept_models(folder: Path) -> list[KeptModel]:
    """Return the models of a folder, the latest fitted first.

    Raises:
        InputError: if the manifest that serves cannot be read.
    """
    try:
        serving = read_manifest(folder)[1]
    except FileNotFoundError:
        serving = ""
    found = []
    for path in folder.glob("kept-*.json"):
        try:
            manifest, digest = _read_kept(path)
            fitted = path.stat().st_mtime
        except (OSError, InputError):
            continue  # of another version, or just gone: nothing to go back to
        found.append(KeptModel(digest, manifest.source, fitted, digest == serving))
    return sorted(found, key=lambda one: (-one.fitted, one.digest))


def roll_back(folder: Path, digest: str) -> KeptModel:
    """Make a kept model the one that serves. Whoever serves takes it within two seconds.

    Raises:
        InputError: if no such model is kept, or a file of it is missing or altered; the model that
            serves stays then.
        OSError: if the folder cannot be written.
    """
    with _alone(folder):
        found = next((one for one in kept_models(folder) if one.digest == digest), None)
        if found is None:
            raise InputError("No model of that digest is kept.", field="model_digest")
        kept = folder / _kept_name(digest)
        load_shop_model(folder, manifest=kept.name)
        write_atomic(folder / MANIFEST, kept.read_bytes(), mode=PRIVATE_MODE)
    return KeptModel(found.digest, found.source, found.fitted, serves=True)


def model_named(folder: Path, digest: str) -> str:
    """Return the file name of a model's manifest: that of a kept one, else the one that serves."""
    return _kept_name(digest) if (folder / _kept_name(digest)).exists() else MANIFEST


def release_of(source: ModelSource, folder: Path, release: Path, key: PublicKey) -> VerifiedRelease:
    """Return the verified release that a model is of.

    Args:
        source: The model's.
        folder: The models' folder, with the releases of kept models.
        release: The folder of the release in use, looked at first.
        key: The operator's.

    Raises:
        ReleaseError: if neither is that release, or it is not verified.
    """
    found = verify_release(release, key)
    if found.manifest.digest == source.release_digest:
        return found
    kept = folder / _release_name(source.release_digest)
    if kept.is_dir():
        found = verify_release(kept, key)
        if found.manifest.digest == source.release_digest:
            return found
    raise ReleaseError(
        f"The shop model is of release {source.release} and another digest than {release.name}; "
        "run `fedtail client fit` with this release.",
        field="model",
    )


def source_of(release: VerifiedRelease, shop: Path) -> ModelSource:
    """Return what a model of this release, shop and code is made of.

    Raises:
        InputError: if the shop's folder has no data set.
    """
    manifest = release.manifest
    return ModelSource(
        release=manifest.version,
        release_digest=manifest.digest,
        data_digest=dataset_digest(shop),
        code_digest=code_digest(),
    )


def fresh_model(release: VerifiedRelease, shop: Path, folder: Path) -> ShopModel | None:
    """Return the model in `folder` if it is of just this release, shop and code.

    Raises:
        InputError: if the shop's folder has no data set, or a file of the model was altered.
    """
    return load_shop_model(folder) if is_fresh(folder, source_of(release, shop)) else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder against another fit or roll back."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, PRIVATE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _keep_serving(folder: Path) -> None:
    """Give the manifest that serves a name of its own too."""
    try:
        content, digest = (folder / MANIFEST).read_bytes(), read_manifest(folder)[1]
    except (FileNotFoundError, InputError):
        return  # none, or of another version: nothing to keep
    path, fitted = folder / _kept_name(digest), (folder / MANIFEST).stat().st_mtime
    if not path.exists():
        write_atomic(path, content, mode=PRIVATE_MODE)
        os.utime(path, (fitted, fitted))


def _keep_release(release: Path, folder: Path, digest: str) -> None:
    place = folder / _release_name(digest)
    if place.exists():
        return
    new = Path(tempfile.mkdtemp(prefix="new-release-", dir=folder))
    try:
        shutil.copytree(release, new, dirs_exist_ok=True)
        new.rename(place)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _forget_oldest(folder: Path, most: int) -> None:
    """Remove what is past `most`, and what no kept model names. The one that serves stays."""
    models = kept_models(folder)
    ordered = [one for one in models if one.serves] + [one for one in models if not one.serves]
    for one in ordered[most:]:
        (folder / _kept_name(one.digest)).unlink(missing_ok=True)
    remove_unnamed(folder, _named_files(folder))
    releases = {_release_name(one.source.release_digest) for one in ordered[:most]}
    for path in folder.glob("release-*"):
        if path.name not in releases:
            shutil.rmtree(path, ignore_errors=True)  # the next fit tries again


def _named_files(folder: Path) -> set[str]:
    """Return the files that a manifest of the folder names."""
    named: set[str] = set()
    for path in (folder / MANIFEST, *folder.glob("kept-*.json")):
        try:
            named |= {one.name for one in _read_kept(path)[0].files.values()}
        except (OSError, InputError):
            continue
    return named


def _read_kept(path: Path) -> tuple[ModelManifest, str]:
    return parse_model_manifest(path.read_bytes())


def _kept_name(digest: str) -> str:
    return f"kept-{digest[:_SHOWN_DIGITS]}.json"


def _release_name(digest: str) -> str:
    return f"release-{digest[:_SHOWN_DIGITS]}"
