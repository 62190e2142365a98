"""Opening a database: what is created, what is refused, and what the messages say."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import traceback
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from loopwright.core.errors import (
    BackendError,
    InvalidInputError,
    WrongStateError,
)
from loopwright.store import schema
from loopwright.store.database import Database
from loopwright.store.migrations.upgrade import scripts


def set_revision(url: str, revision: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {schema.VERSION_TABLE} SET version_num='{revision}'"))
    engine.dispose()


def test_the_migrations_make_the_tables_that_the_code_uses(url: str) -> None:
    with closing(Database(url)) as database, database.reading() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"version_table": schema.VERSION_TABLE, "compare_type": True},
        )

        differences = compare_metadata(context, schema.metadata)

    assert differences == []


def test_the_code_knows_the_newest_migration() -> None:
    assert scripts().get_heads() == [schema.HEAD]


def test_a_database_is_opened_again_as_it_is(url: str) -> None:
    with closing(Database(url)) as database, database.writing() as connection:
        connection.execute(
            sa.text("INSERT INTO event(stream,kind,body,at) VALUES('s','k','{}','2026-01-01')")
        )

    with closing(Database(url)) as database, database.reading() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM event")).scalar() == 1


def test_a_newer_schema_is_refused_with_the_advice_to_upgrade(url: str) -> None:
    Database(url).close()
    set_revision(url, "0999")

    with pytest.raises(WrongStateError, match=r"0999.*upgrade loopwright"):
        Database(url)


def test_a_sqlite_file_is_made_with_its_folder_and_in_wal_mode(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "100%" / "store.db"

    Database(f"sqlite:///{path}").close()

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 100)

    with pytest.raises(InvalidInputError, match=r"notes\.txt.*not a database.*another home"):
        Database(f"sqlite:///{path}")

    assert path.read_text() == "Dear diary, " * 100
    assert list(tmp_path.iterdir()) == [path]


def test_the_database_of_another_application_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders(id)")
    before = path.read_bytes()

    with pytest.raises(InvalidInputError, match=r"another application.*'orders'"):
        Database(f"sqlite:///{path}")

    assert path.read_bytes() == before


@pytest.mark.postgres
def test_a_postgres_database_with_a_table_of_the_same_name_is_refused(
    new_postgres_url: str,
) -> None:
    engine = sa.create_engine(new_postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders(id int)"))
    Database(new_postgres_url).close()
    with engine.begin() as connection:
        connection.execute(sa.text(f"DROP TABLE {schema.VERSION_TABLE}"))
    engine.dispose()

    with pytest.raises(InvalidInputError, match=r"another application.*'event'"):
        Database(new_postgres_url)


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(BackendError, match=r"/proc/nowhere cannot be created.*--home"):
        Database("sqlite:////proc/nowhere/store.db")


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "store.db").mkdir()

    with pytest.raises(BackendError, match=r"store\.db failed: unable to open.*--home"):
        Database(f"sqlite:///{tmp_path}/store.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(BackendError, match=r"unable to open.*--home"):
        Database(f"sqlite:///{tmp_path}/store.db")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://ann:hush-hush@127.0.0.1:1/loops",
        "postgres://ann@127.0.0.1:1/loops?password=hush-hush",
    ],
)
def test_an_unreachable_server_is_named_without_its_password(url: str) -> None:
    with pytest.raises(BackendError) as caught:
        Database(url)

    assert caught.value.retryable
    assert "127.0.0.1:1/loops" in str(caught.value)
    assert "Check that the database runs" in str(caught.value)
    assert "hush-hush" not in "".join(traceback.format_exception(caught.value))
    assert "hush-hush" not in repr(caught.value.facts)


@pytest.mark.postgres
def test_a_database_that_does_not_exist_is_named(postgres_url: str) -> None:
    url = sa.make_url(postgres_url).set(database="nowhere", password="hush-hush")

    with pytest.raises(BackendError, match=r'"nowhere" does not exist.*Create the database') as e:
        Database(url.render_as_string(hide_password=False))

    assert not e.value.retryable
    assert "hush-hush" not in str(e.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://ann:hush-hush@host/loops",
        "postgresql://ann:hush-hush@host:port/loops",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InvalidInputError, match="Use 'sqlite:///") as caught:
        Database(url)

    assert "hush-hush" not in "".join(traceback.format_exception(caught.value))


def test_the_name_of_a_database_hides_its_password(new_postgres_url: str) -> None:
    url = sa.make_url(new_postgres_url).set(password="hush-hush")

    with closing(Database(url.render_as_string(hide_password=False))) as database:
        assert "hush-hush" not in repr(database)


def test_opening_a_current_database_loads_no_migrations(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.db"
    Database(url).close()
    script = (
        "import sys; from loopwright.store.database import Database; "
        f"Database({url!r}); assert 'alembic' not in sys.modules; "
        "assert 'sqlalchemy.orm' not in sys.modules"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_the_stores_loads_no_heavy_library() -> None:
    script = (
        "import sys, loopwright.store, loopwright.compute; "
        "heavy = {'sqlalchemy', 'alembic', 'obstore', 'psutil', 'polars', 'numpy'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", script], check=True)
