"""What the next round learns from: rows with labels that count, once each, oldest first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from loopwright.loop.live import fresh_after, write_live_rows
from loopwright.loop.sourcing import Target
from loopwright.monitor import HeldBatch, Ledger, LedgerAbout
from loopwright.prepare import Signature

START = datetime(2026, 1, 1, tzinfo=UTC)
TARGET = Target(column="price", task="regression", reason="", n_null=0)
TABLE = pl.DataFrame({"rooms": [1, 2], "town": ["a", "b"], "note": ["x", "y"], "price": [1.0, 2.0]})
COLUMNS = ("hash", "inference_id", "at", "label")


def captured(n: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "inference_id": [f"i{k}" for k in range(n)],
            "at": [START + timedelta(hours=k) for k in range(n)],
            "version": ["1"] * n,
            "variant": pl.Series([None] * n, dtype=pl.String),
            "shadow": [False] * n,
            "prediction": [1.0] * n,
            "probability": pl.Series([None] * n, dtype=pl.Float64),
            "probabilities": pl.Series([None] * n, dtype=pl.String),
            "inputs": [f'{{"rooms": {k}, "town": "t{k}"}}' for k in range(n)],
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


def labels(values: dict[str, float], *, hour: int, source: str = "app") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "inference_id": list(values),
            "label": list(values.values()),
            "at": [START + timedelta(hours=hour)] * len(values),
            "source": [source] * len(values),
        },
        schema_overrides={"at": pl.Datetime("us", "UTC")},
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    found = Ledger(tmp_path / "truth", LedgerAbout())
    found.take_predictions(captured(6))
    found.take_labels(labels({"i3": 30.0, "i1": 10.0, "i4": 40.0}, hour=9))
    return found


def learnt(ledger: Ledger, folder: Path, since: datetime | None = None) -> pl.DataFrame:
    path = folder / "live.parquet"
    write_live_rows(
        ledger,
        ledger.labelled(columns=COLUMNS),
        path,
        signature=Signature.from_frame(TABLE.select("rooms", "town"), target="price"),
        schema=dict(TABLE.schema),
        target=TARGET,
        since=since,
    )
    return pl.read_parquet(path)


def test_rows_are_those_of_the_source_oldest_first(ledger: Ledger, tmp_path: Path) -> None:
    rows = learnt(ledger, tmp_path, since=START + timedelta(hours=3))

    assert rows.columns == [*TABLE.columns, "__fresh"]
    assert rows.rows() == [
        (1, "t1", None, 10.0, False),
        (3, "t3", None, 30.0, False),
        (4, "t4", None, 40.0, True),
    ]
    assert [path.name for path in tmp_path.iterdir()].count("live.parts") == 0


def test_no_held_row_is_learnt_from(ledger: Ledger, tmp_path: Path) -> None:
    at = START + timedelta(hours=9)
    ledger.take_labels(labels({"i5": 9e9, "i1": 9e9}, hour=9, source="poison"))
    batch = HeldBatch(id="1", source="poison", from_at=at, to_at=at, after=2, upto=3)

    ledger.hold([batch])

    assert learnt(ledger, tmp_path)["price"].to_list() == [10.0, 30.0, 40.0]


def test_labels_sent_again_teach_nothing_twice_and_reach_no_detector_again(
    ledger: Ledger, tmp_path: Path
) -> None:
    before, read_until = learnt(ledger, tmp_path), ledger.number
    for _ in range(3):
        ledger.take_labels(labels({"i3": 30.0, "i1": 10.0, "i4": 40.0}, hour=9))
    ledger.take_labels(labels({"i3": 31.0}, hour=10))

    after = learnt(ledger, tmp_path)

    assert ledger.newly_labelled(above=read_until).height == 0
    assert after["price"].to_list() == [10.0, 31.0, 40.0]
    assert after.height == before.height
    assert (ledger.counts.n_duplicate, ledger.counts.n_conflicting) == (9, 1)


def test_rows_from_before_a_harm_are_not_fresh_if_enough_came_since() -> None:
    learnt, harm = START, START + timedelta(days=90)
    just_before = harm - timedelta(microseconds=1)

    assert fresh_after(learnt, harm, n_recent=250) == just_before
    assert fresh_after(None, harm, n_recent=250) == just_before
    assert fresh_after(learnt, harm, n_recent=249) == learnt
    assert fresh_after(harm, learnt, n_recent=250) == harm
