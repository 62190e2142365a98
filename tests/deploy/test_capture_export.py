from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.capture import CapturedPrediction, CaptureLog
from loopwright.deploy.capture_export import export_capture
from loopwright.sagemaker.monitoring.captured import payload, read_events


def captured(folder: Path, *times: str, **values: Any) -> None:
    log = CaptureLog(folder)
    rows = [
        CapturedPrediction(
            inference_id=f"id{n}",
            at=at,
            version="v1",
            inputs={"area": n, "town": None},
            prediction="yes",
            probability=0.5,
            **values,
        )
        for n, at in enumerate(times)
    ]
    log.write(log.encoded(rows))
    log.close()


def test_answers_lie_by_variant_and_hour_and_read_as_captured_requests(tmp_path: Path) -> None:
    captured(tmp_path / "log", "2026-01-31T12:59:59.900000Z", "2026-01-31T13:00:00Z")
    captured(tmp_path / "log", "2026-01-31T13:30:00Z", variant="b")

    n_lines = export_capture(tmp_path / "log", tmp_path / "out", endpoint="churn")

    files = sorted(str(each.relative_to(tmp_path / "out")) for each in tmp_path.rglob("*.jsonl"))
    assert n_lines == 3
    assert files == [
        "churn/AllTraffic/2026/01/31/12/captured.jsonl",
        "churn/AllTraffic/2026/01/31/13/captured.jsonl",
        "churn/b/2026/01/31/13/captured.jsonl",
    ]
    first, second, other = read_events(tmp_path / "out")
    assert (first.id, second.id, other.id) == ("id0", "id1", "id0")
    assert payload(second.data["endpointInput"]) == [{"area": 1, "town": None}]
    assert payload(second.data["endpointOutput"]) == [
        {"prediction": "yes", "probability": 0.5, "model_version": "v1"}
    ]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    captured(tmp_path / "log", "2026-01-31T12:00:00Z")
    (segment,) = (tmp_path / "log").iterdir()
    segment.write_bytes(segment.read_bytes() + b'{"inference_id": "x", "at\n')

    assert export_capture(tmp_path / "log", tmp_path / "out", endpoint="churn") == 1


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    captured(tmp_path / "log", "2026-01-31T12:00:00Z")

    with pytest.raises(InvalidInputError, match="something in"):
        export_capture(tmp_path / "log", tmp_path / "log", endpoint="churn")


def test_an_endpoint_that_captured_nothing_has_nothing_to_write(tmp_path: Path) -> None:
    assert export_capture(tmp_path / "log", tmp_path / "out", endpoint="churn") == 0
