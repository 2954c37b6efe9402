"""Alembic's steps from an empty store to today's."""
