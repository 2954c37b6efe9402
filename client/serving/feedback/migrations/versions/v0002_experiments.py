"""Experiments, the lists that count in them, and each day's figures for alerts."""

import sqlalchemy as sa
from alembic import op

from common.errors import InputError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them to a store that may hold lists already: those count in no experiment."""
    op.add_column("recommendations", sa.Column("experiment", sa.String(32)))
    op.create_index(
        "recommendations_by_experiment", "recommendations", ["experiment", "shopper_id"]
    )
    op.create_index("recommendations_by_time", "recommendations", ["time"])
    op.create_table(
        "experiments",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("design", sa.Text, nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("stopped", sa.BigInteger),
        sa.Column("winner", sa.String(32)),
        sa.Column("reason", sa.String(32)),
        sa.Column("result", sa.Text),
    )
    op.create_table(
        "daily_figures",
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("lists", sa.Integer, nullable=False),
        sa.Column("listed", sa.Integer, nullable=False),
        sa.Column("tail_listed", sa.Integer, nullable=False),
        sa.Column("different", sa.Integer, nullable=False),
        sa.Column("rankable", sa.Integer, nullable=False),
        sa.Column("seen", sa.Integer, nullable=False),
        sa.Column("clicked", sa.Integer, nullable=False),
        sa.Column("bought", sa.Integer, nullable=False),
    )


def downgrade() -> None:
    """Refuse: lists would lose which experiment they count in.

    Raises:
        InputError: always.
    """
    raise InputError("The second version of the store cannot be undone.", field="store")
