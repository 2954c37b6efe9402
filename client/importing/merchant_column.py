"""Which column of a table names the merchant of a row, told from its name alone.

A merchant is who sells: a seller, a store, a marketplace's shop. A brand makes what is sold, and is
taken only where nothing else names a seller.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

_SELLERS: Final = ("merchant", "seller", "store", "shop", "vendor", "retailer", "outlet")
# What may follow, the best first: an id tells two stores of one chain apart.
_ENDS: Final = (
    "", "id", "code", "no", "nr", "number", "key", "name", "category", "platform", "group", "type",
)  # fmt: skip
_SELLERS_ZH: Final = ("商家", "商户", "店铺", "卖家", "门店")
_ENDS_ZH: Final = ("", "id", "编号", "号", "名称", "名")  # 商家编码 is the seller's code of an item
_BRANDS: Final = ("brand", "brandid", "brandname", "品牌", "品牌名称")
KNOWN: Final = (
    *(word + end for word in _SELLERS for end in _ENDS),
    *(word + end for word in _SELLERS_ZH for end in _ENDS_ZH),
)
# Part of a name that somebody may mean a merchant by. "shopper" and "shopping" are none.
_LIKE: Final = re.compile(
    r"merchant|seller|vendor|retailer|marketplace|^store|^shop(?!p)|商家|商户|店铺|卖家|门店"
)


def plain(name: str) -> str:
    """Return a column's name as it is compared: without case, spaces, underscores or dots."""
    return re.sub(r"[\s_\-.]", "", name).lower()


def merchant_column(names: Sequence[str]) -> str | None:
    """Return the column that names a merchant, a brand only where no seller is named."""
    there = {plain(name): name for name in reversed(names)}
    return next((there[word] for word in (*KNOWN, *_BRANDS) if word in there), None)


def is_brand(name: str) -> bool:
    """Whether a column names who made an item, and so perhaps no merchant."""
    return plain(name) in _BRANDS


def like_merchants(names: Sequence[str]) -> Iterator[str]:
    """Yield the columns that may name a merchant, sure or not, in their order."""
    for name in names:
        if plain(name) in (*KNOWN, *_BRANDS) or _LIKE.search(plain(name)):
            yield name
