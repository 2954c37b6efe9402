"""The tables of the store, as SQLAlchemy knows them. The migrations make them.

Times are microseconds since 1970 UTC, as in a data set.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData()

# Every list that was served: what `client replay` and the credit of events rest on.
RECOMMENDATIONS = Table(
    "recommendations",
    METADATA,
    Column("recommendation_id", String(64), primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("shopper_id", String(256), index=True),
    Column("surface", String(32), nullable=False),
    Column("variant", String(32), nullable=False),
    Column("fallback", String(32)),
    Column("release", String(64), nullable=False),
    Column("release_digest", String(64), nullable=False),
    Column("model_digest", String(64), nullable=False),
    Column("catalogue_version", Integer, nullable=False),
    Column("inputs", Text, nullable=False),  # JSON: what the list was made from
    Column("items", Text, nullable=False),  # JSON: item_id, score and bucket, best first
    Column("experiment", String(32)),  # whose test the list counts in; none for most
)
Index("recommendations_by_experiment", RECOMMENDATIONS.c.experiment, RECOMMENDATIONS.c.shopper_id)
Index("recommendations_by_time", RECOMMENDATIONS.c.time)

EVENTS = Table(
    "events",
    METADATA,
    Column("event_id", String(128), primary_key=True),
    Column("type", String(16), nullable=False),
    Column("time", BigInteger, nullable=False, index=True),
    Column("shopper_id", String(256), index=True),
    Column("item_id", String(256), nullable=False),
    Column("order_id", String(128)),
    # What follows is set only for an item that was in the list.
    Column("recommendation_id", String(64)),
    Column("position", Integer),
    Column("surface", String(32)),
    Column("variant", String(32)),
    Column("bucket", String(8)),
)
Index("events_by_list", EVENTS.c.recommendation_id, EVENTS.c.item_id)
Index("events_by_order", EVENTS.c.order_id, EVENTS.c.item_id)

# Items and stock that changed since the model was fitted; only appended to, so that a list can be
# made again as it was.
CATALOGUE_CHANGES = Table(
    "catalogue_changes",
    METADATA,
    Column("version", Integer, primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # put, delete, in_stock, out_of_stock
    Column("item_id", String(256), nullable=False),
    Column("title", Text),
    Column("text", Text),
    Column("category", Text),
    Column("release_digest", String(64)),
    Column("vectors", LargeBinary),  # float32 [2, d]: adapted, frozen; none if the text is the old
)

# Tests of two arms, the running one and those that have ended. None holds a shopper.
EXPERIMENTS = Table(
    "experiments",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("design", Text, nullable=False),  # JSON: arms, window, level and guardrails
    Column("started", BigInteger, nullable=False),
    Column("stopped", BigInteger),
    Column("winner", String(32)),  # the arm that all shoppers get from then on
    Column("reason", String(32)),
    Column("result", Text),  # JSON: the figures that it ended with
)

# What a day's lists were like, once the day is over: sums, and no shopper.
DAILY_FIGURES = Table(
    "daily_figures",
    METADATA,
    Column("day", Integer, primary_key=True, autoincrement=False),  # since 1970 UTC
    Column("lists", Integer, nullable=False),
    Column("listed", Integer, nullable=False),  # items of lists
    Column("tail_listed", Integer, nullable=False),  # of them outside the head
    Column("different", Integer, nullable=False),  # different items
    Column("rankable", Integer, nullable=False),  # what could have been listed
    Column("seen", Integer, nullable=False),
    Column("clicked", Integer, nullable=False),
    Column("bought", Integer, nullable=False),
)

# Who asked to be forgotten, as a keyed hash: their purchases are in the model until the next fit.
ERASURES = Table(
    "erasures",
    METADATA,
    Column("shopper_hash", String(64), primary_key=True),
    Column("time", BigInteger, nullable=False),
)

SETTINGS = Table(
    "settings",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)
