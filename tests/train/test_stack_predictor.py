"""A stack answers from both of its layers, row by row as in a table, and a hostile one is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.predictor_file import open_predictor, pack_predictor
from loopwright.train.stack_predictor import StackPredictor


def line(*slopes: float, base: float = 0.0) -> LinearPredictor:
    return LinearPredictor(
        coefficients=np.array([slopes], dtype=np.float64), intercepts=np.array([base])
    )


def stack(**changes: Any) -> StackPredictor:
    parts: dict[str, Any] = {
        "members": (line(1.0), line(3.0), line(1.0, 1.0)),
        "spans": ((0, 1), (0, 1), (1, 3)),
        "groups": np.array([0, 0, 1], dtype=np.int32),
        "n_heard": 2,
        "uppers": (line(1.0, 10.0, 100.0),),
        "upper_spans": ((2, 3),),
        "weights": np.array([0.25, 0.0, 0.25, 0.5]),
        "n_features": 3,
    }
    return StackPredictor(**{**parts, **changes})


def test_the_upper_layer_hears_the_mean_of_each_group() -> None:
    X = np.array([[1.0, 2.0, 3.0]])

    answers = stack().predict_raw(X)

    # by hand: the groups say (1 + 3) / 2 = 2 and 2 + 3 = 5; the upper one 3 + 10 * 2 + 100 * 5 = 523
    assert answers.tolist() == [0.25 * 1 + 0.25 * 5 + 0.5 * 523]


def test_a_group_that_is_not_heard_still_counts() -> None:
    X = np.array([[1.0, 2.0, 3.0]])

    answers = stack(n_heard=1, uppers=(line(1.0, 10.0),)).predict_raw(X)

    assert answers.tolist() == [0.25 * 1 + 0.25 * 5 + 0.5 * 23]


def test_a_row_alone_gets_the_bits_it_gets_among_others() -> None:
    X = np.random.default_rng(0).normal(size=(50, 3))

    alone = np.concatenate([stack().predict_raw(X[place : place + 1]) for place in range(50)])

    np.testing.assert_array_equal(alone, stack().predict_raw(X))


def test_every_class_is_heard() -> None:
    lower = LinearPredictor(coefficients=np.array([[1.0], [2.0]]), intercepts=np.array([0.0, 1.0]))
    upper = LinearPredictor(
        coefficients=np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), intercepts=np.zeros(2)
    )

    said = StackPredictor(
        members=(lower,),
        spans=((0, 1),),
        groups=np.zeros(1, dtype=np.int32),
        n_heard=1,
        uppers=(upper,),
        upper_spans=((0, 1),),
        weights=np.array([0.0, 1.0]),
        n_features=1,
    ).predict_raw(np.array([[3.0]]))

    assert said.tolist() == [[3.0, 7.0]]


def test_a_stored_stack_answers_the_same() -> None:
    X = np.random.default_rng(1).normal(size=(20, 3))

    files = pack_predictor(stack())
    read = open_predictor(files["predictor.npz"], files["predictor.json"])

    np.testing.assert_array_equal(read.predict_raw(X), stack().predict_raw(X))


@pytest.mark.parametrize(
    "changes",
    [
        {"members": (), "spans": (), "groups": np.empty(0, dtype=np.int32)},
        {"uppers": (), "upper_spans": ()},
        {"weights": np.array([0.25, 0.0, 0.25, 0.6])},
        {"weights": np.array([np.nan, 0.0, 0.5, 0.5])},
        {"weights": np.array([1.0])},
        {"groups": np.array([0, 2, 2], dtype=np.int32)},
        {"groups": np.array([1, 1, 2], dtype=np.int32)},
        {"groups": np.array([0, 1, 0], dtype=np.int32)},
        {"groups": np.array([0, 0, 1])},
        {"n_heard": 0},
        {"n_heard": 3},
        {"n_heard": 1},
        {"spans": ((0, 1), (0, 1), (1, 4))},
        {"upper_spans": ((2, 4),)},
        {"upper_spans": ((-1, 0),)},
        {"uppers": (line(1.0),)},
        {"link": "exp"},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="cannot be trusted"):
        stack(**changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta["members"].pop(),
        lambda meta: meta["members"][0].update(kind="blend"),
        lambda meta: meta["members"][-1].update(kind="stack"),
        lambda meta: meta.update(members=meta["members"] * 600),
        lambda meta: meta.update(upper_spans=[]),
        lambda meta: meta.update(n_heard="two"),
        lambda meta: meta.pop("n_heard"),
    ],
)
def test_a_stored_stack_that_was_tampered_with_is_refused(change: Any) -> None:
    files = pack_predictor(stack())
    meta = json.loads(files["predictor.json"])
    change(meta)

    with pytest.raises(InvalidInputError):
        open_predictor(files["predictor.npz"], json.dumps(meta).encode())
