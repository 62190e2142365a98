"""Brings a database to the newest schema, through Alembic, inside the caller's transaction."""

from loopwright.store.migrations.upgrade import upgrade

__all__ = ["upgrade"]
