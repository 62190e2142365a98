"""Columns of requests that are gone, new or of another type."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from loopwright.monitor import Reference
from loopwright.monitor.schema import schema_findings

Houses = Callable[[int, int], pl.DataFrame]


def test_rows_as_before_have_no_findings(reference: Reference, houses: Houses) -> None:
    assert schema_findings(reference, houses(500, 9)) == []


def test_a_column_that_is_gone_is_told(reference: Reference, houses: Houses) -> None:
    rows = houses(500, 9)

    dropped = schema_findings(reference, rows.drop("sqft"))
    emptied = schema_findings(reference, rows.with_columns(sqft=pl.lit(None)))

    assert [(each.stream, each.problem) for each in dropped] == [("sqft", "gone")]
    assert emptied == dropped


def test_text_in_a_number_is_told_with_its_share(reference: Reference, houses: Houses) -> None:
    rows = houses(400, 9)
    texts = pl.when(pl.int_range(pl.len()) % 4 == 0).then(pl.lit("2,000 ft"))
    mixed = rows.with_columns(sqft=texts.otherwise(pl.col("sqft").cast(pl.String)))

    (finding,) = schema_findings(reference, mixed)

    assert (finding.stream, finding.problem, finding.share) == ("sqft", "type", 0.25)
    assert finding.is_grave


def test_numbers_sent_as_text_are_no_fault(reference: Reference, houses: Houses) -> None:
    rows = houses(400, 9).with_columns(pl.col("sqft").cast(pl.String))

    assert schema_findings(reference, rows) == []


def test_an_unreadable_date_is_told(reference: Reference, houses: Houses) -> None:
    rows = houses(400, 9).with_columns(sold=pl.lit("yesterday"))

    assert [each.problem for each in schema_findings(reference, rows)] == ["type"]


def test_new_columns_are_told_together_and_are_no_fault(
    reference: Reference, houses: Houses
) -> None:
    rows = houses(400, 9).with_columns(garden=pl.lit(1), pool=pl.lit("no"), void=pl.lit(None))

    (finding,) = schema_findings(reference, rows)

    assert (finding.problem, finding.is_grave) == ("new", False)
    assert "2 columns that the model does not know: garden, pool" in finding.message


def test_numbers_far_outside_in_some_requests_are_a_fault(
    reference: Reference, houses: Houses
) -> None:
    rows = houses(400, 9)
    some = pl.int_range(pl.len()) % 5 == 0
    cents = rows.with_columns(sqft=pl.when(some).then(pl.col("sqft") * 100).otherwise("sqft"))

    (finding,) = schema_findings(reference, cents)

    assert (finding.stream, finding.problem, finding.share) == ("sqft", "out_of_range", 0.2)
    assert finding.is_grave
