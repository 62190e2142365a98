"""How many workers there should be, look after look."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.scale import Load, Scale, Scaler, checked_scale

SCALE = Scale(least=0, most=3, idle="60 seconds")


def looked(scaler: Scaler, *, at: float, **load: Any) -> int:
    usual: dict[str, Any] = {
        "n_ready": scaler.wanted,
        "busy": 0.0,
        "n_waiting": 0.0,
        "n_asked": 1,
    }
    return scaler.decide(Load(at=at, **(usual | load)))


def test_a_worker_is_added_when_all_are_busy_twice_and_not_while_one_is_starting() -> None:
    scaler = Scaler(SCALE, 1)

    assert looked(scaler, at=0, busy=0.9) == 1
    assert looked(scaler, at=1, busy=0.9) == 2
    assert [looked(scaler, at=at, busy=1.0, n_ready=1) for at in (2, 3, 4)] == [2, 2, 2]
    assert [looked(scaler, at=at, busy=1.9) for at in (5, 6, 7, 8)] == [2, 3, 3, 3]


def test_requests_that_wait_ask_for_a_worker_too() -> None:
    scaler = Scaler(SCALE, 1)

    assert [looked(scaler, at=at, n_waiting=9) for at in (0, 1)] == [1, 2]


def test_a_worker_leaves_after_a_while_in_which_one_fewer_would_do() -> None:
    scaler = Scaler(SCALE, 2)

    for at in range(30):
        assert looked(scaler, at=at, busy=0.3, n_asked=at) == 2
    assert looked(scaler, at=31, busy=0.3, n_asked=31) == 1
    assert looked(scaler, at=90, busy=0.3, n_asked=90) == 1


def test_a_busy_moment_makes_the_while_begin_anew() -> None:
    scaler = Scaler(SCALE, 2)

    for at in range(0, 100, 10):
        assert looked(scaler, at=at, busy=0.3 if at % 20 else 0.6, n_asked=at) == 2


def test_the_last_worker_leaves_when_nobody_asks_and_comes_back_when_somebody_does() -> None:
    scaler = Scaler(SCALE, 1)

    assert [looked(scaler, at=at) for at in (0, 59, 61)] == [1, 1, 0]
    assert looked(scaler, at=62) == 0
    scaler.woken(70)
    assert scaler.wanted == 1
    # it has its time from when it is ready
    assert looked(scaler, at=129, n_ready=0) == 1
    assert looked(scaler, at=135) == 1
    assert looked(scaler, at=200) == 0


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 3),
    st.integers(0, 3),
    st.lists(st.tuples(st.floats(0, 4), st.integers(0, 40), st.booleans()), max_size=40),
)
def test_the_bounds_hold_whatever_the_load(
    least: int, more: int, looks: list[tuple[float, int, bool]]
) -> None:
    scale = Scale(least=least, most=max(1, least + more), idle="3 seconds")
    scaler = Scaler(scale, max(1, least))

    for at, (busy, waiting, asks) in enumerate(looks):
        wanted = looked(scaler, at=at, busy=busy, n_waiting=waiting, n_asked=at if asks else 0)
        assert least <= wanted <= scale.most


@pytest.mark.parametrize(
    "workers",
    [0, 65, Scale(least=3, most=2), Scale(least=-1), Scale(least=0, most=0), Scale(idle="soon")],
)
def test_bounds_that_do_not_fit_are_refused(workers: int | Scale) -> None:
    with pytest.raises(InvalidInputError):
        checked_scale(workers, field="deploy.workers")
