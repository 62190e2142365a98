"""The tables of the metadata store, as the newest migration leaves them."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

HEAD = "0001"
"""The newest migration in `migrations/versions`; revisions are numbered so that text sorts them."""

# not Alembic's usual name: another application may keep its own `alembic_version` here
VERSION_TABLE = "loopwright_version"


class UtcTime(sa.TypeDecorator[datetime]):
    """An aware UTC time, also where the database keeps no time zone."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the time as the database takes it."""
        if value is None:
            return None
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Return the time as an aware one in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# keys are compared by code point everywhere; a PostgreSQL database may have another collation
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
BIG_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

metadata = sa.MetaData()

record = sa.Table(
    "record",
    metadata,
    sa.Column("kind", TEXT, primary_key=True),
    sa.Column("key", TEXT, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("updated_at", UtcTime, nullable=False),
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("seq", BIG_SERIAL, primary_key=True, autoincrement=True),
    sa.Column("stream", TEXT, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("at", UtcTime, nullable=False),
    sa.Index("event_stream_seq", "stream", "seq"),
)
