"""What rows cannot do: how many more would help, and of which kind."""

from __future__ import annotations

import numpy as np
import polars as pl

from loopwright.evaluate import Framing, framing
from loopwright.evaluate.readable import readable_table
from loopwright.evaluate.weak_segment import weak_segments
from loopwright.problem import Criterion, metric_named


def rows(n: int, *, noise: float, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Return rows of which a model can learn most, but for some noise that nothing tells."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 6))
    y = 100 + 8 * np.tanh(X[:, 0]) * X[:, 1] + 5 * np.abs(X[:, 2]) + noise * rng.normal(size=n)
    return pl.DataFrame({f"x{k}": X[:, k] for k in range(6)}), y


def asked(n: int, *, noise: float, mae: float, test: int | None = None) -> Framing:
    frame, y = rows(n, noise=noise)
    n_test = n // 8 if test is None else test
    return framing(
        frame,
        y,
        classes=(),
        criteria=[Criterion(metric="mae", at_most=mae)],
        metrics=[metric_named("mae")],
        confidence=0.95,
        parts={"train": n * 7 // 9, "validation": n * 2 // 9, "test": n_test},
    )


def test_too_few_rows_are_told_how_many_more_would_do() -> None:
    found = asked(300, noise=0.3, mae=1.0)

    assert found.decision == "not_with_this_data"
    shortfall = found.shortfalls[0]
    assert shortfall.why == "too far"
    assert shortfall.more_rows is not None
    # quick models learnt from 4,000 such rows have a mean error near 1.0
    assert 500 <= shortfall.more_rows <= 30_000
    assert f"about {shortfall.more_rows:,} more rows would do" in found.reason


def test_noise_that_no_rows_take_away_is_told_as_such() -> None:
    found = asked(900, noise=6.0, mae=2.0)

    assert found.decision == "not_with_this_data"
    assert found.shortfalls[0].more_rows is None
    assert "more rows of this kind will not do" in found.reason


def test_a_criterion_within_reach_of_a_searched_model_is_worth_a_try() -> None:
    assert asked(900, noise=0.3, mae=2.4).decision == "ml_worth_it"


def test_a_test_part_far_too_small_to_show_the_criterion_is_told_so() -> None:
    found = asked(900, noise=0.3, mae=1.3, test=2)

    assert found.decision == "not_with_this_data"
    assert found.shortfalls[0].why == "cannot be shown"
    assert "cannot be shown on so few test rows" in found.reason


def test_rare_rows_that_are_answered_badly_are_named() -> None:
    rng = np.random.default_rng(1)
    kind = rng.choice(["house", "flat", "castle"], 2_000, p=[0.6, 0.35, 0.05])
    loss = np.where(kind == "castle", 3.0, 1.0) * rng.gamma(2, 0.5, 2_000)
    table = readable_table(pl.DataFrame({"kind": kind, "rooms": rng.integers(1, 9, 2_000)}))

    found = weak_segments(table, loss)

    assert [each.words for each in found] == ["'kind' is 'castle'"]
    assert found[0].n_rows == (kind == "castle").sum()
    assert "times the error of the others" in str(found[0])


def test_rows_answered_alike_name_no_segment() -> None:
    rng = np.random.default_rng(1)
    table = readable_table(pl.DataFrame({f"x{k}": rng.normal(size=1_000) for k in range(20)}))

    assert weak_segments(table, rng.gamma(2, 0.5, 1_000)) == []
