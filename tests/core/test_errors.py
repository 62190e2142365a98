from __future__ import annotations

import pickle

import pytest

from loopwright.core.errors import (
    AlreadyExistsError,
    BackendError,
    InvalidInputError,
    LoopwrightError,
    NotFoundError,
    WrongStateError,
)

FAMILIES = [InvalidInputError, NotFoundError, AlreadyExistsError, WrongStateError, BackendError]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_error_survives_a_process_border(family: type[LoopwrightError]) -> None:
    error = family("No model is named 'chrun'.", hint="Did you mean 'churn'?", name="chrun")

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 our own bytes

    assert type(copy) is family
    assert str(copy) == "No model is named 'chrun'. Did you mean 'churn'?"
    assert copy.facts["name"] == "chrun"


def test_a_backend_error_keeps_whether_it_may_be_tried_again() -> None:
    error = BackendError("The database is busy.", retryable=True)

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 our own bytes

    assert copy.retryable is True
