"""A seeded synthetic marketplace whose true preferences are known: the embedded default.

It is made up. It shows that the parts work and lets a test ask whether training finds what
shoppers like; it proves nothing about a real shop. docs/explanation-marketplace.md tells how it
is made.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from client.shop.dataset import MerchantData
from client.shop.interactions import Interactions
from client.shop.splitting import SplitRule
from common.catalogue import Catalogue, Item
from common.errors import SettingsError
from simulations.data.marketplace_settings import LAUNCH_DAYS_IN_TEST, MarketplaceSettings
from simulations.data.titles import (
    COLOURS,
    DEPARTMENTS,
    FAMILIES,
    MATERIALS,
    STYLE_COLOURS,
    STYLE_WORDS,
    STYLES,
    Products,
    write_products,
)

MICROSECONDS_PER_DAY = 86_400_000_000
OPENING = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
OPEN_HOURS = (8, 22)
SECOND_STYLE_SHARE = 0.5  # shoppers who like a second style, and how much less they like it
SECOND_STYLE_LIKING = 0.6
COLOUR_FOLLOWS_STYLE = 0.8  # how much of a colour's liking comes from the styles it goes with
OLD_STOCK_DAYS = 365.0  # how long before the opening the first items were launched
LATE_SHARE = 0.4  # items that go on sale during training
GROWTH = 0.75  # days are drawn as u**GROWTH: trade rises a little over the year
NOVELTY_LASTS = 45 * MICROSECONDS_PER_DAY  # after this time the pull of the new is down to 1/e
LEAST_SHELF = 0.02  # added to each department's share: no shop leaves one out
MERCHANT_NAMES = ("Abbey", "Harbour", "Lantern Row", "Mill Lane", "Orchard", "Quay", "Station")


@dataclass(frozen=True, eq=False)
class Preferences:
    """What each shopper likes: float32 [shoppers, values of the facet], utilities that add up.

    `vogue` is what all like alike, float64 [values] by facet, and is already in them.
    """

    style: NDArray[np.float32]
    word: NDArray[np.float32]
    family: NDArray[np.float32]
    department: NDArray[np.float32]
    colour: NDArray[np.float32]
    material: NDArray[np.float32]
    vogue: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, eq=False)
class Marketplace:
    """The data a federation sees, and the truth behind them, which it does not.

    Attributes:
        data: All merchants' purchases; `event_merchant` says where each was made.
        products: The facets of each title, by item index.
        preferences: The shoppers' latent preferences, by shopper index.
        popularity: float64 [items], an item's pull on every shopper; no facet explains it.
        launch: int64 [items], when an item went on sale, microseconds since 1970 UTC.
        shopper_merchant: int32 [shoppers], index into `data.merchant_names`.
        shelf: float64 [merchants, departments], how much room a shop gives a department; it
            multiplies the odds of its items and is no part of anybody's preferences.
    """

    data: MerchantData
    products: Products
    preferences: Preferences
    popularity: NDArray[np.float64]
    launch: NDArray[np.int64]
    shopper_merchant: NDArray[np.int32]
    shelf: NDArray[np.float64]

    def affinity(self, shopper_indices: Sequence[int] | NDArray[np.integer]) -> NDArray[np.float32]:
        """Return true utilities, float32 [s, items]: what the shopper likes, popularity aside.

        One unit multiplies the odds of a choice by e. A utility depends on the words of the title
        and on nothing else about the item.
        """
        return _utilities(self.preferences, self.products, np.asarray(shopper_indices))

    @cached_property
    def cold(self) -> NDArray[np.bool_]:
        """Which items went on sale after the training period: bool [items]."""
        return self.launch >= self.data.split_rule.valid_from


def make_marketplace(settings: MarketplaceSettings | None = None, *, seed: int = 0) -> Marketplace:
    """Make the marketplace of `settings`; the same seed gives the same bytes.

    What is returned is kept and is not to be written to.

    Raises:
        SettingsError: if the seed is negative.
    """
    if seed < 0:
        raise SettingsError(f"The seed is {seed}; it must be 0 or more.", field="seed")
    return _made(settings or MarketplaceSettings(), seed)


@functools.lru_cache(maxsize=1)
def _made(settings: MarketplaceSettings, seed: int) -> Marketplace:
    """Make it once: a simulation asks for its shops, and again for who is to judge a release."""
    for_titles, for_items, for_people, for_trade = np.random.default_rng(seed).spawn(4)
    products = write_products(settings.items, for_titles)
    popularity = _draw_popularity(settings, for_items)
    launch = _draw_launches(settings, for_items)
    shopper_merchant = _draw_merchants(settings, for_people)
    shelf = for_people.dirichlet(np.ones(len(DEPARTMENTS)), settings.merchants) + LEAST_SHELF
    preferences = _draw_preferences(len(shopper_merchant), settings, for_people)
    log_odds = _log_odds(preferences, products, popularity, shelf[shopper_merchant])
    interactions = _shop(log_odds, launch, settings, for_trade)
    data = MerchantData(
        name="Synthetic marketplace",
        catalogue=_catalogue(products, for_items),
        interactions=interactions,
        split_rule=SplitRule("time", _clock(settings.valid_day), _clock(settings.test_day)),
        event_merchant=shopper_merchant[interactions.shopper],
        merchant_names=tuple(sorted(_merchant_name(place) for place in range(settings.merchants))),
        catalogue_declared=True,
    )
    return Marketplace(data, products, preferences, popularity, launch, shopper_merchant, shelf)


def other_shoppers(
    market: Marketplace, shoppers: int, seed: int, settings: MarketplaceSettings | None = None
) -> MerchantData:
    """Return a shop of the same marketplace whose shoppers are nobody of it.

    They see the same items and the same vogue, and have preferences of their own; the shop gives
    departments the room that merchants give them on average. `settings` are the marketplace's.
    """
    for_people, for_trade = np.random.default_rng((seed, shoppers)).spawn(2)
    settings = settings or MarketplaceSettings()
    preferences = _draw_preferences(shoppers, settings, for_people, market.preferences.vogue)
    shelf = np.broadcast_to(market.shelf.mean(axis=0), (shoppers, market.shelf.shape[1]))
    log_odds = _log_odds(preferences, market.products, market.popularity, shelf)
    return replace(
        market.data,
        name="Public shoppers of the synthetic marketplace",
        interactions=_shop(log_odds, market.launch, settings, for_trade),
        event_merchant=None,
        merchant_names=(),
    )


def _clock(day: float) -> int:
    return OPENING + int(day * MICROSECONDS_PER_DAY)


def _merchant_name(place: int) -> str:
    return MERCHANT_NAMES[place] if place < len(MERCHANT_NAMES) else f"Shop {place + 1}"


def _catalogue(products: Products, random: np.random.Generator) -> Catalogue:
    """Return the products under ids drawn at random, so that an id tells nothing."""
    numbers = np.sort(random.choice(90_000, len(products.titles), replace=False)) + 10_000
    return Catalogue(
        tuple(
            Item(str(number), title, title, category=DEPARTMENTS[department].name)
            for number, title, department in zip(
                numbers, products.titles, products.department, strict=True
            )
        )
    )


def _draw_popularity(
    settings: MarketplaceSettings, random: np.random.Generator
) -> NDArray[np.float64]:
    """Return rank**-zipf, the ranks dealt to items at random: float64 [items]."""
    return np.asarray((random.permutation(settings.items) + 1.0) ** -settings.zipf)


def _draw_launches(settings: MarketplaceSettings, random: np.random.Generator) -> NDArray[np.int64]:
    """Return launch times [items]: most at the opening, some in training, cold ones after it."""
    day = np.full(settings.items, -OLD_STOCK_DAYS)
    order = random.permutation(settings.items)
    cold, late = np.split(order, [round(settings.cold_share * settings.items)])
    late = late[: round(LATE_SHARE * len(late))]
    day[late] = random.uniform(0, settings.valid_day * 0.9, len(late))
    in_valid, in_test = np.array_split(cold, 2)
    day[in_valid] = random.uniform(settings.valid_day, settings.test_day, len(in_valid))
    last = settings.test_day + LAUNCH_DAYS_IN_TEST
    day[in_test] = random.uniform(settings.test_day, last, len(in_test))
    return OPENING + (day * MICROSECONDS_PER_DAY).astype(np.int64)


def _draw_merchants(
    settings: MarketplaceSettings, random: np.random.Generator
) -> NDArray[np.int32]:
    """Return each shopper's merchant [shoppers], in mixed order."""
    sizes = random.integers(settings.min_shoppers, settings.max_shoppers + 1, settings.merchants)
    return random.permutation(np.repeat(np.arange(settings.merchants), sizes)).astype(np.int32)


def _draw_preferences(
    shoppers: int,
    settings: MarketplaceSettings,
    random: np.random.Generator,
    known_vogue: Sequence[NDArray[np.float64]] = (),
) -> Preferences:
    """Draw what each shopper likes: what is in vogue with all, favourite styles, and whims.

    The vogue is drawn too, unless it is known.

    Colours follow styles. That, and what is in vogue, no title says: it has to be learnt from
    shoppers. The product family, which a sentence encoder weighs most, matters least.
    """
    people = np.arange(shoppers)
    style = np.zeros((shoppers, len(STYLES)))
    first, second = random.integers(len(STYLES), size=(2, shoppers))
    has_second = random.random(shoppers) < SECOND_STYLE_SHARE
    style[people[has_second], second[has_second]] = SECOND_STYLE_LIKING
    style[people, first] = 1.0
    goes_with = np.array([[colour in pair for colour in COLOURS] for pair in STYLE_COLOURS])

    given = iter(known_vogue)
    shared_by_facet: list[NDArray[np.float64]] = []

    def own(values: int, strength: float) -> NDArray[np.float64]:
        shared = next(given, None)
        if shared is None:
            shared = settings.trend_strength * random.permutation(_normal_scores(values))
        shared_by_facet.append(shared)
        return shared + strength * random.standard_normal((shoppers, values))

    weak = settings.attribute_strength
    follow = COLOUR_FOLLOWS_STYLE * settings.style_strength / 2
    parts = (
        settings.style_strength * style + own(len(STYLES), weak),
        own(len(STYLE_WORDS), settings.word_strength),
        own(len(FAMILIES), settings.family_strength),
        own(len(DEPARTMENTS), settings.family_strength),
        follow * style @ goes_with + own(len(COLOURS), weak),
        own(len(MATERIALS), settings.family_strength),
    )
    styles, *others = (part.astype(np.float32) for part in parts)
    word, family, department, colour, material = others
    return Preferences(styles, word, family, department, colour, material, tuple(shared_by_facet))


def _normal_scores(count: int) -> NDArray[np.float64]:
    """Return the quantiles of a normal distribution with variance 1: the same spread every time."""
    scores = ndtri((np.arange(count) + 0.5) / count)
    return np.asarray(scores / scores.std())


def _utilities(
    preferences: Preferences, products: Products, shoppers: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Add up the utilities of the facets a title carries: float32 [s, items]."""
    total = np.zeros((len(shoppers), len(products.titles)), dtype=np.float32)
    for facet in ("style", "word", "family", "department", "colour", "material"):
        liking: NDArray[np.float32] = getattr(preferences, facet)[shoppers]
        with_none = np.pad(liking, ((0, 0), (0, 1)))  # ABSENT, -1, reads the added column of zeros
        total += with_none[:, getattr(products, facet)]
    return total


def _log_odds(
    preferences: Preferences,
    products: Products,
    popularity: NDArray[np.float64],
    shelf: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return log odds, float32 [s, items], where each shopper sees `shelf` [s, departments]."""
    log_odds = _utilities(preferences, products, np.arange(len(shelf)))
    log_odds += np.log(popularity).astype(np.float32)
    log_odds += np.log(shelf).astype(np.float32)[:, products.department]
    return log_odds


def _shop(
    log_odds: NDArray[np.float32],
    launch: NDArray[np.int64],
    settings: MarketplaceSettings,
    random: np.random.Generator,
) -> Interactions:
    """Let every shopper fill baskets, each from the items on sale at that time.

    A basket of k items is drawn without replacement with odds exp(log_odds): the k first arrivals
    of a race in which item i arrives at rate odds_i (Plackett-Luce). `repeat_factor` multiplies
    the odds of what the shopper owns.
    """
    sizes, times = _draw_baskets(len(log_odds), settings, random)
    odds = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
    owned = np.zeros(odds.shape, dtype=bool)
    rows = []
    for number in range(sizes.shape[1]):
        active = np.flatnonzero(sizes[:, number])
        size, time = sizes[active, number], times[active, number]
        rate = np.where(owned[active], settings.repeat_factor * odds[active], odds[active])
        rate *= _pull_of_new(time[:, None] - launch, settings.novelty)
        with np.errstate(divide="ignore", invalid="ignore"):
            arrival = random.standard_exponential(rate.shape, dtype=np.float32) / rate
        first = np.argpartition(arrival, size.max(), axis=1)[:, : size.max()]
        reached = np.take_along_axis(arrival, first, axis=1)
        order = np.argsort(reached, axis=1, kind="stable")
        first, reached = (np.take_along_axis(one, order, axis=1) for one in (first, reached))
        place, column = np.nonzero((np.arange(size.max()) < size[:, None]) & np.isfinite(reached))
        item = first[place, column]
        owned[active[place], item] = True
        rows.append(np.stack([active[place], item, time[place], np.full(len(item), number)]))
    return _interactions(np.concatenate(rows, axis=1), log_odds.shape)


def _pull_of_new(age: NDArray[np.int64], novelty: float) -> NDArray[np.float32]:
    """Return what an item's age in microseconds does to its odds: 0 before launch, 1 in the end."""
    months = (age / NOVELTY_LASTS).astype(np.float32)
    return np.where(age < 0, 0, 1 + novelty * np.exp(-np.maximum(months, 0))).astype(np.float32)


def _draw_baskets(
    shoppers: int, settings: MarketplaceSettings, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sizes [shoppers, most baskets] (0 beyond a shopper's last) and strictly rising times.

    Each basket has one item, and the rest of a shopper's items fall into its baskets at random.
    """
    totals = random.integers(settings.min_interactions, settings.max_interactions + 1, shoppers)
    baskets = np.maximum(np.rint(totals / settings.basket_size), 1).astype(np.int64)
    most = int(baskets.max())
    exists = np.arange(most) < baskets[:, None]
    sizes = exists.astype(np.int64)
    shopper = np.repeat(np.arange(shoppers), totals - baskets)
    np.add.at(sizes, (shopper, (random.random(len(shopper)) * baskets[shopper]).astype(int)), 1)
    day = np.floor(settings.days * random.random((shoppers, most)) ** GROWTH)
    second = random.integers(OPEN_HOURS[0] * 3600, OPEN_HOURS[1] * 3600, (shoppers, most))
    times = day.astype(np.int64) * MICROSECONDS_PER_DAY + second * 1_000_000
    times[~exists] = np.iinfo(np.int64).max // 2
    return sizes, OPENING + np.sort(times, axis=1) + np.arange(most) * 1_000_000


def _interactions(rows: NDArray[np.int64], shape: tuple[int, ...]) -> Interactions:
    """Sort `rows` (shopper, item, time, basket) [4, n] into Interactions."""
    shopper, item, time, basket = rows[:, np.lexsort((rows[1], rows[2], rows[0]))]
    width = len(str(shape[0]))
    return Interactions(
        shopper_ids=tuple(f"shopper-{number:0{width}d}" for number in range(shape[0])),
        item_count=shape[1],
        shopper=shopper.astype(np.int32),
        item=item.astype(np.int32),
        time=time,
        basket=basket.astype(np.int32),
        value=np.ones(len(item), dtype=np.float32),
        timed=True,
    )
