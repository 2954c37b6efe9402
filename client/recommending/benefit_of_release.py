"""What a verified release brings to a shop: `measure_benefit` on the shop's own folder."""

from dataclasses import dataclass
from pathlib import Path

from client.ranking.released_vectors import ReleasedVectors, released_vectors
from client.recommending.join_benefit import Benefit, measure_benefit
from client.recommending.model_history import fresh_model
from client.shop.dataset import load_merchant_data
from common.release.verify import VerifiedRelease
from common.settings.run import RunSettings


@dataclass(frozen=True, eq=False)
class BenefitOfRelease:
    """What was measured, and on what.

    Attributes:
        benefit: The measures and the verdict.
        shop: The shop's name.
        release: The release's version.
        took_part: Whether the shop's own catalogue is among those the release was trained with.
    """

    benefit: Benefit
    shop: str
    release: str
    took_part: bool


def benefit_of(
    release: VerifiedRelease,
    shop: Path,
    model: Path,
    cache: Path,
    solo: VerifiedRelease | None = None,
) -> BenefitOfRelease:
    """Measure what `release` brings on the shop's validation period.

    Args:
        release: Verified.
        shop: The shop's folder.
        model: The models' folder; a fresh model that uses the release as it is saves encoding the
            catalogue again.
        cache: Folder of encodings.
        solo: A release that this shop trained alone, to compare with.

    Raises:
        FedtailError: as `load_merchant_data`, `released_vectors` and `measure_benefit`.
    """
    data = load_merchant_data(shop)
    alone = None if solo is None else released_vectors(solo, data.catalogue, cache)
    fitted = fresh_model(release, shop, model)
    if fitted is None or fitted.ranker.text.strength != 1:
        # A fit chose that strength by the very shoppers who are to judge the release.
        joined = released_vectors(release, data.catalogue, cache)
    else:
        text, settings = fitted.ranker.text, release.manifest.adapter.settings
        decay = RunSettings.from_flat(dict(settings)).history_decay
        joined = ReleasedVectors(
            text.history_vectors, text.candidate_vectors, decay, release.season
        )
    return BenefitOfRelease(
        measure_benefit(data, joined, alone),
        data.name,
        release.manifest.version,
        data.catalogue.digest in release.manifest.catalogues.values(),
    )
