"""Fresh databases for the tests of the stores."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa


@pytest.fixture
def new_postgres_url(postgres_url: str) -> str:
    """Return the URL of a new, empty PostgreSQL database."""
    return new_database(postgres_url)


@pytest.fixture(scope="module")
def one_postgres_url(postgres_url: str) -> str:
    """Return the URL of a PostgreSQL database for all tests of a module, since each costs time."""
    return new_database(postgres_url)


def new_database(postgres_url: str) -> str:
    """Return the URL of a new, empty database on a server."""
    name = f"test_{uuid.uuid4().hex}"
    engine = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        # the quickest way to copy a template, which a test does not need to survive a crash
        connection.execute(sa.text(f"CREATE DATABASE {name} STRATEGY = file_copy"))
    engine.dispose()
    return sa.make_url(postgres_url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a new, empty database of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    address: str = request.getfixturevalue("new_postgres_url")
    return address
