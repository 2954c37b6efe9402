"""What an import cannot do without, by hand with Polars: python -m ... FOLDER OUT.

Parse, make unique, join with the catalogue, sort and write; nothing is checked, cleaned, counted
or numbered. It loads Polars alone.
"""

import sys
from pathlib import Path

import polars as pl


def by_hand(folder: Path, out: Path) -> None:
    """Parse, make unique, join with the catalogue, sort and write: what nobody can do without."""
    out.mkdir(parents=True, exist_ok=True)
    items = pl.read_csv(folder / "items.csv").unique("item_id").sort("item_id")
    places = items.select("item_id").with_row_index("place")
    events = (
        pl.read_csv(folder / "events.csv", try_parse_dates=True)
        .unique()
        .join(places, on="item_id")
        .sort("customer_id", "time", "place")
    )
    items.write_parquet(out / "items.parquet")
    events.write_parquet(out / "events.parquet")


if __name__ == "__main__":
    by_hand(Path(sys.argv[1]), Path(sys.argv[2]))
