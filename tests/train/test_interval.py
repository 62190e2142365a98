"""Intervals lie around predictions, and models add them to answers when asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.train import (
    Calibration,
    Interval,
    Outcome,
    model_members,
    open_bundle,
    pack_bundle,
)
from loopwright.train.worker import do_training_job

JobFolder = Callable[..., Path]
GROWING = Interval(confidence=0.9, reach=2.0, said=(0.0, 10.0), spread=(1.0, 3.0))
FACTOR = Interval(confidence=0.9, reach=float(np.log(2)), scale="logarithm")


def test_the_reach_is_in_spreads_and_spreads_go_with_the_prediction() -> None:
    lower, upper = GROWING.bounds(np.array([0.0, 5.0, 20.0]))

    assert lower.tolist() == [-2.0, 1.0, 14.0]
    assert upper.tolist() == [2.0, 9.0, 26.0]


def test_on_the_logarithm_the_reach_is_a_factor() -> None:
    lower, upper = FACTOR.bounds(np.array([8.0, -1.0]))

    assert (lower[0], upper[0]) == (pytest.approx(4.0), pytest.approx(16.0))
    assert np.isfinite([lower, upper]).all()


@pytest.mark.parametrize("interval", [GROWING, FACTOR])
def test_what_json_says_is_the_same_interval(interval: Interval) -> None:
    assert Interval.from_json(interval.to_json()) == interval


@pytest.mark.parametrize(
    "changes",
    [
        {"confidence": 1.0},
        {"reach": -1.0},
        {"reach": float("inf")},
        {"scale": "square"},
        {"said": [1.0]},
        {"said": [1.0, 1.0], "spread": [1.0, 1.0]},
        {"said": [1.0, 2.0], "spread": [1.0, 0.0]},
        {"said": None},
    ],
)
def test_an_interval_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="interval"):
        Interval.from_json({**GROWING.to_json(), **changes})


def packed(folder: Path, outcome: Outcome) -> bytes:
    return pack_bundle(model_members(folder), name="houses", algorithm="lightgbm", outcome=outcome)


def test_a_model_adds_intervals_when_it_is_asked(job_folder: JobFolder) -> None:
    folder = job_folder("decision-tree", "regression")
    do_training_job(folder)
    model = open_bundle(packed(folder, Outcome(task="regression", interval=FACTOR)))
    rows = pl.read_parquet(folder / "validation.parquet").drop("weight", "price")[:8].to_dicts()

    plain, more = model.predict(rows), model.predict(rows, extras=("interval",))

    assert [set(each) for each in plain] == [{"prediction"}] * 8
    for before, after in zip(plain, more, strict=True):
        assert after["prediction"] == before["prediction"]
        assert after["interval"] == {
            "lower": pytest.approx(before["prediction"] / 2),
            "upper": pytest.approx(before["prediction"] * 2),
            "confidence": 0.9,
        }


@pytest.mark.parametrize(("name", "message"), [("interval", "adds no"), ("intervall", "Did you")])
def test_what_a_model_cannot_add_is_refused(job_folder: JobFolder, name: str, message: str) -> None:
    folder = job_folder("decision-tree", "regression")
    do_training_job(folder)
    model = open_bundle(packed(folder, Outcome(task="regression")))

    with pytest.raises(InvalidInputError, match=message):
        model.predict([{}], extras=(name,))


def test_rows_and_tables_are_repaired_alike(job_folder: JobFolder) -> None:
    folder = job_folder("lightgbm", "binary")
    do_training_job(folder)
    calibration = Calibration(method="beta", parameters=(0.6, 0.4, 0.3))
    outcome = Outcome(task="binary", classes=("no", "yes"), threshold=0.55, calibration=calibration)
    model = open_bundle(packed(folder, outcome))
    table = pl.read_parquet(folder / "validation.parquet").drop("weight", "sold")
    today = model.fitted.today

    answers = model.predict(table.to_dicts(), today=today)

    numbers = model.predict_frame(table)
    before = model.predict_frame(table, calibrated=False)
    assert [each["probability"] for each in answers] == numbers.tolist()
    assert [each["prediction"] == "yes" for each in answers] == (numbers >= 0.55).tolist()
    assert np.array_equal(numbers, calibration.applied(before))
    assert not np.array_equal(numbers, before)
