"""Labels that a source gives by itself: once each, whatever it sends and whenever it breaks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from loopwright.core.clock import FixedClock
from loopwright.deploy import read_labels
from loopwright.loop.file import LoopFile, parse_loop_file
from loopwright.loop.label_source import fetch_labels
from loopwright.loop.sourcing import Target
from loopwright.loop.workspace import Workspace
from loopwright.store import MemoryMetadataStore

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)
TARGET = Target(column="churned", task="binary", reason="", n_null=0, classes=("no", "yes"))


def loop_of(labels: str) -> LoopFile:
    return parse_loop_file(
        b"name: churn\nproblem: {target: churned}\ndata: {source: {kind: file, path: a.csv}}\n"
        b"deploy: {endpoint: churn}\n" + f"monitor: {{labels: {labels}}}\n".encode()
    )


TABLE = loop_of("{source: {kind: file, path: truth.csv}, at: known_at}")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    clock = FixedClock(NOW)
    metadata = MemoryMetadataStore(clock)
    metadata.put("loop", "churn", {"endpoint": "churn", "file": str(tmp_path / "loop.yaml")})
    return Workspace(
        home=tmp_path,
        metadata=metadata,
        artifacts=None,  # type: ignore[arg-type]
        compute=None,  # type: ignore[arg-type]
        clock=clock,
        user="ann",
    )


def write(folder: Path, *rows: tuple[str, str, str]) -> None:
    lines = ["inference_id,churned,known_at", *(",".join(row) for row in rows)]
    (folder / "truth.csv").write_text("\n".join(lines) + "\n")


def at(hours: float) -> str:
    return f"{NOW - timedelta(hours=hours):%Y-%m-%d %H:%M:%S}"


def logged(workspace: Workspace) -> pl.DataFrame:
    return read_labels(workspace.endpoint_folder("churn") / "labels").frame


def test_labels_are_taken_once_with_their_own_time(workspace: Workspace, tmp_path: Path) -> None:
    write(tmp_path, ("a", "yes", at(5)), ("b", "no", at(4)))
    fetch_labels(workspace, TABLE, TARGET)
    write(
        tmp_path, ("a", "yes", at(5)), ("b", "no", at(4)), ("c", "no", at(4.5)), ("a", "no", at(1))
    )

    state = fetch_labels(workspace, TABLE, TARGET)
    fetch_labels(workspace, TABLE, TARGET)

    rows = logged(workspace).select("inference_id", "label", "at").rows()
    assert rows == [
        ("a", "yes", NOW - timedelta(hours=5)),
        ("b", "no", NOW - timedelta(hours=4)),
        ("c", "no", NOW - timedelta(hours=4.5)),
        ("a", "no", NOW - timedelta(hours=1)),
    ]
    assert state is not None
    assert (state.n_taken, state.problem) == (4, "")


def test_a_time_that_has_not_come_counts_from_now_and_is_told(
    workspace: Workspace, tmp_path: Path
) -> None:
    write(tmp_path, ("a", "yes", at(-48)), ("b", "yes", "whenever"))

    state = fetch_labels(workspace, TABLE, TARGET)

    assert state is not None
    assert logged(workspace)["at"].to_list() == [NOW]
    assert (state.n_future, state.n_unreadable) == (1, 1)


def test_a_batch_that_is_hardly_labels_is_refused_whole_and_read_again_when_mended(
    workspace: Workspace, tmp_path: Path
) -> None:
    write(tmp_path, *[(f"i{k}", "maybe" if k % 2 else "yes", at(1)) for k in range(40)])
    refused = fetch_labels(workspace, TABLE, TARGET)
    write(tmp_path, *[(f"i{k}", "no" if k % 2 else "yes", at(1)) for k in range(40)])

    mended = fetch_labels(workspace, TABLE, TARGET)

    assert refused is not None
    assert mended is not None
    assert "20 of 40 rows of a batch are no labels (20: not one of no, yes)" in refused.problem
    assert (refused.n_taken, mended.n_taken, mended.problem) == (0, 40, "")


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ("{source: {kind: file, path: nowhere.csv}}", "nowhere.csv"),
        ("{source: {kind: file, path: truth.csv}, label: gone}", "no column 'gone'"),
    ],
)
def test_a_source_that_cannot_be_read_is_told_and_stops_nothing(
    workspace: Workspace, tmp_path: Path, labels: str, told: str
) -> None:
    write(tmp_path, ("a", "yes", at(5)))

    state = fetch_labels(workspace, loop_of(labels), TARGET)

    assert state is not None
    assert told in state.problem
    assert logged(workspace).height == 0


def test_without_a_time_a_table_is_read_in_full_and_each_label_taken_once(
    workspace: Workspace, tmp_path: Path
) -> None:
    loop = loop_of("{source: {kind: file, path: truth.csv}}")
    write(tmp_path, ("a", "yes", ""), ("b", "no", ""))
    fetch_labels(workspace, loop, TARGET)
    write(tmp_path, ("a", "yes", ""), ("b", "yes", ""))

    fetch_labels(workspace, loop, TARGET)

    rows = logged(workspace).select("inference_id", "label", "at").rows()
    assert rows == [("a", "yes", NOW), ("b", "no", NOW), ("b", "yes", NOW)]


def test_labels_of_a_database_by_business_key_come_once_each(
    workspace: Workspace, tmp_path: Path
) -> None:
    import sqlite3

    loop = loop_of(
        f"{{source: {{kind: sql, url: 'sqlite:///{tmp_path}/truth.db', table: truth}}, "
        "key: customer, at: known_at}"
    )
    with sqlite3.connect(tmp_path / "truth.db") as connection:
        connection.execute("create table truth (customer integer, churned text, known_at text)")
        connection.execute("insert into truth values (7, 'yes', ?)", (at(5),))
    fetch_labels(workspace, loop, TARGET)
    with sqlite3.connect(tmp_path / "truth.db") as connection:
        connection.execute("insert into truth values (8, 'no', ?)", (at(3),))

    fetch_labels(workspace, loop, TARGET)

    assert logged(workspace).select("inference_id", "key", "label").rows() == [
        ("", "7", "yes"),
        ("", "8", "no"),
    ]


def test_a_process_killed_after_logging_says_the_same_thing_twice(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, ("a", "yes", at(5)))
    monkeypatch.setattr(
        "loopwright.loop.label_source._keep_known",
        lambda *_: (_ for _ in ()).throw(KeyboardInterrupt),
    )
    with pytest.raises(KeyboardInterrupt):
        fetch_labels(workspace, TABLE, TARGET)
    monkeypatch.undo()

    state = fetch_labels(workspace, TABLE, TARGET)

    assert state is not None
    assert state.n_taken == 1
    assert logged(workspace)["inference_id"].to_list() == ["a", "a"]
