"""How large the synthetic marketplace is, and how strongly each facet of a title drives choice."""

from dataclasses import dataclass

from common.errors import SettingsError

LAUNCH_DAYS_IN_TEST = 20  # the last cold items appear this long after the test period begins


@dataclass(frozen=True)
class MarketplaceSettings:
    """The size of the marketplace and how strongly each facet drives choice.

    Attributes:
        merchants: Shops on the platform, 1 to 64; they share the catalogue, not the shoppers.
        min_shoppers: Fewest shoppers at a merchant, at least 10.
        max_shoppers: Most shoppers at a merchant, at most 10,000.
        items: Products in the catalogue, 100 to 20,000.
        min_interactions: Fewest rows of a shopper, at least 3.
        max_interactions: Most rows of a shopper, at most half of `items` and at most 500.
        basket_size: Mean items in a basket, 1 to 10.
        zipf: Exponent of popularity by rank, 0 (all alike) to 2.
        cold_share: Share of items launched after training ends, 0 to 0.5.
        novelty: How much an item pulls at its launch beyond its later pull of 1, 0 to 100.
        style_strength: Utility of a favourite style, 0 to 10.
        word_strength: Standard deviation of the utility of one word for a style, 0 to 10.
        family_strength: The same for a family, department or material, 0 to 10.
        attribute_strength: The same for a colour, and for a style beside the favourites.
        trend_strength: Standard deviation of what all shoppers like alike, 0 to 10.
        repeat_factor: What owning an item does to its odds of being bought again, 0 to 1.
        days: Length of the whole period, 60 to 3,650.
        valid_day: Day on which validation begins.
        test_day: Day on which test begins.

    Raises:
        SettingsError: if a value is out of its bounds.
    """

    merchants: int = 4
    min_shoppers: int = 350
    max_shoppers: int = 450
    items: int = 2000
    min_interactions: int = 15
    max_interactions: int = 40
    basket_size: float = 3.0
    zipf: float = 0.4
    cold_share: float = 0.12
    novelty: float = 3.0
    style_strength: float = 3.5
    word_strength: float = 0.8
    family_strength: float = 0.8
    attribute_strength: float = 0.5
    trend_strength: float = 1.1
    repeat_factor: float = 0.1
    days: int = 366
    valid_day: int = 274
    test_day: int = 305

    def __post_init__(self) -> None:
        bounds: dict[str, tuple[float, float]] = {
            "merchants": (1, 64),
            "min_shoppers": (10, self.max_shoppers),
            "max_shoppers": (self.min_shoppers, 10_000),
            "items": (100, 20_000),
            "min_interactions": (3, self.max_interactions),
            "max_interactions": (self.min_interactions, min(500, self.items // 2)),
            "basket_size": (1, 10),
            "zipf": (0, 2),
            "cold_share": (0, 0.5),
            "novelty": (0, 100),
            "style_strength": (0, 10),
            "word_strength": (0, 10),
            "family_strength": (0, 10),
            "attribute_strength": (0, 10),
            "trend_strength": (0, 10),
            "repeat_factor": (0, 1),
            "days": (60, 3650),
            "valid_day": (1, self.test_day),
            "test_day": (self.valid_day, self.days - LAUNCH_DAYS_IN_TEST),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise SettingsError(
                    f"The marketplace's {name} is {value}; it must be {low} to {high}.", field=name
                )
