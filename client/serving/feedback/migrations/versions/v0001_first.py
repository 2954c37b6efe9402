"""The first tables, and the view that an import reads."""

import sqlalchemy as sa
from alembic import op

from common.errors import InputError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# What the next import reads: who bought what, without what was refunded, and how much each counts.
_VIEW = """
CREATE VIEW feedback_interactions AS
SELECT e.event_id, e.shopper_id, e.item_id, e.time, e.order_id, e.type,
       CASE e.type WHEN 'purchase' THEN 1.0 WHEN 'add_to_cart' THEN 0.5 WHEN 'click' THEN 0.2 END
           AS weight
FROM events e
WHERE e.shopper_id IS NOT NULL AND e.type IN ('purchase', 'add_to_cart', 'click')
  AND NOT EXISTS (
      SELECT 1 FROM events r
      WHERE r.type = 'refund' AND e.type = 'purchase' AND r.item_id = e.item_id
        AND r.order_id = e.order_id)
"""


def upgrade() -> None:
    """Make all of it."""
    op.create_table(
        "recommendations",
        sa.Column("recommendation_id", sa.String(64), primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("shopper_id", sa.String(256), index=True),
        sa.Column("surface", sa.String(32), nullable=False),
        sa.Column("variant", sa.String(32), nullable=False),
        sa.Column("fallback", sa.String(32)),
        sa.Column("release", sa.String(64), nullable=False),
        sa.Column("release_digest", sa.String(64), nullable=False),
        sa.Column("model_digest", sa.String(64), nullable=False),
        sa.Column("catalogue_version", sa.Integer, nullable=False),
        sa.Column("inputs", sa.Text, nullable=False),
        sa.Column("items", sa.Text, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("event_id", sa.String(128), primary_key=True),
        sa.Column("type", sa.String(16), nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False, index=True),
        sa.Column("shopper_id", sa.String(256), index=True),
        sa.Column("item_id", sa.String(256), nullable=False),
        sa.Column("order_id", sa.String(128)),
        sa.Column("recommendation_id", sa.String(64)),
        sa.Column("position", sa.Integer),
        sa.Column("surface", sa.String(32)),
        sa.Column("variant", sa.String(32)),
        sa.Column("bucket", sa.String(8)),
    )
    op.create_index("events_by_list", "events", ["recommendation_id", "item_id"])
    op.create_index("events_by_order", "events", ["order_id", "item_id"])
    op.create_table(
        "catalogue_changes",
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("item_id", sa.String(256), nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("category", sa.Text),
        sa.Column("release_digest", sa.String(64)),
        sa.Column("vectors", sa.LargeBinary),
    )
    op.create_table(
        "erasures",
        sa.Column("shopper_hash", sa.String(64), primary_key=True),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.execute(_VIEW)


def downgrade() -> None:
    """Refuse: before it there are no tables, and to go back would drop acknowledged events.

    Raises:
        InputError: always.
    """
    raise InputError("The first version of the store cannot be undone.", field="store")
