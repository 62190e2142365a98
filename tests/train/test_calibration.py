"""Repaired probabilities rise with those that were said, and come back from JSON as they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.train import Calibration, Interval, Outcome

PLATT = Calibration(method="platt", parameters=(0.5, -0.2))
BETA = Calibration(method="beta", parameters=(1.4, 0.6, 0.1))
STEPS = Calibration(method="isotonic", said=(0.0, 0.4, 1.0), happened=(0.02, 0.1, 0.9))
COOL = Calibration(method="temperature", parameters=(2.0,))


@pytest.mark.parametrize("calibration", [PLATT, BETA, STEPS])
@settings(max_examples=25)
@given(pair=st.tuples(st.floats(0.001, 0.999), st.floats(0.001, 0.999)))
def test_a_higher_probability_stays_higher(
    calibration: Calibration, pair: tuple[float, float]
) -> None:
    low, high = sorted(pair)

    repaired = calibration.applied(np.array([low, high]))

    assert repaired[0] <= repaired[1]
    assert high - low < 1e-6 or repaired[0] < repaired[1]
    assert repaired[0] >= 0
    assert repaired[1] <= 1


def test_platts_map_halves_the_log_odds() -> None:
    # logit 0.8 = ln 4; half of it less 0.2 gives 1 / (1 + exp(0.2) / 2)
    repaired = PLATT.applied(np.array([0.8]))

    assert repaired[0] == pytest.approx(1 / (1 + np.exp(0.2) / 2), rel=1e-12)


def test_a_temperature_of_two_takes_square_roots() -> None:
    # roots of 0.64 and 0.36 are 0.8 and 0.6
    assert COOL.applied(np.array([[0.64, 0.36]]))[0] == pytest.approx([0.8 / 1.4, 0.6 / 1.4])


@pytest.mark.parametrize("calibration", [PLATT, BETA, STEPS, COOL])
def test_a_row_is_repaired_alike_alone_and_among_others(calibration: Calibration) -> None:
    p = np.random.default_rng(0).random((500, 3))
    p /= p.sum(axis=1, keepdims=True)
    given_ = p if calibration is COOL else p[:, 0]

    together = calibration.applied(given_)

    alone = np.concatenate([calibration.applied(given_[i : i + 1]) for i in range(500)])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("calibration", [PLATT, BETA, STEPS, COOL])
def test_what_json_says_is_the_same_map(calibration: Calibration) -> None:
    assert Calibration.from_json(calibration.to_json()) == calibration


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "magic"},
        {"parameters": [1.0]},
        {"parameters": [-1.0, 0.0]},
        {"parameters": [float("nan"), 0.0]},
        {"parameters": ["1", 0.0]},
        {"said": [0.0, 1.0], "happened": [0.0, 1.0]},
        {"method": "isotonic", "parameters": [], "said": [0.0, 0.5], "happened": [0.5, 0.4]},
        {"method": "isotonic", "parameters": [], "said": [0.5, 0.5], "happened": [0.1, 0.4]},
        {"method": "isotonic", "parameters": [], "said": [0.0, 1.0], "happened": [0.1, 1.4]},
        {"parameters": None},
    ],
)
def test_a_map_that_is_none_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="calibration"):
        Calibration.from_json({**PLATT.to_json(), **changes})


def test_an_outcome_keeps_its_calibration_and_its_interval() -> None:
    churn = Outcome(task="binary", classes=("no", "yes"), threshold=0.3, calibration=PLATT)
    price = Outcome(task="regression", interval=Interval(confidence=0.9, reach=2.0))

    assert Outcome.from_json(churn.to_json()) == churn
    assert Outcome.from_json(price.to_json()) == price
    assert churn.calibrated(np.array([0.8])) == PLATT.applied(np.array([0.8]))


def test_an_outcome_of_before_has_neither() -> None:
    assert Outcome.from_json({"task": "regression", "classes": [], "threshold": 0.5}) == Outcome(
        task="regression"
    )


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("regression", {"calibration": PLATT}),
        ("multiclass", {"calibration": PLATT}),
        ("binary", {"calibration": COOL}),
        ("binary", {"interval": Interval(confidence=0.9, reach=2.0)}),
    ],
)
def test_what_belongs_to_another_task_is_refused(task: Any, more: dict[str, Any]) -> None:
    classes = {"regression": (), "binary": ("a", "b"), "multiclass": ("a", "b", "c")}[task]

    with pytest.raises(InvalidInputError):
        Outcome(task=task, classes=classes, **more)
