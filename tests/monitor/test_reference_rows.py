"""Held-out rows in a bundle: what they hold, and what is refused of a file from anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.monitor import Reference
from loopwright.monitor.reference_rows import (
    MOST_ROWS,
    ReferenceRows,
    coded_streams,
    open_reference_rows,
    ordered_streams,
    row_codes,
    sampled_rows,
)
from loopwright.train.array_file import pack_arrays

Houses = Callable[[int, int], pl.DataFrame]


@pytest.fixture
def rows(reference: Reference, houses: Houses) -> ReferenceRows:
    frame = houses(200, 7)
    said = frame["sqft"].to_numpy() * 250
    return ReferenceRows(
        codes=row_codes(reference, frame, pl.Series(said)),
        raw=said,
        y=said * 1.1,
        influence=np.ones((60, 7)),
        features=np.ones((4, 12)),
    )


def test_rows_come_back_from_the_file_as_they_were(
    rows: ReferenceRows, reference: Reference
) -> None:
    found = open_reference_rows(rows.to_bytes(), reference)

    for name in ("codes", "raw", "y", "influence", "features"):
        assert (getattr(found, name) == getattr(rows, name)).all()
    assert found.to_bytes() == rows.to_bytes()


def test_dates_have_no_code_and_categories_no_order(reference: Reference) -> None:
    streams = coded_streams(reference)

    assert [each.key for each in streams][-1] == "prediction"
    assert "sold" not in [each.key for each in streams]
    order = dict(zip([each.key for each in streams], ordered_streams(reference), strict=True))
    assert order["sqft"]
    assert not order["zipcode"]


def test_a_column_that_requests_leave_out_counts_as_missing(
    reference: Reference, houses: Houses
) -> None:
    frame = houses(60, 8)

    codes = row_codes(reference, frame.drop("sqft"), frame["sqft"] * 250)

    sqft = coded_streams(reference)[0]
    assert (codes[:, 0] == sqft.n_bins - 1).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda rows: {"codes": rows.codes[:, 1:]}, "streams"),
        (lambda rows: {"codes": np.full_like(rows.codes, 200)}, "no bin"),
        (lambda rows: {"codes": rows.codes[:40], "raw": rows.raw[:40], "y": rows.y[:40]}, "rows"),
        (lambda rows: {"y": rows.y[:-1]}, "truths"),
        (lambda rows: {"raw": np.full_like(rows.raw, np.nan)}, "not finite"),
        (lambda rows: {"raw": rows.raw[:, None]}, "classes"),
        (lambda _: {"influence": np.ones(5)}, "influence"),
        (lambda _: {"features": np.ones((3, 2))}, "features"),
    ],
)
def test_rows_that_do_not_go_with_the_model_are_refused(
    rows: ReferenceRows, reference: Reference, change: Callable[..., dict], told: str
) -> None:
    hostile = replace(rows, **change(rows)).to_bytes()

    with pytest.raises(InvalidInputError, match=told):
        open_reference_rows(hostile, reference)


def test_files_that_hold_something_else_are_refused(reference: Reference) -> None:
    for data in (b"", b"PK\x03\x04", pack_arrays({"codes": np.zeros((2, 2))})):
        with pytest.raises(InvalidInputError):
            open_reference_rows(data, reference)


def test_of_many_rows_the_same_few_are_drawn_in_their_order() -> None:
    drawn = sampled_rows(100_000, seed=3)

    assert len(drawn) == MOST_ROWS
    assert (np.diff(drawn) > 0).all()
    assert (drawn == sampled_rows(100_000, seed=3)).all()
    assert sampled_rows(10).tolist() == list(range(10))
