"""What a tuning job tries, ends and when it has seen enough, without a server."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.tuning_search import (
    Search,
    Tried,
    best,
    falls_behind,
    is_enough,
    leaves_rung,
    not_improving,
    seed_of,
)
from loopwright.sagemaker.tuning_space import Parameter, grid, parameters_of


def ranges(**groups: list[dict[str, object]]) -> tuple[Parameter, ...]:
    return parameters_of(
        {f"{name.capitalize()}ParameterRanges": group for name, group in groups.items()}
    )


def one(low: str, high: str, kind: str = "continuous", **more: object) -> Parameter:
    return ranges(**{kind: [{"Name": "x", "MinValue": low, "MaxValue": high, **more}]})[0]


def search(*parameters: Parameter, strategy: str = "Bayesian", maximizes: bool = False) -> Search:
    return Search(name="s", parameters=parameters, strategy=strategy, maximizes=maximizes, seed=5)


@pytest.mark.parametrize(
    ("group", "wanted"),
    [
        ({"MinValue": "2", "MaxValue": "1"}, "greater than"),
        ({"MinValue": "nan", "MaxValue": "1"}, "is no continuous value"),
        ({"MinValue": "a", "MaxValue": "1"}, "is no continuous value"),
        ({"MinValue": "0", "MaxValue": "1", "ScalingType": "Logarithmic"}, "above 0"),
        ({"MinValue": "0", "MaxValue": "1", "ScalingType": "ReverseLogarithmic"}, "below 1"),
    ],
)
def test_a_range_that_cannot_be_searched_is_refused(group: dict[str, str], wanted: str) -> None:
    with pytest.raises(ApiError, match=wanted):
        ranges(continuous=[{"Name": "x", **group}])


def test_a_name_stands_once_and_at_least_one_does() -> None:
    same = {"Name": "x", "MinValue": "0", "MaxValue": "1"}
    with pytest.raises(ApiError, match="more than one range"):
        ranges(continuous=[same], integer=[same])
    with pytest.raises(ApiError, match="At least one"):
        parameters_of({})
    with pytest.raises(ApiError, match="integer value"):
        one("0.5", "2", "integer")


def test_wide_ranges_are_searched_by_their_logarithm_unless_told() -> None:
    assert one("0.001", "1").scaling == "Logarithmic"
    assert one("0.1", "1").scaling == "Linear"
    assert one("0.001", "1", ScalingType="Linear").scaling == "Linear"


@settings(max_examples=30, deadline=None)
@given(
    ends=st.tuples(st.floats(0.0, 0.99), st.floats(0.0, 0.99)).map(sorted),
    share=st.floats(0.0, 1.0),
)
def test_a_reversed_value_comes_back_as_it_was(ends: list[float], share: float) -> None:
    low, high = ends
    parameter = one(repr(low), repr(high), ScalingType="ReverseLogarithmic")
    inner = (1 - high) + share * (high - low)

    text = parameter.text(inner)

    assert low <= float(text) <= high
    assert parameter.value(text) == pytest.approx(inner, abs=1e-12)


def test_the_next_follows_from_the_seed_and_what_is_known() -> None:
    parameters = ranges(
        continuous=[{"Name": "x", "MinValue": "0", "MaxValue": "1"}],
        integer=[{"Name": "n", "MinValue": "1", "MaxValue": "9"}],
        categorical=[{"Name": "c", "Values": ["a", "b"]}],
    )
    known = [Tried(texts={"x": "0.5", "n": "3", "c": "a"}, value=1.0, has_ended=True)]

    first = search(*parameters).next(known)

    assert first == search(*parameters).next(known)
    assert 0 <= float(first["x"]) <= 1
    assert 1 <= int(first["n"]) <= 9
    assert first["c"] in "ab"
    assert first != search(*parameters).next([*known, *known])


def test_bayesian_search_learns_where_random_search_does_not() -> None:
    x = one("0", "1")

    def found(strategy: str) -> list[float]:
        tried: list[Tried] = []
        for _ in range(40):
            texts = search(x, strategy=strategy).next(tried)
            value = (float(texts["x"]) - 0.3) ** 2
            tried.append(Tried(texts=texts, value=value, has_ended=True))
        return [abs(float(each.texts["x"]) - 0.3) for each in tried[20:]]

    assert sum(found("Bayesian")) < 0.5 * sum(found("Random"))


def test_what_earlier_searches_found_is_learnt_from_and_other_ranges_are_left_out() -> None:
    x = one("0", "1")
    earlier = [
        Tried(texts={"x": repr(i / 20)}, value=abs(i / 20 - 0.8), has_ended=True) for i in range(20)
    ]
    elsewhere = [Tried(texts={"x": "7"}, value=0.0, has_ended=True)]

    warm = [
        float(search(x).next([Tried(texts={"x": "0.1"})] * i, earlier=[*earlier, *elsewhere])["x"])
        for i in range(8)
    ]

    assert sum(abs(each - 0.8) for each in warm) / 8 < 0.25


def test_a_grid_is_every_combination_once() -> None:
    parameters = ranges(
        categorical=[{"Name": "a", "Values": ["1", "2"]}, {"Name": "b", "Values": ["x", "y", "z"]}]
    )
    tried: list[Tried] = []
    for _ in range(6):
        tried.append(Tried(texts=search(*parameters, strategy="Grid").next(tried)))

    assert [dict(each.texts) for each in tried] == list(grid(parameters))
    assert len({tuple(each.texts.values()) for each in tried}) == 6


def test_a_job_below_the_median_of_running_averages_falls_behind() -> None:
    # averages of the first two values: 2, 3, 4; their median is 3
    others = [(1.0, 3.0, 9.0), (2.0, 4.0), (3.0, 5.0)]

    assert falls_behind((9.0, 2.9), others, maximizes=True)
    assert not falls_behind((0.0, 3.0), others, maximizes=True)
    assert falls_behind((0.0, 3.1), others, maximizes=False)
    # of three values: 13 / 3, and 3 and 4 of those that ended after two
    assert falls_behind((9.0, 9.0, 3.9), others, maximizes=True)
    assert not falls_behind((0.0, 0.0, 4.1), others, maximizes=True)
    assert not falls_behind((0.0,), others[:2], maximizes=True)
    assert not falls_behind((), others, maximizes=True)


def test_one_in_three_goes_beyond_a_rung() -> None:
    others = [(0.5,), (0.6,), (0.7,), (0.8,), (0.9,)]

    def stays(value: float, n: int = 1, least: int = 1, most: int = 81) -> bool:
        curve = (value,) * n
        return not leaves_rung(curve, others, maximizes=True, least=least, most=most)

    assert [stays(value) for value in (0.95, 0.85, 0.75, 0.1)] == [True, True, False, False]
    assert stays(0.1, least=2)  # no rung yet
    assert stays(0.1, n=3)  # at the second rung, where nobody else is
    assert stays(0.1, most=1)  # as far as any goes


def test_the_best_is_counted_from() -> None:
    values = [0.5, None, 0.9, 0.7, None, 0.9]

    assert best(values, maximizes=True) == 2
    assert best(values, maximizes=False) == 0
    assert best([None], maximizes=True) is None
    assert not_improving(values, maximizes=True) == 2


def test_criteria_of_completion() -> None:
    improving = {"BestObjectiveNotImproving": {"MaxNumberOfTrainingJobsNotImproving": 3}}

    assert is_enough({"TargetObjectiveMetricValue": 0.9}, [0.5, 0.95], maximizes=True)
    assert not is_enough({"TargetObjectiveMetricValue": 0.9}, [0.5, 0.8], maximizes=True)
    assert is_enough({"TargetObjectiveMetricValue": 0.4}, [0.5, 0.3], maximizes=False)
    assert is_enough(improving, [0.9, 0.1, 0.2, 0.3], maximizes=True)
    assert not is_enough(improving, [0.1, 0.9, 0.2, 0.3], maximizes=True)
    assert not is_enough({}, [0.1] * 50, maximizes=True)
    assert not is_enough({"TargetObjectiveMetricValue": 0.0}, [None], maximizes=True)


def test_seeds_differ_by_name_and_can_be_given() -> None:
    assert seed_of(7, "a") == seed_of(7, "b") == 7
    assert len({seed_of(None, name) for name in "abcdef"}) == 6
    assert all(a != b for a, b in pairwise(seed_of(None, name) for name in "abc"))
