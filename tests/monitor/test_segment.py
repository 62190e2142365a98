"""Segments: how they are asked for, and that a change in one of them is told with its name."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.monitor import MonitorPlan, Reference, build_reference, start_watch, watch
from loopwright.monitor.segment import Segment, build_segments, check_segments

KINDS = {"size": "number", "shop": "category"}


def made(n: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame({"size": rng.normal(10, 2, n), "shop": rng.choice(["a", "b", "c"], n)})


@pytest.fixture(scope="module")
def reference() -> Reference:
    rows, answered = made(6_000, 1), made(3_000, 2)
    losses = np.abs(np.random.default_rng(3).normal(size=3_000))
    return build_reference(
        rows, answered["size"].to_numpy(), losses, KINDS, answered=answered, segments=["shop"]
    )


def test_a_category_gives_a_segment_for_each_frequent_value() -> None:
    segments = build_segments(["shop"], made(900, 0), KINDS)

    assert [each.name for each in segments] == ["shop = a", "shop = b", "shop = c"] or len(
        segments
    ) == 3
    masks = [each.mask(made(900, 0)) for each in segments]
    assert np.sum(masks, axis=0).tolist() == [1] * 900


def test_a_number_gives_a_segment_for_each_third_of_the_rows() -> None:
    segments = build_segments(["size"], made(900, 0), KINDS)

    sizes = [int(each.mask(made(900, 0)).sum()) for each in segments]
    assert (len(segments), sum(sizes)) == (3, 900)
    assert max(sizes) - min(sizes) < 20


def test_a_condition_holds_for_the_rows_it_is_true_for() -> None:
    (segment,) = build_segments(['size > 9 and shop == "a"'], made(3_000, 0), KINDS)
    rows = pl.DataFrame({"size": [10.0, 8.0, 10.0, None], "shop": ["a", "a", "b", "a"]})

    assert segment.mask(rows).tolist() == [True, False, False, False]
    assert segment.mask(rows.drop("shop")).tolist() == [False] * 4


def test_a_segment_of_few_reference_rows_is_left_out() -> None:
    assert build_segments(["size > 100"], made(900, 0), KINDS) == ()


@pytest.mark.parametrize("wrong", ["shp", "size +", "size + 1"])
def test_what_is_neither_column_nor_condition_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInputError, match=r"monitor\.segments"):
        build_segments([wrong], made(900, 0), KINDS)


def test_too_many_segments_are_refused() -> None:
    wanted = [f"size > {k / 100}" for k in range(25)]

    with pytest.raises(InvalidInputError, match="at most 24"):
        build_segments(wanted, made(900, 0), KINDS)


def test_a_missing_column_holds_for_no_row() -> None:
    segment = Segment(name="shop = a", column="shop", value="a")

    assert not segment.mask(pl.DataFrame({"size": [1.0]})).any()


def look(reference: Reference, rows: pl.DataFrame, losses: np.ndarray) -> list[tuple[str, str]]:
    state = start_watch(reference, MonitorPlan(), version="1")
    predictions = pl.DataFrame(
        {
            "inference_id": [str(k) for k in range(rows.height)],
            "at": pl.Series([datetime(2026, 1, 1, tzinfo=UTC)] * rows.height),
            "version": "1",
            "prediction": rows["size"],
        }
    )
    labelled = predictions.select("at").with_columns(loss=losses)
    _, report = watch(reference, state, predictions, inputs=rows, losses=labelled, loss_inputs=rows)
    return [(alarm.kind, alarm.segment) for alarm in report.new_alarms]


def test_an_error_that_grows_in_one_segment_is_told_for_that_segment(reference: Reference) -> None:
    rows = made(2_000, 5)
    scale = np.where(rows["shop"].to_numpy() == "b", 2.0, 0.8)
    losses = np.abs(np.random.default_rng(6).normal(size=2_000)) * scale

    assert ("error", "shop = b") in look(reference, rows, losses)


def test_rows_as_usual_raise_no_alarm_in_any_segment(reference: Reference) -> None:
    losses = np.abs(np.random.default_rng(8).normal(size=10_000))

    assert look(reference, made(10_000, 7), losses) == []


def test_segments_survive_json(reference: Reference) -> None:
    assert Reference.from_json(reference.to_json()) == reference
    assert {stream.segment for stream in reference.streams} == {
        "",
        *(s.name for s in reference.segments),
    }


def test_a_segment_over_no_column_is_found_before_there_are_rows() -> None:
    check_segments(["tenure", "tenure < 12 and Contract == 'One year'"], ["tenure", "Contract"])

    with pytest.raises(InvalidInputError, match="'Contrakt' is no column") as error:
        check_segments(["Contrakt"], ["tenure", "Contract"])

    assert error.value.facts["field"] == "monitor.segments"
    assert "Contract" in error.value.hint
