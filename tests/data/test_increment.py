from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.clock import FixedClock
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.data import (
    FileSource,
    Increment,
    Snapshot,
    Source,
    SqlSource,
    check_cursor,
    check_key,
    open_source,
    scan,
    staging,
    take_increment,
    take_snapshot,
)
from loopwright.store.memory import MemoryArtifactStore


class ListedRows:
    """A source over a table in memory; it can be made to break off after some batches."""

    def __init__(self, rows: pl.DataFrame, *, batch: int = 3, breaks_after: int | None = None):
        self.rows, self.batch, self.breaks_after = rows, batch, breaks_after

    def describe(self) -> str:
        return "listed rows"

    def fingerprint(self) -> None:
        return None

    def schema(self) -> dict[str, pl.DataType]:
        return dict(self.rows.schema)

    def check(self, target: str | None = None) -> None:
        pass

    def batches(self) -> Iterator[pl.DataFrame]:
        for number, piece in enumerate(self.rows.iter_slices(self.batch)):
            if number == self.breaks_after:
                raise BackendError("The connection broke off.", retryable=True)
            yield piece


class Shelf:
    """A store in a folder, and the two ways to read a source into it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.artifacts = MemoryArtifactStore(folder)

    def full(self, source: Source) -> Snapshot:
        return take_snapshot(
            source, artifacts=self.artifacts, clock=FixedClock(), folder=self.folder
        )

    def more(self, source: Source, base: Snapshot, cursor: str = "t") -> Increment:
        return take_increment(
            source,
            base=base,
            rows=scan(base, self.artifacts),
            cursor=cursor,
            artifacts=self.artifacts,
            clock=FixedClock(),
            folder=self.folder,
        )

    def rows(self, snapshot: Snapshot | None) -> pl.DataFrame:
        assert snapshot is not None
        return scan(snapshot, self.artifacts).collect()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    (tmp_path / "shelf").mkdir()
    return Shelf(tmp_path / "shelf")


events = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.sampled_from(["a", "b", None]),
        st.sampled_from([0.5, -0.0, None]),
    ),
    min_size=2,
    max_size=25,
)


@settings(max_examples=25, deadline=None)
@given(events=events, cuts=st.sets(st.integers(1, 24), max_size=3))
def test_any_steps_give_the_rows_of_one_full_extraction(
    events: list[tuple[int, str | None, float | None]], cuts: set[int]
) -> None:
    schema = {"t": pl.Int64, "name": pl.String, "x": pl.Float64}
    # equal cursors and wholly equal rows fall on both sides of a cut
    events = sorted(events, key=lambda event: event[0])
    # the types of all columns are known from the first row on
    table = pl.DataFrame([(0, "a", 0.5), *events], schema=schema, orient="row")
    ends = [*sorted(cut for cut in cuts if cut < table.height), table.height]
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder))

        snapshot: Snapshot | None = shelf.full(ListedRows(table.head(ends[0])))
        for end in ends[1:]:
            assert snapshot is not None
            snapshot = shelf.more(ListedRows(table.head(end)), snapshot).snapshot

        whole = shelf.full(ListedRows(table))
        assert shelf.rows(snapshot).equals(shelf.rows(whole))
        assert snapshot is not None
        assert snapshot.digest == whole.digest


def test_rows_at_the_border_are_taken_once_each(shelf: Shelf) -> None:
    first = shelf.full(ListedRows(pl.DataFrame({"t": [1, 2, 2], "x": ["a", "b", "b"]})))
    now = pl.DataFrame({"t": [1, 2, 2, 2, 2, 3], "x": ["a", "b", "b", "c", "b", "d"]})

    found = shelf.more(ListedRows(now), first)

    assert (found.n_new, found.start, found.end) == (3, 2, 3)
    assert shelf.rows(found.snapshot)["x"].to_list() == ["a", "b", "b", "c", "b", "d"]


def test_nothing_new_keeps_the_snapshot(shelf: Shelf) -> None:
    table = pl.DataFrame({"t": [1, 2], "x": [0.5, None]})
    first = shelf.full(ListedRows(table))

    assert shelf.more(ListedRows(table), first).snapshot is first
    assert shelf.more(ListedRows(table.head(0)), first).snapshot is first


def test_late_rows_and_rows_without_a_cursor_are_left_to_a_full_extraction(shelf: Shelf) -> None:
    first = shelf.full(ListedRows(pl.DataFrame({"t": [1, 5], "x": ["a", "b"]})))
    now = pl.DataFrame({"t": [1, 3, None, 5, 6], "x": ["a", "late", "without", "b", "new"]})

    found = shelf.more(ListedRows(now), first)

    assert shelf.rows(found.snapshot)["x"].to_list() == ["a", "b", "new"]


def test_a_connection_that_breaks_leaves_what_there_was_and_the_next_call_goes_on(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "WAITS_S", (0.0, 0.0, 0.0))
    table = pl.DataFrame({"t": list(range(20)), "x": [0.5] * 20})
    first = shelf.full(ListedRows(table.head(5)))
    shelf.rows(first)
    kept = sorted(path for path in shelf.folder.rglob("*") if path.is_file())

    with pytest.raises(BackendError, match="broke off"):
        shelf.more(ListedRows(table, breaks_after=4), first)

    assert sorted(path for path in shelf.folder.rglob("*") if path.is_file()) == kept
    found = shelf.more(ListedRows(table), first)
    assert found.n_new == 15
    assert shelf.rows(found.snapshot).equals(table)


@pytest.mark.parametrize(
    ("later", "reason"),
    [
        ({"t": [9], "x": ["abc"], "n": [1]}, "'x' held Float64 and now holds String"),
        ({"t": [9], "x": [1.0]}, "'n' in one only"),
        ({"t": [9], "x": [1.0], "n": [1.5]}, "'n' held Int64 and now holds Float64"),
        ({"t": [9], "x": [1.0], "n": [1], "empty": ["text"]}, "was empty before"),
    ],
)
def test_new_rows_that_do_not_fit_the_old_ones_are_not_added(
    shelf: Shelf, later: dict[str, list[object]], reason: str
) -> None:
    start = {"t": [1], "x": [0.5], "n": [1]} | ({"empty": [None]} if "empty" in later else {})
    first = shelf.full(ListedRows(pl.DataFrame(start)))

    found = shelf.more(ListedRows(pl.DataFrame(later)), first)

    assert found.snapshot is None
    assert reason in found.misfit


def test_text_that_the_first_readings_cannot_read_does_not_fit(
    tmp_path: Path, shelf: Shelf
) -> None:
    (tmp_path / "a.csv").write_text("t,x\n1,5\n2,6\n")
    first = shelf.full(open_source(FileSource(path="a.csv"), tmp_path))
    (tmp_path / "a.csv").write_text("t,x\n1,5\n2,6\n3,many\n")

    found = shelf.more(open_source(FileSource(path="a.csv"), tmp_path), first)

    assert found.snapshot is None
    assert "'many'" in found.misfit


def test_a_file_that_grows_gives_its_new_rows_in_the_types_of_the_old(
    tmp_path: Path, shelf: Shelf
) -> None:
    (tmp_path / "a.csv").write_text("t,sold,x\n1,2020-01-31,1.5\n2,2020-02-01,?\n")
    first = shelf.full(open_source(FileSource(path="a.csv"), tmp_path))
    with (tmp_path / "a.csv").open("a") as file:
        file.write("3,2020-02-01,7\n4,2020-03-01,\n")

    found = shelf.more(open_source(FileSource(path="a.csv"), tmp_path), first, "sold")

    whole = shelf.full(open_source(FileSource(path="a.csv"), tmp_path))
    assert found.n_new == 2
    assert found.snapshot is not None
    assert found.snapshot.digest == whole.digest


def grown(engine: sa.Engine, table: str, rows: list[tuple[object, ...]], types: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {table} ({types})")
        marks = ", ".join(f":v{i}" for i in range(len(rows[0])))
        for row in rows:
            values = {f"v{i}": value for i, value in enumerate(row)}
            connection.execute(sa.text(f"INSERT INTO {table} VALUES ({marks})"), values)


ODD = 'changed "at" %s; DROP'


@pytest.mark.parametrize("kind", ["table", "query"])
def test_sqlite_is_asked_only_for_rows_from_the_border_on(
    tmp_path: Path, shelf: Shelf, kind: str
) -> None:
    quoted = '"changed ""at"" %s; DROP"'
    engine = sa.create_engine(f"sqlite:///{tmp_path}/a.db")
    types = f"id INTEGER PRIMARY KEY, {quoted} TEXT, note TEXT"
    days = [f"2024-09-{day:02} 10:00:00" for day in range(1, 21)]
    start = [(i, day, "100% :x ?") for i, day in enumerate(days)]
    grown(engine, "sales", start, types)
    asked = (
        {"table": "sales"}
        if kind == "table"
        else {"query": "SELECT * FROM sales WHERE note LIKE '100% :x%' ORDER BY id"}
    )
    source = open_source(SqlSource(url="sqlite:///a.db", **asked), tmp_path)
    first = shelf.full(source)
    later = [(50, "2024-09-20 10:00:00.5", "100% :x"), (51, "2024-10-01 09:00:00", "100% :x")]
    grown(engine, "sales", later, types)

    found = shelf.more(source, first, ODD)

    assert found.n_new == 2
    assert found.end == datetime(2024, 10, 1, 9)  # noqa: DTZ001 moments have no zone
    narrowed = source.since(ODD, "2024-09-20 10:00:00")  # type: ignore[attr-defined]
    assert sum(batch.height for batch in narrowed.batches()) == 3
    assert found.snapshot is not None
    assert found.snapshot.digest == shelf.full(source).digest


@pytest.mark.postgres
@pytest.mark.parametrize("cursor", ["id", "changed_at", "sold_on", "amount", "code"])
def test_postgres_gives_the_same_rows_in_steps_as_at_once(
    tmp_path: Path, shelf: Shelf, postgres_url: str, cursor: str
) -> None:
    engine = sa.create_engine(postgres_url)
    types = (
        "id bigint PRIMARY KEY, changed_at timestamptz, sold_on date, amount real, "
        "code text, share numeric(6, 3)"
    )
    at = datetime(2024, 3, 30, 22, tzinfo=UTC)

    def row(i: int) -> tuple[object, ...]:
        day = at + timedelta(hours=i // 2)
        return i, day, day.date(), i // 2 * 0.1, f"{'Äa'[i % 2]}{i // 2:03}", i / 7

    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS steps")
        connection.exec_driver_sql("SET timezone = 'Asia/Tokyo'")
    source = open_source(SqlSource(url=postgres_url, table="steps"), tmp_path)
    grown(engine, "steps", [row(i) for i in range(31)], types)
    snapshot: Snapshot | None = shelf.full(source)
    for start, end in ((31, 32), (32, 60)):
        grown(engine, "steps", [row(i) for i in range(start, end)], types)
        assert snapshot is not None
        snapshot = shelf.more(source, snapshot, cursor).snapshot
    engine.dispose()

    whole = shelf.full(source)

    if cursor == "code":  # not in the order of the rows: those before the border come late
        assert snapshot is not None
        assert snapshot.n_rows < whole.n_rows
        return
    assert shelf.rows(snapshot).sort("id").equals(shelf.rows(whole))


@pytest.mark.postgres
def test_odd_names_and_marks_in_a_query_reach_postgres_as_they_are(
    tmp_path: Path, shelf: Shelf, postgres_url: str
) -> None:
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS odd")
        # every % twice: the driver would take a single one for a parameter
        connection.exec_driver_sql('CREATE TABLE odd (note text, "a ""b"" :c %%s" bigint)')
        connection.exec_driver_sql(
            "INSERT INTO odd SELECT '10%% :x', i FROM generate_series(1, 9) i"
        )
    query = "SELECT * FROM odd WHERE note LIKE '10% :x' AND note <> '%s' ORDER BY 2"
    source = open_source(SqlSource(url=postgres_url, query=query), tmp_path)
    first = shelf.full(source)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO odd VALUES ('10%% :x', 10), ('other', 11)")
    engine.dispose()

    found = shelf.more(source, first, 'a "b" :c %s')

    assert (found.n_new, found.end) == (1, 10)


@pytest.mark.parametrize(
    ("cursor", "message", "hint"),
    [
        ("sold", "'sold' is not a column", "'sold_at'"),
        ("done", "truth values", "created_at"),
        ("empty", "no values", "filled in"),
        ("great", r"beyond 2\^53", "as text or as whole numbers"),
        ("code", "several lengths as text", "10 comes before 9"),
    ],
)
def test_a_cursor_that_cannot_tell_new_from_old_is_refused(
    cursor: str, message: str, hint: str
) -> None:
    rows = pl.LazyFrame(
        {"sold_at": [1] * 2, "done": [True] * 2, "empty": [None] * 2, "great": [1.0, -(2.0**53)]}
    ).with_columns(code=pl.Series(["9", "10"]))

    with pytest.raises(InvalidInputError, match=message) as refused:
        check_cursor(cursor, rows)

    assert hint in refused.value.hint
    assert refused.value.facts["field"] == "data.refresh.cursor"


def changed(*rows: tuple[int, str, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["id", "shop", "at"], orient="row")


def test_with_a_key_a_newer_row_takes_the_place_of_the_older_one(shelf: Shelf) -> None:
    first = changed((1, "a", 1.0), (2, "b", 2.0), (1, "b", 3.0))
    later = changed((3, "a", 4.0), (1, "a", 6.0), (2, "b", 5.0), (1, "a", 7.0))
    base = shelf.full(ListedRows(first))

    found = take_increment(
        ListedRows(pl.concat([first, later])),
        base=base,
        rows=scan(base, shelf.artifacts),
        cursor="at",
        artifacts=shelf.artifacts,
        clock=FixedClock(),
        folder=shelf.folder,
        key=("id", "shop"),
    )

    assert found.snapshot is not None
    assert (found.n_new, found.n_replaced) == (3, 2)
    assert scan(found.snapshot, shelf.artifacts).collect().rows() == [
        (1, "b", 3.0),
        (3, "a", 4.0),
        (2, "b", 5.0),
        (1, "a", 7.0),
    ]
    # what was kept before stays as it was
    assert scan(base, shelf.artifacts).collect().rows() == first.rows()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.none() | st.integers(0, 5), st.integers(0, 30)), min_size=1, max_size=25),
    st.integers(1, 24),
)
def test_replacing_in_steps_leaves_the_newest_row_of_every_key(
    rows: list[tuple[int | None, int]], cut: int
) -> None:
    table = pl.DataFrame(
        [(key, at, number) for number, (key, at) in enumerate(sorted(rows, key=lambda r: r[1]))],
        schema={"key": pl.Int64, "at": pl.Int64, "number": pl.Int64},
        orient="row",
    )
    first = table.head(cut).unique("key", keep="last", maintain_order=True)
    with tempfile.TemporaryDirectory() as folder:
        shelf = Shelf(Path(folder))
        base = shelf.full(ListedRows(first))
        found = take_increment(
            ListedRows(pl.concat([first, table.slice(cut)])),
            base=base,
            rows=scan(base, shelf.artifacts),
            cursor="at",
            artifacts=shelf.artifacts,
            clock=FixedClock(),
            folder=shelf.folder,
            key=("key",),
        )
        assert found.snapshot is not None
        kept = scan(found.snapshot, shelf.artifacts).collect()

    newest = {
        row[0]: row for row in [*first.rows(), *table.slice(cut).rows()] if row[0] is not None
    }
    known = [row for row in kept.rows() if row[0] is not None]
    assert sorted(known) == sorted(newest.values())
    assert kept["key"].null_count() == pl.concat([first, table.slice(cut)])["key"].null_count()


def replaced(shelf: Shelf, first: pl.DataFrame, later: pl.DataFrame) -> Increment:
    base = shelf.full(ListedRows(first))
    return take_increment(
        ListedRows(later),
        base=base,
        rows=scan(base, shelf.artifacts),
        cursor="at",
        artifacts=shelf.artifacts,
        clock=FixedClock(),
        folder=shelf.folder,
        key=("id",),
    )


@pytest.mark.parametrize("dtype", [pl.UInt64(), pl.Int128(), pl.Decimal(20, 0)])
@pytest.mark.parametrize("start", [2**53, 2**63])
def test_a_changed_row_with_a_long_key_replaces_itself_alone(
    shelf: Shelf, dtype: pl.DataType, start: int
) -> None:
    ids = pl.Series("id", list(range(start, start + 5)), dtype=dtype, strict=False)
    first = pl.DataFrame([ids, pl.Series("at", [1, 2, 3, 4, 5]), pl.Series("x", ["a"] * 5)])
    later = first.slice(2, 1).with_columns(at=pl.lit(9), x=pl.lit("changed"))

    found = replaced(shelf, first, later)

    assert (found.n_new, found.n_replaced) == (1, 1)
    rows = shelf.rows(found.snapshot)
    assert rows["id"].cast(pl.String).to_list() == [str(start + n) for n in (0, 1, 3, 4, 2)]


def test_later_keys_that_are_short_have_the_type_of_long_ones(shelf: Shelf) -> None:
    first = pl.DataFrame({"id": [1, 2**63], "at": [1, 2]}, schema={"id": pl.UInt64, "at": pl.Int64})
    later = pl.DataFrame({"id": [1, 7], "at": [3, 4]})

    found = replaced(shelf, first, later)

    assert found.n_replaced == 1
    assert shelf.rows(found.snapshot).rows() == [(str(2**63), 2), ("1", 3), ("7", 4)]


def test_later_keys_that_are_too_long_for_the_type_before_do_not_fit(shelf: Shelf) -> None:
    schema = {"id": pl.UInt64, "at": pl.Int64}
    first = pl.DataFrame({"id": [1, 2], "at": [1, 2]}, schema=schema)
    later = pl.DataFrame({"id": [2**63], "at": [3]}, schema=schema)

    found = replaced(shelf, first, later)

    assert found.snapshot is None
    assert "'id' are too long" in found.misfit


def test_more_older_rows_than_new_keys_are_never_replaced(shelf: Shelf) -> None:
    first = pl.DataFrame({"id": [1, 1, 2, 3], "at": [1, 2, 3, 4]})
    later = pl.DataFrame({"id": [1, None], "at": [5, 6]})

    with pytest.raises(
        InvalidInputError, match="2 older rows have the 1 keys of the new ones, so id"
    ):
        replaced(shelf, first, later)


def test_a_key_that_was_rounded_is_refused() -> None:
    rows = pl.LazyFrame({"id": [1.0, 2.0**53], "code": [1.0, 2.0]})

    check_key(["code"], rows)
    with pytest.raises(InvalidInputError, match=r"'id' holds numbers beyond 2\^53"):
        check_key(["id"], rows)


def test_a_source_of_numbers_is_not_asked_for_what_is_text_here(shelf: Shelf) -> None:
    class AskedRows(ListedRows):
        asked: tuple[object, ...] = ()

        def since(self, column: str, value: object) -> Source:
            self.asked = (column, value)
            return self

    rows = pl.DataFrame({"t": [2**63, 2**63 + 1]}, schema={"t": pl.UInt64})
    base = shelf.full(ListedRows(rows))
    source = AskedRows(pl.DataFrame({"t": [2**63 + 1, 2**63 + 2]}, schema={"t": pl.UInt64}))

    found = shelf.more(source, base)

    assert source.asked == ()
    assert (found.n_new, found.end) == (1, str(2**63 + 2))
