"""Segments where a model is worse are found, and chance makes none."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import false_discovery_control

from loopwright.evaluate import compare, guarded, worse_segments
from loopwright.evaluate.condition import conditions_on
from loopwright.evaluate.segment import adjusted, segment_readings
from loopwright.problem import class_answers, metric_named, value_answers


def table(n: int = 2_000, seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    days = rng.integers(0, 1_000, n).tolist()
    return pl.DataFrame(
        {
            "town": rng.choice(["Aa", "Bee", "Cod"], n),
            "plan": rng.choice(["free", "paid"], n),
            "age": rng.uniform(18, 90, n),
            "rooms": rng.integers(1, 5, n),
            "since": [date(2020, 1, 1) + timedelta(days=day) for day in days],
            "note": [f"text {i}" for i in range(n)],
            "income": pl.Series(rng.lognormal(0, 1, n)).set(pl.Series(rng.random(n) < 0.1), None),
        }
    )


def losses(frame: pl.DataFrame, where: Any, more: float, seed: int = 1) -> Any:
    held = frame.select(where)[:, 0].to_numpy()
    return np.random.default_rng(seed).exponential(1.0, frame.height) * np.where(held, more, 1.0)


def test_a_segment_of_one_condition_is_found() -> None:
    frame = table()

    found, n_tried = worse_segments(frame, losses(frame, pl.col("town") == "Bee", 2.0))

    assert found[0].text == "town is 'Bee'"
    assert found[0].q_value < 1e-6
    assert n_tried > 100
    assert np.array_equal(found[0].holds(frame), (frame["town"] == "Bee").to_numpy())


def test_a_segment_of_two_conditions_is_found() -> None:
    frame = table()
    where = (pl.col("plan") == "free") & (pl.col("town") == "Aa")

    found, _ = worse_segments(frame, losses(frame, where, 3.0))

    texts = [set(each.text.split(" and ")) for each in found]
    assert {"plan is 'free'", "town is 'Aa'"} in texts


def test_rows_with_a_missing_value_are_a_segment() -> None:
    frame = table()

    found, _ = worse_segments(frame, losses(frame, pl.col("income").is_null(), 3.0))

    assert found[0].text == "income is missing"


def test_chance_makes_segments_seldom() -> None:
    n_false = 0
    for seed in range(12):
        frame = table(600, seed)
        n_false += bool(worse_segments(frame, losses(frame, pl.lit(True), 1.0, seed))[0])

    # the false discovery rate is 5 %: of twelve tables two at most, but for ill luck
    assert n_false <= 2


def test_rows_that_are_not_independent_make_fewer_segments() -> None:
    frame = table(600)
    loss = losses(frame, pl.col("town") == "Bee", 2.0)

    alone, grouped = (worse_segments(frame, loss, variation=each)[0] for each in (1.0, 10.0))

    assert alone
    assert not grouped


@pytest.mark.parametrize("frame", [pl.DataFrame({"a": [1.0] * 80}), pl.DataFrame({"a": [1, 2]})])
def test_a_table_without_segments_has_none(frame: pl.DataFrame) -> None:
    assert worse_segments(frame, np.ones(frame.height)) == ([], 0)


def test_conditions_divide_the_rows_and_leave_free_text_alone() -> None:
    frame = table()

    found = conditions_on(frame, min_rows=30, most=120)

    by_column = {name: [c for c in found if c.column == name] for name in frame.columns}
    for name in ("town", "plan", "age", "rooms", "since", "income"):
        held = sum(each.holds(frame).astype(int) for each in by_column[name])
        assert (held == 1).all(), name
    assert not by_column["note"]
    assert any("2020" in each.text or "2021" in each.text for each in by_column["since"])


def test_q_values_are_those_of_scipy() -> None:
    p = np.random.default_rng(4).random(50) ** 3

    assert adjusted(p) == pytest.approx(false_discovery_control(p))


def test_a_named_segment_is_measured_beside_all_other_rows() -> None:
    frame = table()
    y = frame["age"].to_numpy()
    mask = (frame["town"] == "Aa").to_numpy()
    said = value_answers(y + np.where(mask, 5.0, 1.0))

    (found,) = segment_readings(
        frame,
        y,
        said,
        metric=metric_named("mae"),
        found=(),
        named={"the coast": ('town == "Aa"', mask)},
        confidence=0.95,
    )

    assert (found.value, found.difference) == (pytest.approx(5.0), pytest.approx(4.0))
    assert found.named
    assert found.is_worse
    assert found.n_rows == mask.sum()


@pytest.mark.parametrize("metric", ["roc_auc", "recall"])
def test_labels_that_are_constant_in_a_segment_are_said_and_break_nothing(metric: str) -> None:
    frame = table(300)
    mask = (frame["town"] == "Aa").to_numpy()
    y = np.where(mask, 0.0, np.arange(300) % 2)
    answers = class_answers(np.random.default_rng(0).random(300))

    constant, empty = segment_readings(
        frame,
        y,
        answers,
        metric=metric_named(metric),
        found=(),
        named={"coast": ("", mask), "nobody": ("", np.zeros(300, dtype=bool))},
        confidence=0.95,
    )

    assert "of one class" in constant.remark
    assert (constant.value, constant.is_worse) == (None, False)
    assert (empty.remark, empty.value) == ("no rows", None)


def test_a_challenger_must_be_shown_to_be_no_worse_in_every_guarded_segment() -> None:
    rng = np.random.default_rng(5)
    y = rng.uniform(10, 20, 1_200)
    old = value_answers(y + rng.normal(0, 1, 1_200))
    third = np.arange(1_200) % 3
    new = value_answers(y + (old.values - y) * np.where(third == 0, 1.3, 0.7))
    segments = {f"part {k}": third == k for k in range(3)}
    segments["few"] = np.arange(1_200) < 20
    metric = metric_named("mae")

    found = guarded(metric, y, champion=old, challenger=new, segments=segments, margin=0.05)

    assert compare(metric, y, champion=old, challenger=new).is_better
    assert [each.not_worse for each in found] == [False, True, True, None]
    assert found[0].gain == pytest.approx(found[0].champion * -0.3, rel=0.01)
