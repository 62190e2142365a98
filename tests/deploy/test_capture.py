from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.capture import (
    CapturedPrediction,
    CaptureLog,
    captured_inputs,
    column,
    is_sampled,
    read_capture,
    read_capture_lines,
)
from loopwright.deploy.segment import segments


def prediction(inference_id: str, **values: Any) -> CapturedPrediction:
    known = {"at": "2026-01-31T12:00:00.500000Z", "version": 1, "inputs": {}, "prediction": 1.5}
    return CapturedPrediction(inference_id=inference_id, **(known | values))


def write(folder: Path, *predictions: CapturedPrediction, **settings: Any) -> CaptureLog:
    log = CaptureLog(folder, **settings)
    log.write(log.encoded(predictions))
    log.close()
    return log


def test_predictions_come_back_as_a_table(tmp_path: Path) -> None:
    write(
        tmp_path,
        prediction("a", inputs={"area": 3.0, "city": "Bonn", "new": True}, probability=0.25),
        prediction("b", inputs={"area": None, "city": None, "new": None}, version="v2"),
    )

    frame = read_capture(tmp_path).frame

    assert frame.columns == [
        "inference_id", "at", "version", "inputs", "prediction", "probability", "probabilities",
        "variant",
    ]  # fmt: skip
    assert frame["at"].to_list() == [datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)] * 2
    assert frame["version"].to_list() == ["1", "v2"]
    assert frame["probability"].to_list() == [0.25, None]
    spread = frame.unnest("inputs")
    assert spread["area"].to_list() == [3.0, None]
    assert spread["city"].to_list() == ["Bonn", None]
    assert spread["new"].to_list() == [True, None]


def test_an_empty_log_is_an_empty_table_with_the_same_columns(tmp_path: Path) -> None:
    frame = read_capture(tmp_path / "nowhere").frame

    assert frame.height == 0
    assert frame.columns[:3] == ["inference_id", "at", "version"]
    assert frame["at"].dtype == pl.Datetime("us", "UTC")


def test_classes_and_their_probabilities_come_back(tmp_path: Path) -> None:
    write(tmp_path, prediction("a", prediction="x", probabilities={"x": 0.75, "y": 0.25}))

    frame = read_capture(tmp_path).frame

    assert frame["prediction"].to_list() == ["x"]
    assert frame["probabilities"].struct.field("y").to_list() == [0.25]


def test_a_cursor_reads_only_what_is_new(tmp_path: Path) -> None:
    write(tmp_path, prediction("a"))
    first = read_capture(tmp_path)
    write(tmp_path, prediction("b"))

    second = read_capture(tmp_path, after=first.cursor)
    third = read_capture(tmp_path, after=second.cursor)

    assert second.frame["inference_id"].to_list() == ["b"]
    assert third.frame.height == 0
    assert third.cursor == second.cursor


def test_the_first_of_several_predictions_with_one_id_is_kept(tmp_path: Path) -> None:
    write(tmp_path, prediction("a", prediction=1.0), prediction("b"), prediction("a", prediction=2))

    page = read_capture(tmp_path)

    assert page.frame["prediction"].to_list() == [1.0, 1.5]
    assert page.n_repeated == 1


def test_torn_lines_are_counted_and_left_out(tmp_path: Path) -> None:
    write(tmp_path, prediction("a"))
    with segments(tmp_path)[0].open("ab") as file:
        file.write(b'{"inference_id": "torn\n\xff\xff\n{"inference_id": "incomplete"}\n')
    write(tmp_path, prediction("b"))

    page = read_capture(tmp_path)

    assert page.frame["inference_id"].to_list() == ["a", "b"]
    assert page.n_unreadable == 3


def test_numpy_scalars_are_written_as_the_numbers_they_hold(tmp_path: Path) -> None:
    write(tmp_path, prediction("a", prediction=np.float32(0.5), probability=np.float64(0.25)))

    frame = read_capture(tmp_path).frame

    assert (frame["prediction"][0], frame["probability"][0]) == (0.5, 0.25)


def test_a_broken_disk_is_counted_and_never_raises(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("in the way")

    log = write(tmp_path / "log", prediction("a"), prediction("b"))

    assert (log.n_written, log.n_dropped) == (0, 2)
    assert log.problem is not None


@given(ids=st.lists(st.text(max_size=20), unique=True), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_share_keeps_what_a_smaller_one_keeps(
    ids: list[str], low: float, high: float
) -> None:
    low, high = min(low, high), max(low, high)

    for each in ids:
        assert is_sampled(each, share=high) or not is_sampled(each, share=low)
        assert is_sampled(each, share=1.0)
        assert not is_sampled(each, share=0.0)


def test_the_share_is_met(tmp_path: Path) -> None:
    n = 20_000
    kept = sum(is_sampled(f"id-{number}", share=0.3) for number in range(n))

    # six standard deviations of a binomial count
    assert abs(kept - 0.3 * n) < 6 * math.sqrt(n * 0.3 * 0.7)


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_outside_0_to_1_is_refused(tmp_path: Path, share: float) -> None:
    with pytest.raises(InvalidInputError, match="capture share"):
        CaptureLog(tmp_path, share=share)


@pytest.mark.parametrize(
    ("values", "expected", "dtype"),
    [
        ([1, None, 2], [1, None, 2], pl.Int64),
        ([1, 2.5], [1.0, 2.5], pl.Float64),
        ([10**30, 1], [1e30, 1.0], pl.Float64),
        ([True, None], [True, None], pl.Boolean),
        (["a", 1, 1.5, True, [1], None], ["a", "1", "1.5", "true", "[1]", None], pl.String),
        ([True, 1], ["true", "1"], pl.String),
        ([None], [None], pl.Null),
    ],
)
def test_a_column_keeps_every_value_whatever_is_mixed(
    values: list[Any], expected: list[Any], dtype: Any
) -> None:
    found = column("x", values)

    assert found.to_list() == expected
    assert found.dtype == dtype


def test_answers_of_shadows_are_kept_apart_from_those_that_were_seen(tmp_path: Path) -> None:
    write(
        tmp_path,
        prediction("a", variant="live"),
        prediction("a", variant="shade", shadow=True, version="v2"),
        prediction("a", variant="other", shadow=True, version="v3"),
        prediction("a", variant="other", shadow=True, version="v3"),
    )

    page = read_capture(tmp_path)

    assert page.frame["variant"].to_list() == ["live"]
    assert page.shadows["version"].to_list() == ["v2", "v3"]
    assert page.n_repeated == 1


def test_a_capture_of_the_time_before_variants_is_read(tmp_path: Path) -> None:
    line = (
        b'{"inference_id":"a","at":"2026-01-31T12:00:00Z","version":1,"inputs":{},"prediction":2}'
    )
    (tmp_path / "00000001.ndjson").write_bytes(line + b"\n")

    page = read_capture(tmp_path)

    assert page.frame.select("inference_id", "variant").rows() == [("a", None)]
    assert page.shadows.height == 0


def test_lines_read_without_their_inputs_say_the_same(tmp_path: Path) -> None:
    write(
        tmp_path,
        prediction("a", inputs={"area": 3.0, "city": "Bonn"}, probabilities={"x": 0.25, "y": 0.75}),
        prediction("b", inputs={"area": None, "size": 2}, variant="next", shadow=True),
    )
    with next(iter(segments(tmp_path))).open("ab") as file:
        file.write(b'{"inference_id": "torn\n')

    page = read_capture_lines(tmp_path)

    whole = read_capture(tmp_path)
    assert page.n_unreadable == 1
    assert page.frame["shadow"].to_list() == [False, True]
    for name in ("inference_id", "at", "version", "variant", "prediction", "probability"):
        both = whole.frame[name].to_list() + whole.shadows[name].to_list()
        assert page.frame[name].to_list() == both
    assert page.frame["probabilities"].to_list() == ['{"x":0.25,"y":0.75}', None]
    inputs = captured_inputs(page.frame["inputs"].to_list())
    assert inputs.to_dicts()[0] == {"area": 3.0, "city": "Bonn", "size": None}
    assert inputs["size"].to_list() == [None, 2]


def test_no_inputs_at_all_are_rows_without_columns() -> None:
    assert captured_inputs(["{}", None]).shape == (2, 0)
