"""A bad row is answered with its error, in its place, and does not hold up the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.deploy import read_capture
from loopwright.deploy.row_by_row import predicted_by_row

Run = Callable[..., Any]


def model(standin: ModuleType) -> Any:
    return standin.SlopeModel(slope=2.0, golden=20.0, delay_s=0.0, task="regression")


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.sampled_from([{"area": 1.0}, {"area": "x"}, {}, 7, None]), max_size=30))
def test_the_good_rows_get_what_they_get_alone(standin: ModuleType, rows: list[Any]) -> None:
    outcomes = predicted_by_row(model(standin), rows, slice(0, 1024), ())

    assert len(outcomes) == len(rows)
    for index, (row, (read, answer)) in enumerate(zip(rows, outcomes, strict=True)):
        if row == {"area": 1.0}:
            assert answer == {"prediction": 2.0}
            assert read is not None
        else:
            assert read is None
            assert answer["error"]["row"] == index


def test_an_error_that_names_no_row_belongs_to_the_one_it_comes_from(standin: ModuleType) -> None:
    made = model(standin)
    made.check_and_predict = _refusing_three(made.check_and_predict)

    outcomes = predicted_by_row(made, [{"area": at} for at in range(5)], slice(0, 5), ())

    assert ["error" in answer for _, answer in outcomes] == [False, False, False, True, False]


def _refusing_three(check_and_predict: Any) -> Any:
    def called(rows: Any, **settings_: Any) -> Any:
        if any(row["area"] == 3 for row in rows):
            raise InvalidInputError("Three is too many.")
        return check_and_predict(rows, **settings_)

    return called


BATCH = [
    {"area": 1, "inference_id": "a"},
    {"area": "x", "inference_id": "b"},
    7,
    {"area": 2, "inference_id": "a"},
    {"area": 3, "inference_id": 1.5},
    {"area": 4},
]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/invocations?errors=row", ""),
        ("/invocations", "X-Amzn-SageMaker-Custom-Attributes: errors=row\r\n"),
    ],
)
def test_a_batch_answers_row_by_row_when_asked(run_endpoint: Run, path: str, headers: str) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post(BATCH, path=path, headers=headers).hear()

    assert status == 200
    answers = answer["predictions"]
    assert ["error" in each for each in answers] == [False, True, True, True, True, False]
    assert [each.get("prediction") for each in answers] == [2.0, None, None, None, None, 8.0]
    assert answer["errors"] == 4
    assert answers[1]["inference_id"] == "b"
    assert (answers[1]["error"]["row"], answers[1]["error"]["field"]) == (1, "area")
    assert answers[3]["error"]["field"] == "inference_id"
    captured = read_capture(site.folder / "capture").frame
    assert captured["prediction"].to_list() == [2.0, 8.0]


def test_without_asking_one_bad_row_refuses_the_batch(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post([{"area": 1}, {"area": "x"}]).hear()

    assert (status, answer["error"]["row"]) == (400, 1)
    assert not list(site.folder.glob("capture/*"))


def test_a_single_bad_row_is_answered_in_its_place_too(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post({"area": "x"}, path="/invocations?errors=row").hear()

    assert status == 200
    assert answer["error"]["field"] == "area"


def test_another_way_to_treat_errors_is_refused(run_endpoint: Run) -> None:
    site = run_endpoint()

    with site.dial() as line:
        status, _, answer = line.post({"area": 1}, path="/invocations?errors=none").hear()

    assert (status, answer["error"]["expected"]) == (400, ["all", "row"])


def test_many_bad_rows_are_answered_in_turns(run_endpoint: Run) -> None:
    site = run_endpoint()
    rows = [{"area": area if area % 3 else None} for area in range(3_000)]

    with site.dial() as line:
        _, _, answer = line.post(rows, path="/invocations?errors=row").hear()

    assert answer["errors"] == 1_000
    good = [each["prediction"] for each in answer["predictions"] if "error" not in each]
    assert good == [2.0 * area for area in range(3_000) if area % 3]
    assert json.dumps(answer)
