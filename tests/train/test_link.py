"""Links turn scores into answers without overflow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from loopwright.core.errors import InvalidInputError
from loopwright.train.link import checked_link, linked


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e308, 1e308), min_size=1, max_size=20))
def test_sigmoid_agrees_with_scipy(scores: list[float]) -> None:
    column = np.array(scores)[:, None]

    assert linked(column, "sigmoid") == pytest.approx(expit(column), rel=1e-14, abs=1e-300)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4), min_size=1, max_size=9))
def test_softmax_agrees_with_scipy_and_adds_to_one(scores: list[list[float]]) -> None:
    answers = linked(np.array(scores), "softmax")

    assert answers == pytest.approx(softmax(np.array(scores), axis=1), rel=1e-12, abs=1e-300)
    assert answers.sum(axis=1) == pytest.approx(1.0)


def test_exp_stays_finite() -> None:
    answers = linked(np.array([[0.0], [1.0], [1e9], [-1e9]]), "exp")

    assert answers[:2, 0].tolist() == [1.0, math.e]
    assert np.isfinite(answers).all()


def test_an_unknown_link_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Did you mean 'sigmoid'"):
        checked_link("sigmoyd")
