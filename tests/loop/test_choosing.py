from __future__ import annotations

import itertools
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.loop.choosing import chosen_windows, thinned, without_judged
from loopwright.loop.feedback_state import Period
from loopwright.loop.framing import _with_live_rows
from loopwright.loop.live import outside

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def rows(start: int, stop: int) -> pl.DataFrame:
    return pl.DataFrame({"id": range(start, stop), "y": [n % 7 for n in range(start, stop)]})


def test_the_choices_are_all_rows_the_recent_ones_and_all_with_less_weight_by_age() -> None:
    windows = chosen_windows(rows(0, 4_000), rows(4_000, 5_000), ("all", "recent", "weighted"))

    assert windows["all"].height == 5_000
    assert windows["recent"].equals(rows(4_000, 5_000))
    weighted = windows["weighted"]
    ages = 5_000 - weighted["id"].to_numpy()
    # the expected number is the sum of 2^(-age / 1000): 1000 / ln 2 * (1 - 2^-5) = 1,398
    assert weighted.height == pytest.approx(1_398, abs=100)
    counts = [int(((ages > k * 1_000) & (ages <= (k + 1) * 1_000)).sum()) for k in range(4)]
    for newer, older in itertools.pairwise(counts):
        assert older == pytest.approx(newer / 2, rel=0.25)


def test_the_same_rows_give_the_same_choice() -> None:
    assert thinned(rows(0, 900), half_life=100).equals(thinned(rows(0, 900), half_life=100))


def test_a_case_that_the_source_holds_too_is_not_learnt_from_and_judged_by() -> None:
    left = without_judged(rows(0, 100), [rows(90, 110), rows(0, 3)])

    assert left.equals(rows(3, 90))


def test_a_table_of_few_values_keeps_its_rows() -> None:
    few = pl.DataFrame({"a": [0, 1] * 50, "y": [0, 1] * 50})

    assert without_judged(few, [few[:2]]).equals(few)


class _Kept:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def local_path(self, digest: str) -> Path:
        return self.folder / digest


@given(st.integers(250, 900), st.integers(0, 300), st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_7_no_row_is_learnt_from_and_judged_by_and_what_judges_is_later(
    n_live: int, n_known: int, n_shared: int
) -> None:

    with tempfile.TemporaryDirectory() as folder:
        # the source holds some of the cases that were answered live, under the same id
        source = pl.concat([rows(-1_000, 0), rows(n_known, n_known + min(n_shared, n_live))])
        live = rows(0, n_known + n_live).with_columns((pl.col("id") >= n_known).alias("__fresh"))
        live.write_parquet(Path(folder) / "live")
        workspace: Any = type("W", (), {"artifacts": _Kept(Path(folder))})()

        windows, parts = _with_live_rows(
            workspace,
            {"digest": "live"},
            source.schema,
            {"train": source},
            ("all", "recent", "weighted"),
        )

    judged = set(parts["validation"]["id"]) | set(parts["test"]["id"])
    assert not set(parts["validation"]["id"]) & set(parts["test"]["id"])
    for frame in windows.values():
        assert not judged & set(frame["id"])
        assert frame["id"].max() < min(judged)  # type: ignore[operator]
    assert max(parts["validation"]["id"]) < min(parts["test"]["id"])


def test_8_rows_of_a_quarantined_time_are_left_out() -> None:
    labelled = pl.DataFrame({"at": [NOW + timedelta(hours=n) for n in range(10)], "n": range(10)})
    periods = [
        Period(since=NOW + timedelta(hours=2), until=NOW + timedelta(hours=4)),
        Period(since=NOW + timedelta(hours=9), until=NOW + timedelta(hours=30)),
    ]

    assert outside(labelled, periods)["n"].to_list() == [0, 1, 5, 6, 7, 8]
