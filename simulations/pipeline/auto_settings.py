"""What a simulation declares to the rule that chooses settings."""

from collections.abc import Sequence

from common.settings.auto import DeclaredFacts
from common.settings.run import RunSettings
from simulations.data.shop import Shop


def declared_facts(settings: RunSettings, shops: Sequence[Shop]) -> DeclaredFacts:
    """Return what these shops would declare: their catalogues, whether they have a clock, sizes."""
    return DeclaredFacts.of(
        [shop.data.catalogue for shop in shops],
        settings,
        clock=shops[0].data.interactions.timed,
        merchants=len(shops),
    )
