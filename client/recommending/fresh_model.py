"""What a shop's model would be made of today, and the kept one if it is made of just that."""

from pathlib import Path

from client.recommending.shop_model import ModelSource, ShopModel, is_fresh, load_shop_model
from client.shop.dataset import dataset_digest
from common.release.code_digest import code_digest
from common.release.verify import VerifiedRelease


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
