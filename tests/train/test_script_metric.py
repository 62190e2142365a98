from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.train.script_metric import MetricFinder, read_metrics

PATTERNS = {"rmse": r"rmse: ([-0-9.e]+|nan)", "auc": r"auc=([0-9.]+)"}


def found_in(*pieces: bytes) -> list[tuple[int, str, Any]]:
    file = io.StringIO()
    finder = MetricFinder(PATTERNS, file)
    for piece in pieces:
        finder.see(piece)
    finder.close()
    lines = [json.loads(line) for line in file.getvalue().splitlines()]
    return [(line["step"], line["name"], line["value"]) for line in lines]


def test_each_metric_counts_its_own_steps() -> None:
    assert found_in(b"rmse: 2.5\nauc=0.5 rmse: 2\nnothing\nauc=0.75") == [
        (0, "rmse", 2.5),
        (1, "rmse", 2.0),
        (0, "auc", 0.5),
        (1, "auc", 0.75),
    ]


def test_a_progress_bar_that_returns_to_the_start_of_its_line_is_read() -> None:
    assert found_in(b"\r1% rmse: 3\r2% rmse: 2\n") == [(0, "rmse", 3.0), (1, "rmse", 2.0)]


def test_a_value_that_is_not_finite_is_null_and_one_that_is_no_number_is_none() -> None:
    assert found_in(b"rmse: nan\nrmse: 1.2.3\n") == [(0, "rmse", None)]


def test_a_line_without_end_takes_little_memory_and_is_read_in_part() -> None:
    finder = MetricFinder(PATTERNS, io.StringIO())

    for _ in range(100):
        finder.see(b"x" * 100_000)

    assert len(finder._rest) <= 8192


@settings(max_examples=50, deadline=None)
@given(cuts=st.sets(st.integers(min_value=1, max_value=60)))
def test_how_the_output_arrives_does_not_matter(cuts: set[int]) -> None:
    text = b"start\nrmse: 0.125\r\nauc=0.5\n\nrmse: 1e-3 auc=0.25\nthe end"
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]

    assert found_in(*pieces) == found_in(text)


def test_a_line_that_is_being_written_is_not_read_yet(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "name": "rmse", "value": 1.0}\n{"step": 1, "na')

    assert [each["step"] for each in read_metrics(path)] == [0]
    assert read_metrics(tmp_path / "none.jsonl") == []
