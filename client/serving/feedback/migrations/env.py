"""Alembic runs this; the store hands it its own connection."""

from alembic import context

from client.serving.feedback.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
