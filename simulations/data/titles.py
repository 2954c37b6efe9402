"""The marketplace's product titles: a vocabulary and a small grammar over five facets.

Every facet of a product is a word of its title, so what a shopper likes can be read from text.
A style is named by any of several words ("nautical", "seaside"): a text encoder has to know that
they are related, because the style itself is never written as a label.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STYLES: Mapping[str, tuple[str, ...]] = {
    "vintage": ("vintage", "antique", "victorian", "retro", "heirloom"),
    "nordic": ("nordic", "scandinavian", "viking", "fjord", "danish"),
    "nautical": ("nautical", "anchor", "lighthouse", "seaside", "sailor"),
    "christmas": ("christmas", "reindeer", "santa", "snowman", "mistletoe"),
    "botanical": ("botanical", "floral", "wildflower", "rose", "fern"),
    "space": ("space", "rocket", "astronaut", "galaxy", "planet"),
}
STYLE_WORDS = tuple(word for words in STYLES.values() for word in words)

# Colours that go with a style more often than chance, in STYLES' order.
STYLE_COLOURS = (
    ("cream", "burgundy"),
    ("white", "grey"),
    ("navy", "turquoise"),
    ("red", "gold"),
    ("green", "lilac"),
    ("black", "silver"),
)
COLOURS = tuple(colour for pair in STYLE_COLOURS for colour in pair)


@dataclass(frozen=True)
class Department:
    """A category of the marketplace: its product families (nouns) and what they are made of."""

    name: str
    families: tuple[str, ...]
    materials: tuple[str, ...]


def _department(name: str, families: str, materials: str) -> Department:
    return Department(name, tuple(families.split(", ")), tuple(materials.split(", ")))


DEPARTMENTS = (
    _department(
        "Kitchen",
        "mug, teapot, cake stand, mixing bowl, cookie jar, chopping board, egg cup, jam jar, "
        "butter dish, spice rack",
        "ceramic, enamel, glass, oak",
    ),
    _department(
        "Lighting",
        "lantern, table lamp, candle holder, fairy lights, pendant light, night light, "
        "tealight holder, lampshade",
        "brass, glass, paper, copper",
    ),
    _department(
        "Garden",
        "garden trowel, watering can, plant pot, bird feeder, wind chime, doormat, "
        "hanging basket, parasol",
        "zinc, terracotta, bamboo, copper",
    ),
    _department(
        "Textiles",
        "cushion, blanket, tea towel, apron, tablecloth, curtain, quilt, rug",
        "cotton, linen, wool, velvet",
    ),
    _department(
        "Stationery",
        "notebook, greeting card, wrapping paper, calendar, pencil case, photo album, "
        "sticker set, bookmark",
        "paper, leather, felt, card",
    ),
    _department(
        "Decoration",
        "wall clock, picture frame, vase, mirror, wreath, ornament, bunting, door knob, wall hook",
        "ceramic, oak, brass, felt",
    ),
    _department(
        "Bags",
        "tote bag, lunch box, purse, backpack, wash bag, umbrella, suitcase, key ring",
        "canvas, leather, cotton, velvet",
    ),
    _department(
        "Toys",
        "jigsaw puzzle, doll, spinning top, building blocks, skipping rope, kite, music box, "
        "playing cards",
        "wooden, tin, felt, cotton",
    ),
)
FAMILIES = tuple(family for department in DEPARTMENTS for family in department.families)
MATERIALS = tuple(dict.fromkeys(word for one in DEPARTMENTS for word in one.materials))

# Which optional facets a title carries, and in what order; style and family are always there.
TEMPLATES = (
    "{style} {colour} {family}",
    "{style} {material} {family}",
    "{style} {other} {family}",
    "{style} {other} {colour} {family}",
    "{colour} {material} {family} {style}",
    "{style} {material} {family} {other} design",
)
MATCH_SHARE = 0.4  # how often a colour is drawn from those that go with the style
MAX_WORDS = 6
ABSENT = -1


@dataclass(frozen=True, eq=False)
class Products:
    """Titles and the facets they carry: int16 [items] each, `ABSENT` where a title has none.

    The numbers index STYLES, STYLE_WORDS, FAMILIES, DEPARTMENTS, COLOURS and MATERIALS.
    """

    titles: tuple[str, ...]
    style: NDArray[np.int16]
    word: NDArray[np.int16]
    family: NDArray[np.int16]
    department: NDArray[np.int16]
    colour: NDArray[np.int16]
    material: NDArray[np.int16]


def write_products(count: int, random: np.random.Generator) -> Products:
    """Draw `count` products with distinct titles of 3 to 6 words."""
    rows: dict[str, tuple[int, ...]] = {}
    while len(rows) < count:
        title, facets = _draw(random)
        if 3 <= len(title.split()) <= MAX_WORDS:
            rows.setdefault(title, facets)
    columns = np.array(list(rows.values()), dtype=np.int16).T
    return Products(tuple(rows), *columns)


def _draw(random: np.random.Generator) -> tuple[str, tuple[int, ...]]:
    """Return one title and its facets in the order of `Products`."""
    style = int(random.integers(len(STYLES)))
    words = tuple(STYLES.values())[style]
    first, second = random.permutation(len(words))[:2]
    department = int(random.integers(len(DEPARTMENTS)))
    family = _pick(DEPARTMENTS[department].families, random)
    material = _pick(DEPARTMENTS[department].materials, random)
    matches = random.random() < MATCH_SHARE
    colour = _pick(STYLE_COLOURS[style] if matches else COLOURS, random)
    template = _pick(TEMPLATES, random)
    title = template.format(
        style=words[first], other=words[second], colour=colour, material=material, family=family
    )
    facets = (
        style,
        STYLE_WORDS.index(words[first]),
        FAMILIES.index(family),
        department,
        COLOURS.index(colour) if "{colour}" in template else ABSENT,
        MATERIALS.index(material) if "{material}" in template else ABSENT,
    )
    return title.capitalize(), facets


def _pick(words: tuple[str, ...], random: np.random.Generator) -> str:
    return words[int(random.integers(len(words)))]
