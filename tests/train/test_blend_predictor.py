"""A blend answers the weighted mean of its members, and a hostile one is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.train.blend_predictor import BlendPredictor
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.predictor_file import open_predictor, pack_predictor


def line(*slopes: float, base: float = 0.0, link: Any = "identity") -> LinearPredictor:
    return LinearPredictor(
        coefficients=np.array([slopes], dtype=np.float64),
        intercepts=np.array([base]),
        link=link,
    )


def blend(**changes: Any) -> BlendPredictor:
    parts: dict[str, Any] = {
        "members": (line(1.0, 2.0), line(10.0, base=1.0, link="exp")),
        "spans": ((0, 2), (2, 3)),
        "weights": np.array([0.25, 0.75]),
        "n_features": 3,
    }
    return BlendPredictor(**{**parts, **changes})


def test_the_answer_is_the_weighted_mean_of_the_answers() -> None:
    X = np.array([[1.0, 2.0, 0.1], [0.0, 0.0, 0.0]])

    answers = blend().predict_raw(X)

    # by hand: 0.25 * (1 + 4) + 0.75 * e^(1 + 1); 0.75 * e^1
    np.testing.assert_allclose(answers, [1.25 + 0.75 * np.e**2, 0.75 * np.e], rtol=1e-15)


def test_a_row_alone_gets_the_bits_it_gets_among_others() -> None:
    X = np.random.default_rng(0).normal(size=(50, 3))

    alone = np.concatenate([blend().predict_raw(X[place : place + 1]) for place in range(50)])

    np.testing.assert_array_equal(alone, blend().predict_raw(X))


def test_a_stored_blend_answers_the_same() -> None:
    X = np.random.default_rng(1).normal(size=(20, 3))

    files = pack_predictor(blend())
    read = open_predictor(files["predictor.npz"], files["predictor.json"])

    np.testing.assert_array_equal(read.predict_raw(X), blend().predict_raw(X))


@pytest.mark.parametrize(
    "changes",
    [
        {"members": (), "spans": (), "weights": np.empty(0)},
        {"weights": np.array([0.5, 0.6])},
        {"weights": np.array([1.5, -0.5])},
        {"weights": np.array([np.nan, 1.0])},
        {"weights": np.array([1.0])},
        {"spans": ((0, 2), (2, 4))},
        {"spans": ((0, 2), (1, 3))},
        {"spans": ((-1, 1), (2, 3))},
        {"spans": ((0, 2),)},
        {"link": "sigmoid"},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="cannot be trusted"):
        blend(**changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta["members"].pop(),
        lambda meta: meta["members"][0].update(kind="blend"),
        lambda meta: meta["members"][0].update(kind="pickle"),
        lambda meta: meta.update(members=meta["members"] * 600),
        lambda meta: meta.update(members="ab"),
        lambda meta: meta.update(spans=[[0, 2]]),
        lambda meta: meta.pop("spans"),
    ],
)
def test_a_hostile_file_is_refused(change: Any) -> None:
    files = pack_predictor(blend())
    meta = json.loads(files["predictor.json"])

    change(meta)

    with pytest.raises(InvalidInputError):
        open_predictor(files["predictor.npz"], json.dumps(meta).encode())
