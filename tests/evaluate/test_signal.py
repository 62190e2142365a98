"""Whether there is anything to learn: found where there is, and seldom where there is not."""

from __future__ import annotations

import numpy as np
import pytest

from loopwright.evaluate.layout import Layout
from loopwright.evaluate.signal import N_PERMUTATIONS, Signal, signal_of


def table(n: int = 240, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4))


def asked(X: np.ndarray, y: np.ndarray, n_classes: int = 0, **more: object) -> Signal:
    given: dict[str, object] = {"layout": Layout(), "seed": 1}
    return signal_of(X, y, [], n_classes=n_classes, **(given | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("n_classes", [0, 2, 3])
def test_a_target_that_a_column_tells_has_a_signal(n_classes: int) -> None:
    X = table()
    y = X[:, 0] + 0.7 * np.random.default_rng(5).normal(size=len(X))
    if n_classes:
        y = np.digitize(y, np.quantile(y, np.arange(1, n_classes) / n_classes)).astype(float)

    found = asked(X, y, n_classes)

    assert found.found
    assert found.n_permutations == N_PERMUTATIONS
    assert found.p_value == pytest.approx((1 + found.n_as_good) / (1 + N_PERMUTATIONS))
    assert found.gain > 0


def test_a_signal_is_seldom_found_where_there_is_none() -> None:
    rng = np.random.default_rng(11)

    n_found = sum(asked(table(60, seed), rng.normal(size=60)).found for seed in range(12))

    # 0.6 of 12 expected at the level of one in twenty; 4 or more in one run of five hundred
    assert n_found <= 3


def test_what_is_without_a_signal_is_settled_early() -> None:
    found = asked(table(), np.random.default_rng(2).normal(size=240))

    assert not found.found
    assert found.n_as_good == 10
    assert found.n_permutations < N_PERMUTATIONS
    assert found.p_value == found.n_as_good / found.n_permutations


def test_answers_that_are_right_beyond_doubt_need_no_shuffling() -> None:
    X = table()

    found = signal_of(X, X[:, 0], [X[:, 0] + 0.1 * X[:, 1]], n_classes=0, layout=Layout(), seed=0)

    assert found.found
    assert found.n_permutations == 0
    assert "beyond doubt" in str(found)


def test_outliers_decide_nothing() -> None:
    X = table()
    y = np.random.default_rng(3).standard_cauchy(240) ** 3

    assert not asked(X, y).found


def test_groups_that_share_a_column_and_a_target_by_chance_are_no_signal() -> None:
    # each of 12 groups has its own level in the column and in the target: 240 rows, 12 facts
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(12), 20)
    found = []
    for seed in range(4):
        draw = np.random.default_rng(seed)
        X = draw.normal(size=12)[codes][:, None] + 0.01 * draw.normal(size=(240, 1))
        y = rng.normal(size=12)[codes] + 0.01 * rng.normal(size=240)
        found.append(asked(X, y, layout=Layout(by="group", codes=codes)).found)

    assert sum(found) <= 1


def test_a_target_that_wanders_in_time_is_no_signal_for_a_column_that_wanders_too() -> None:
    draw = np.random.default_rng(7)
    layout = Layout(by="time", codes=np.arange(300))

    def walk() -> np.ndarray:
        noise = draw.normal(size=300)
        return np.convolve(noise, np.ones(8), mode="same")

    n_found = sum(asked(walk()[:, None], walk(), layout=layout).found for _ in range(4))

    assert n_found <= 1


def test_the_same_seed_gives_the_same_answer() -> None:
    y = np.random.default_rng(2).normal(size=240)

    assert asked(table(), y) == asked(table(), y)
