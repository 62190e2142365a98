"""Every metadata store keeps the same promises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core.clock import FixedClock
from loopwright.store import MemoryMetadataStore, MetadataStore, SqlMetadataStore, schema
from loopwright.store.database import Database
from loopwright.store.metadata import prefix_end
from loopwright.testing import MetadataStoreContract


class TestMemoryMetadataStore(MetadataStoreContract):
    @pytest.fixture
    def store(self, clock: FixedClock) -> MetadataStore:
        return MemoryMetadataStore(clock)


class TestSqlMetadataStoreOnSqlite(MetadataStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path, clock: FixedClock) -> Iterator[MetadataStore]:
        with closing(SqlMetadataStore(f"sqlite:///{tmp_path}/home/store.db", clock)) as store:
            yield store


@pytest.mark.postgres
class TestSqlMetadataStoreOnPostgres(MetadataStoreContract):
    @pytest.fixture
    def store(self, one_postgres_url: str, clock: FixedClock) -> Iterator[MetadataStore]:
        with closing(SqlMetadataStore(one_postgres_url, clock)) as store:
            with closing(Database(one_postgres_url)) as database, database.writing() as connection:
                connection.execute(schema.record.delete())
                connection.execute(schema.event.delete())
            yield store


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


@given(prefix=texts, text=texts)
def test_the_end_of_a_prefix_lies_above_exactly_what_starts_with_it(prefix: str, text: str) -> None:
    end = prefix_end(prefix)

    within = text >= prefix and (end is None or text < end)

    assert within == text.startswith(prefix)
