"""A shop's model: all that ranking needs, fitted once and then only read.

It lies in a folder: `manifest.json` names the files and their digests, and is renamed into place
last. Whatever stops the writer before that leaves the old model, whole; whoever has mapped the old
files keeps them. Arrays are mapped and not read, so two processes share them.

The model holds purchases, and factors made of them. Its folder is for the owner alone.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError
from scipy.sparse import csr_matrix

from client.ranking.fusion import FusedRanker, FusionWeights
from client.ranking.purchase_probability import ClickChances
from client.ranking.sales_trend import SalesTrend
from client.ranking.season import BY_EVIDENCE, PLAIN, ItemSeason, SeasonForm, Seasons, no_season
from client.ranking.text_ease import TextEaseModel
from client.ranking.text_scorer import TextScorer
from client.recommending.kept.model_arrays import CSR, PAIRS, ModelArrays
from client.shop.interactions import Interactions
from common.arrays import map_arrays, write_arrays
from common.catalogue import Catalogue, read_catalogue, write_catalogue
from common.errors import InputError
from common.evaluation.calibration import ClickCurve
from common.files import PRIVATE_MODE, sha256_hex, write_atomic
from common.record import FrozenMap, Record, Sha256, first_problem

MANIFEST = "manifest.json"
FORMAT = 6  # 1 had the factors the other way round, 5 no season's reliability
_PLAIN_FORMAT = 4  # all of a season counts for every item
_READ = (2, 3, _PLAIN_FORMAT, 5, FORMAT)  # 2 had no season, 3 no pairs
_FOLDER_MODE = 0o700
_FILES = ("arrays", "catalogue", "shoppers")
_NO_SEASON = {"season": 0.0, "federated_season": 0.0, "federated_prior": 0.0}  # of format 2
_COLUMNS = ("shopper", "item", "time", "basket", "value")


class ModelSource(Record):
    """What a model was made of.

    Attributes:
        release: The release's version.
        release_digest: `Manifest.digest` of the release.
        data_digest: `dataset_digest` of the shop's folder.
        code_digest: `common.release.code_digest` of the code that fitted it.
    """

    release: str
    release_digest: Sha256
    data_digest: Sha256
    code_digest: Sha256


class ModelFile(Record):
    """One file of a model: its name, its size in bytes and its SHA-256."""

    name: str = Field(pattern=r"\A[a-z]+-[0-9a-f]{16}\.(safetensors|jsonl|json)\z")
    size: int = Field(ge=0)
    sha256: Sha256


class _Format(BaseModel):
    """What each manifest begins with, whatever else is in it."""

    format: int


class ModelManifest(Record):
    """`manifest.json` of a model's folder."""

    format: int
    shop: str
    source: ModelSource
    timed: bool
    weights: FrozenMap[float]
    decay: float = Field(gt=0, le=1)
    strength: float = Field(default=1.0, ge=0)  # a file of before had none
    sign: float = Field(ge=-1, le=1)
    l2: float = Field(gt=0)
    text_strength: float = Field(ge=0)
    boosts: tuple[Annotated[float, Field(ge=0, le=2)], ...]
    files: FrozenMap[ModelFile]


@dataclass(frozen=True, eq=False)
class ShopModel:
    """One merchant's ranker and what it was fitted on.

    Attributes:
        shop: The data set's name.
        source: What it was made of; None where it was fitted for one list and is not kept.
        catalogue: What can be ranked.
        ranker: At tail boost 1.
        tail: bool [items], the tail by what sold before the validation period.
        chances: Click curves by tail boost; there is none for other boosts.
        purchases: Of all shoppers.
        digest: SHA-256 of its manifest; "" if it is not kept.
    """

    shop: str
    source: ModelSource | None
    catalogue: Catalogue
    ranker: FusedRanker
    tail: NDArray[np.bool_]
    chances: Mapping[float, ClickChances]
    purchases: Interactions
    digest: str = ""

    @cached_property
    def place_of_shopper(self) -> Mapping[str, int]:
        """Each shopper's index in `purchases`."""
        return {name: place for place, name in enumerate(self.purchases.shopper_ids)}

    def bought_by(self, shopper: int) -> NDArray[np.int32]:
        """Return all items that a shopper (an index) ever bought, each once."""
        column = self.purchases.shopper
        wanted = column.dtype.type(shopper)
        rows = slice(*np.searchsorted(column, [wanted, wanted + 1]))
        return np.unique(self.purchases.item[rows])


def save_shop_model(
    model: ShopModel, folder: Path, *, named_elsewhere: Collection[str] = ()
) -> str:
    """Write `model` into `folder`, in the place of the model there; return its digest.

    Args:
        model: Made to be kept.
        folder: Is made if it is not there.
        named_elsewhere: Files of the folder that stay, since other models name them.

    Raises:
        InputError: if the model does not say what it was made of.
        OSError: if the disk is full, or the folder cannot be written.
    """
    own = model.ranker.collaborative
    if model.source is None or not isinstance(own, TextEaseModel):
        raise InputError("This model was not made to be kept; use `fedtail client fit`.")
    folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    folder.chmod(_FOLDER_MODE)
    new = folder / f"new-{os.getpid()}"
    write_catalogue(model.catalogue, new)
    files = {"catalogue": _named(new, folder, "catalogue", "jsonl")}
    write_atomic(new, json.dumps(model.purchases.shopper_ids).encode(), mode=PRIVATE_MODE)
    files["shoppers"] = _named(new, folder, "shoppers", "json")
    write_arrays(new, _arrays(model, own), mode=PRIVATE_MODE)
    files["arrays"] = _named(new, folder, "arrays", "safetensors")
    manifest = ModelManifest(
        format=_PLAIN_FORMAT if model.ranker.season.form == PLAIN else FORMAT,
        shop=model.shop,
        source=model.source,
        timed=model.purchases.timed,
        weights=asdict(model.ranker.weights),
        decay=model.ranker.text.decay,
        strength=model.ranker.text.strength,
        sign=own.sign,
        l2=own.l2,
        text_strength=own.text_strength,
        boosts=tuple(model.chances),
        files=files,
    )
    content = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False).encode()
    write_atomic(folder / MANIFEST, content, mode=PRIVATE_MODE)
    remove_unnamed(folder, {one.name for one in files.values()}.union(named_elsewhere))
    return sha256_hex(content)


def load_shop_model(folder: Path, *, manifest: str = MANIFEST) -> ShopModel:
    """Read the model that `save_shop_model` wrote last, or the one of another manifest there.

    Raises:
        InputError: if there is none, or a file is missing, altered or of another format.
    """
    try:
        return _load(folder, manifest)
    except OSError:
        pass  # a fit may have replaced the model between our two reads: look once more
    try:
        return _load(folder, manifest)
    except FileNotFoundError as error:
        raise InputError(
            f"{folder.name}: no shop model here ({Path(error.filename).name} is missing); make one "
            "with `fedtail client fit`.",
            field="model",
        ) from None
    except OSError as error:
        raise InputError(
            f"{folder.name}: the shop model cannot be read: {error.strerror}.", field="model"
        ) from None


def read_manifest(folder: Path) -> tuple[ModelManifest, str]:
    """Return what the model in `folder` is and was made of, and its digest.

    Raises:
        FileNotFoundError: if there is none.
        InputError: if it is not of this version.
    """
    return parse_model_manifest((folder / MANIFEST).read_bytes())


def parse_model_manifest(content: bytes) -> tuple[ModelManifest, str]:
    """Return what a manifest says, and its digest.

    Raises:
        InputError: if it is not of this version.
    """
    try:
        said = _Format.model_validate_json(content).format
        if said not in _READ:  # before all else: what a later one holds, this one cannot know
            raise InputError(
                f"{MANIFEST}: format {said}; this version reads {FORMAT}. Fit the shop again.",
                field="format",
            )
        manifest = ModelManifest.model_validate_json(content)
        known = {one.name for one in fields(FusionWeights)}
        for field, wrong in (
            ("files", set(manifest.files) != set(_FILES)),
            ("weights", not set(manifest.weights) <= known),
            ("sign", abs(manifest.sign) != 1),
        ):
            if wrong:
                raise InputError(
                    f"{MANIFEST}: {field} is not what format {said} has. Fit the shop again.",
                    field=field,
                )
    except ValidationError as error:
        raise InputError(
            f"{MANIFEST}: is no shop model's: {first_problem(error)}. Fit the shop again.",
            field="model",
        ) from None
    return manifest, sha256_hex(content)


def is_fresh(folder: Path, source: ModelSource) -> bool:
    """Whether the model in `folder` is there and was made of just that."""
    try:
        return read_manifest(folder)[0].source == source
    except (OSError, InputError):
        return False


def _load(folder: Path, name: str) -> ShopModel:
    manifest, digest = parse_model_manifest((folder / name).read_bytes())
    for one in manifest.files.values():
        _check(folder / one.name, one)
    catalogue = read_catalogue(folder / manifest.files["catalogue"].name)
    shopper_ids = _shoppers(folder / manifest.files["shoppers"].name)
    arrays = map_arrays(folder / manifest.files["arrays"].name)
    ModelArrays(manifest.files["arrays"].name, arrays).require(
        items=len(catalogue), shoppers=len(shopper_ids), curves=len(manifest.boosts)
    )
    own = TextEaseModel(
        arrays["factors"],
        arrays["diagonal"],
        manifest.sign,
        manifest.l2,
        manifest.text_strength,
        _pairs(arrays, len(catalogue)),
    )
    text = TextScorer(
        arrays["history_vectors"],
        arrays["candidate_vectors"],
        manifest.decay,
        manifest.strength,
    )
    weights = FusionWeights(**{**_NO_SEASON, **manifest.weights})
    form = BY_EVIDENCE if manifest.format > _PLAIN_FORMAT else PLAIN
    columns = {name: arrays[f"purchases.{name}"] for name in _COLUMNS}
    return ShopModel(
        manifest.shop,
        manifest.source,
        catalogue,
        FusedRanker(text, own, weights, arrays["sales"], *_seasonal(arrays, form)),
        arrays["tail"],
        {boost: _chances(arrays, place) for place, boost in enumerate(manifest.boosts)},
        Interactions(shopper_ids, len(catalogue), **columns, timed=manifest.timed),
        digest,
    )


def _shoppers(path: Path) -> tuple[str, ...]:
    try:
        ids = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        ids = None
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise InputError(f"{path.name}: is no list of ids. Fit the shop again.", field="shoppers")
    return tuple(ids)


def _arrays(model: ShopModel, own: TextEaseModel) -> dict[str, NDArray[Any]]:
    ranker = model.ranker
    curves = {
        f"chances.{place}.{bucket}.{name}": getattr(getattr(one, bucket), name)
        for place, one in enumerate(model.chances.values())
        for bucket in ("head", "tail")
        for name in ("starts", "chances")
    }
    purchases = {f"purchases.{name}": getattr(model.purchases, name) for name in _COLUMNS}
    pairs = (
        {} if own.pairs is None else {f"{PAIRS}{name}": getattr(own.pairs, name) for name in CSR}
    )
    return (
        curves
        | purchases
        | pairs
        | {
            "history_vectors": ranker.text.history_vectors,
            "candidate_vectors": ranker.text.candidate_vectors,
            "factors": own.factors,
            "diagonal": own.diagonal,
            "sales": ranker.sales,
            "trend": ranker.trend.trend,
            "recent": ranker.trend.recent,
            "tail": model.tail,
        }
        | {
            f"season.{name}.{field}": np.atleast_1d(np.asarray(getattr(one, field), np.float32))
            for name, one in (("own", ranker.season.own), ("federated", ranker.season.federated))
            for field in ("direction", "offset", "scores", "reliability")
        }
    )


def _pairs(arrays: Mapping[str, NDArray[Any]], items: int) -> csr_matrix | None:
    """Return a large shop's pairs; other models have none."""
    if f"{PAIRS}indptr" not in arrays:
        return None
    return csr_matrix(tuple(arrays[f"{PAIRS}{name}"] for name in CSR), (items, items))


def _seasonal(arrays: Mapping[str, NDArray[Any]], form: SeasonForm) -> tuple[SalesTrend, Seasons]:
    """Return trend and season; one that says nothing from a file of before there was any."""
    trend = arrays["trend"]
    if "recent" not in arrays:
        nothing = no_season(len(trend), arrays["candidate_vectors"].shape[1])
        return SalesTrend(trend, np.zeros_like(trend)), replace(nothing, form=form)

    def of(name: str) -> ItemSeason:
        start = f"season.{name}"
        offset, reliability = (
            float(arrays[name][0]) if name in arrays else 1.0
            for name in (f"{start}.offset", f"{start}.reliability")
        )
        direction, scores = (arrays[f"{start}.{field}"] for field in ("direction", "scores"))
        return ItemSeason(direction, offset, scores, reliability)

    return SalesTrend(trend, arrays["recent"]), Seasons(of("own"), of("federated"), form)


def _chances(arrays: Mapping[str, NDArray[Any]], place: int) -> ClickChances:
    def curve(bucket: str) -> ClickCurve:
        start = f"chances.{place}.{bucket}"
        return ClickCurve(arrays[f"{start}.starts"], arrays[f"{start}.chances"])

    return ClickChances(curve("head"), curve("tail"))


def _named(new: Path, folder: Path, name: str, ending: str) -> ModelFile:
    """Give a whole new file the name that its digest asks for."""
    new.chmod(PRIVATE_MODE)
    digest, size = _digest(new), new.stat().st_size
    named = f"{name}-{digest[:16]}.{ending}"
    new.replace(folder / named)
    return ModelFile(name=named, size=size, sha256=digest)


def _check(path: Path, want: ModelFile) -> None:
    if path.stat().st_size != want.size or _digest(path) != want.sha256:
        raise InputError(
            f"{path.name}: was altered since it was made; fit the shop again.", field="model"
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_unnamed(folder: Path, named: Collection[str]) -> None:
    """Remove files of models that no manifest names any more."""
    for name in (*_FILES, "new"):
        for path in folder.glob(f"{name}-*"):
            if path.name not in named and path.is_file():
                with contextlib.suppress(OSError):  # the next fit tries again
                    path.unlink()
