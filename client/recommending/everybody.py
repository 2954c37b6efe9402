"""A list for each shopper of a shop, for e-mails and nightly files."""

import json
from pathlib import Path

from client.recommending.filters import Filters
from client.recommending.recommender import Recommender
from common.files import PRIVATE_MODE, write_atomic


def write_lists(
    recommender: Recommender, top: int, filters: Filters, release: str, out: Path
) -> int:
    """Write a JSON line for each shopper, in the order of the import; return how many.

    Each line has `shopper_id`, `release` and `items`: `item_id`, `rank`, `score` and `chance` of
    the `top` best items that `filters` let pass. Only the owner may read the file.

    Raises:
        InputError: as `Filters.public`; nothing is written then.
        OSError: if the disk is full, or the file cannot be written.
    """
    public = filters.public(recommender.catalogue)
    items = recommender.catalogue.items
    lines = []
    for shopper_id in recommender.shopper_ids:
        history, bought = recommender.known_shopper(shopper_id)
        eligible = public.copy()
        if not filters.keep_bought:
            eligible[bought] = False
        picked = recommender.picked(history, eligible, top)
        chances = [None] * len(picked.items) if picked.chances is None else picked.chances.tolist()
        listed = zip(picked.items.tolist(), picked.scores.tolist(), chances, strict=True)
        rows = [
            {"item_id": items[item].item_id, "rank": rank, "score": score, "chance": chance}
            for rank, (item, score, chance) in enumerate(listed, 1)
        ]
        line = {"shopper_id": shopper_id, "release": release, "items": rows}
        lines.append(json.dumps(line, ensure_ascii=False))
    content = "".join(f"{line}\n" for line in lines).encode()
    write_atomic(out, content, mode=PRIVATE_MODE)
    return len(lines)
