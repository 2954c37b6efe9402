"""The data set a simulation runs on: the marketplace, a saved data set, or a raw shop imported."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from client.importing.shop_import import import_shop, read_shop
from client.shop.dataset import MerchantData, load_merchant_data
from client.shop.pointer import POINTER
from client.shop.splitting import split_interactions
from common.catalogue import popularity_buckets
from common.errors import InputError
from simulations.data.marketplace import make_marketplace


def load_dataset(
    path: Path | None,
    *,
    seed: int,
    mapping: str | Path | None = None,
    cache: Path | None = None,
) -> MerchantData:
    """Return the data set at `path`.

    Args:
        path: None for the synthetic marketplace; a folder with `dataset.json`, read as it is; or
            a raw shop, a folder or one file, imported and cleaned.
        seed: Of the marketplace; a data set read from disk does not depend on it.
        mapping: For a raw shop: the name of a ready-made mapping or a mapping file. None guesses.
        cache: Where imported shops are kept under the digest of their files, the mapping and the
            importing code, so that a second run reads the result. It holds shoppers' purchases
            and stays on this machine. None imports each time and keeps nothing but memory.

    Raises:
        InputError: if there is nothing at `path`, or the import fails.
        SettingsError: if the seed is negative.
    """
    if path is None:
        return make_marketplace(seed=seed).data
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.", field="data")
    if (path / POINTER).is_file():
        return load_merchant_data(path)
    if cache is None:
        return read_shop(path, mapping)[0]
    folder = cache / import_key(path, mapping, outside=cache)
    if not (folder / POINTER).is_file():
        import_shop(path, mapping, folder)
    return load_merchant_data(folder)


def import_key(path: Path, mapping: str | Path | None, *, outside: Path | None = None) -> str:
    """Return what an import depends on as 32 hex digits: files, names, mapping and our own code.

    Args:
        path: The raw shop.
        mapping: As in `load_dataset`.
        outside: A folder whose files are not part of the shop though they may lie within it.
    """
    hasher = hashlib.sha256()
    for name, file in [*_code(), *_mapping_file(mapping), *_raw_files(path, outside)]:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        hasher.update(f"{len(name)}:{name}:{digest};".encode())
    hasher.update(f"{path.name}:{mapping or ''}".encode())
    return hasher.hexdigest()[:32]


def _code() -> Iterator[tuple[str, Path]]:
    """Yield the importing code and the ready-made mappings: when they change, so may the result."""
    client = Path(str(files("client")))
    for pattern in ("importing/**/*.py", "importing/**/*.toml", "shop/*.py"):
        for file in sorted(client.glob(pattern)):
            yield file.relative_to(client).as_posix(), file


def _mapping_file(mapping: str | Path | None) -> Iterator[tuple[str, Path]]:
    if mapping is not None and Path(mapping).is_file():
        yield "mapping", Path(mapping)


def _raw_files(path: Path, outside: Path | None) -> Iterator[tuple[str, Path]]:
    if path.is_file():
        yield path.name, path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and not (outside and outside.resolve() in file.resolve().parents):
            yield file.relative_to(path).as_posix(), file


@dataclass(frozen=True)
class DatasetSummary:
    """A data set in six numbers, for the report.

    Attributes:
        shoppers: Shoppers with at least one interaction.
        items: Items in the catalogue.
        interactions: Rows, repeat purchases included.
        density: Distinct shopper-item pairs over shoppers times items, 0 to 1.
        top20_share: Share of the training pairs on the top 20% of items, 0 to 1.
        cold_items: Items without a training interaction.
    """

    shoppers: int
    items: int
    interactions: int
    density: float
    top20_share: float
    cold_items: int


def summarise_dataset(data: MerchantData) -> DatasetSummary:
    """Count `data`; training is what its split rule says it is."""
    bought = data.interactions.matrix()
    shoppers = int((bought.getnnz(axis=1) > 0).sum())
    counts = split_interactions(data.interactions, data.split_rule).train.item_counts()
    buckets = popularity_buckets(counts)
    return DatasetSummary(
        shoppers=shoppers,
        items=len(data.catalogue),
        interactions=len(data.interactions),
        density=bought.nnz / max(shoppers * len(data.catalogue), 1),
        top20_share=float(counts[buckets.head].sum() / max(counts.sum(), 1)),
        cold_items=int(buckets.cold.sum()),
    )
