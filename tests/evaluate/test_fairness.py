"""Groups are compared with care: bounds, not values, decide, and few rows decide nothing."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.evaluate.fairness import (
    FairnessReading,
    fairness,
    protected_groups,
)
from loopwright.problem import FairnessLimit, class_answers, metric_named, value_answers

MAIN = metric_named("accuracy")


def chosen(groups: dict[str, tuple[int, int]]) -> tuple[pl.DataFrame, np.ndarray]:
    """Return rows of some groups, of which so many have a probability above a half."""
    names, said = [], []
    for name, (n_rows, n_chosen) in groups.items():
        names += [name] * n_rows
        said += [0.9] * n_chosen + [0.1] * (n_rows - n_chosen)
    return pl.DataFrame({"sex": names}), np.array(said)


def read(
    groups: dict[str, tuple[int, int]], limit: FairnessLimit, y: np.ndarray | None = None
) -> FairnessReading:
    frame, said = chosen(groups)
    truth = (said > 0.5).astype(float) if y is None else y
    return fairness(frame, truth, class_answers(said), [limit], task="binary", main=MAIN)[0]


def test_groups_have_their_rates_with_bounds() -> None:
    found = read(
        {"f": (200, 80), "m": (300, 150)},
        FairnessLimit(column="sex", metric="selection_rate", at_most_gap=0.3),
    )

    rates = {
        group.name: {figure.metric: figure for figure in group.figures} for group in found.groups
    }
    assert rates["f"]["selection_rate"].value == pytest.approx(0.4)
    assert rates["m"]["selection_rate"].value == pytest.approx(0.5)
    lower, upper = (rates["f"]["selection_rate"].lower, rates["f"]["selection_rate"].upper)
    assert lower is not None
    assert upper is not None
    assert lower < 0.4 < upper
    assert rates["f"]["false_positive_rate"].value == 0.0
    assert [group.share for group in found.groups] == [0.6, 0.4]


def test_a_gap_inside_the_limit_holds_only_when_its_bound_does() -> None:
    limit = FairnessLimit(column="sex", metric="selection_rate", at_most_gap=0.2)

    few, many = (read({"f": (n, n // 5 * 2), "m": (n, n // 2)}, limit) for n in (50, 2_000))

    assert few.limits[0].gap == many.limits[0].gap == pytest.approx(0.1)
    assert (few.holds, many.holds) == (False, True)
    assert "may be as large as" in few.limits[0].reason


def test_the_four_fifths_rule_goes_by_the_least_group_over_the_greatest() -> None:
    limit = FairnessLimit(column="sex", metric="selection_rate", at_least_ratio=0.8)

    fair = read({"f": (3_000, 1_350), "m": (3_000, 1_500)}, limit).limits[0]
    unfair = read({"f": (3_000, 900), "m": (3_000, 1_500)}, limit).limits[0]

    assert fair.ratio == pytest.approx(0.9)
    assert fair.holds
    assert (unfair.low, unfair.high, unfair.ratio) == ("f", "m", pytest.approx(0.6))
    assert not unfair.holds


def test_bounds_of_a_gap_are_those_of_square_and_add() -> None:
    limit = FairnessLimit(column="sex", metric="selection_rate", at_most_gap=0.5)
    found = read({"f": (100, 40), "m": (100, 60)}, limit)

    low, high = (group.figures[0] for group in sorted(found.groups, key=lambda g: g.name))
    assert low.lower is not None
    assert high.upper is not None
    reach = math.hypot(high.upper - 0.6, 0.4 - low.lower)
    assert found.limits[0].gap_upper == pytest.approx(0.2 + reach)


def test_the_upper_bound_of_a_gap_is_seldom_below_the_truth() -> None:
    rng = np.random.default_rng(0)
    limit = FairnessLimit(column="sex", metric="selection_rate", at_most_gap=1.0)
    n_below = 0
    for _ in range(80):
        f, m = rng.binomial(150, 0.3), rng.binomial(150, 0.45)
        upper = read({"f": (150, int(f)), "m": (150, int(m))}, limit).limits[0].gap_upper
        n_below += upper is not None and upper < 0.15

    # 5 % may be; 80 draws of a true 5 % give more than 11 less than once in five hundred times
    assert n_below <= 11


def test_a_group_with_few_rows_is_shown_and_judged_by_nothing() -> None:
    limit = FairnessLimit(column="sex", metric="selection_rate", at_most_gap=0.2)

    found = read({"f": (1_000, 500), "m": (1_000, 500), "x": (10, 0)}, limit)

    assert [group.is_judged for group in found.groups] == [True, True, False]
    assert found.limits[0].gap == 0.0
    assert found.remarks == ("Fewer than 30 rows, so no limit can be held against: x.",)


def test_a_limit_that_nothing_can_show_does_not_hold() -> None:
    limit = FairnessLimit(column="sex", metric="recall", at_most_gap=0.2)

    found = read({"f": (500, 0), "m": (500, 100)}, limit)

    # nobody in the first group is positive, so that nothing is known of it
    assert not found.limits[0].holds
    assert "fewer than two groups" in found.limits[0].reason


def test_errors_of_a_regression_can_be_compared() -> None:
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({"age": np.repeat([20.0, 40.0, 70.0], 400)})
    y = rng.normal(100, 10, 1_200)
    answers = value_answers(y + rng.normal(0, 1, 1_200) * np.repeat([1, 1, 5], 400))
    limit = FairnessLimit(column="age", metric="mae", at_most_gap=1.0, cuts=(30.0, 60.0))

    found = fairness(frame, y, answers, [limit], task="regression", main=metric_named("mae"))[0]

    assert [group.name for group in found.groups] == ["below 30", "30 to below 60", "60 and more"]
    assert (found.limits[0].high, found.limits[0].holds) == ("60 and more", False)


def test_groups_are_named_counted_and_cut() -> None:
    frame = pl.DataFrame(
        {
            "flag": [True, False, None, True],
            "code": [1, 0, 0, 0],
            "many": [f"level {k}" for k in range(4)],
            "age": [10.0, None, float("nan"), 50.0],
        }
    )

    assert protected_groups(frame, "flag")[0] == ["true", "false", "missing"]
    assert protected_groups(frame, "code")[0] == ["0", "1"]
    names, of_row = protected_groups(frame, "age", cuts=(30.0,))
    assert (names, of_row.tolist()) == (["below 30", "30 and more", "missing"], [0, 2, 2, 1])


def test_many_levels_leave_the_rarest_together() -> None:
    levels = [f"{k:02}" for k in range(40) for _ in range(50 - k)]

    names, of_row = protected_groups(pl.DataFrame({"town": levels}), "town")

    assert len(names) == 21
    assert names[-1] == "all others"
    assert np.bincount(of_row)[-1] == sum(50 - k for k in range(20, 40))


def test_a_column_that_is_not_there_is_named() -> None:
    limit = FairnessLimit(column="sexx", metric="selection_rate", at_most_gap=0.2)

    with pytest.raises(InvalidInputError, match="no column of the data"):
        read({"f": (40, 20)}, limit)


def test_a_reading_survives_being_stored() -> None:
    limit = FairnessLimit(column="sex", metric="selection_rate", at_most_gap=0.2)
    found = read({"f": (100, 40), "m": (100, 60), "x": (3, 1)}, limit)

    assert FairnessReading.from_json(found.to_json()) == found
