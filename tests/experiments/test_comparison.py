"""Jobs side by side: ranked, the front found, differences told, doubts spoken out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.errors import InvalidInputError
from loopwright.tune.comparison import compared_jobs, differences, value_of, varying_parameters
from loopwright.tune.entry import Entry
from loopwright.tune.latency import Latency


def entry(job: str, rmse: float | None = None, **fields: Any) -> Entry:
    given: dict[str, Any] = {
        "name": f"job-{job}",
        "kind": "training",
        "state": "succeeded",
        "algorithm": "lightgbm",
        "task": "regression",
        "quality": {} if rmse is None else {"rmse": rmse, "r2": 1 - rmse / 10},
        "data": {"validation rows": "sha256:a"},
    }
    return Entry(job=job, **{**given, **fields})


def latency(median_us: float, cpu: str = "one") -> Latency:
    return Latency(median_us=median_us, p99_us=2 * median_us, n_calls=50, cpu=cpu)


def test_the_best_job_comes_first_and_those_without_the_metric_last() -> None:
    found = compared_jobs([entry("a", 3.0), entry("b"), entry("c", 1.0), entry("d", 2.0)])

    assert [each.job for each in found.entries] == ["c", "d", "a", "b"]
    assert (found.metric, found.higher_is_better) == ("rmse", False)


def test_more_is_better_where_the_metric_says_so() -> None:
    found = compared_jobs([entry("a", 3.0), entry("c", 1.0)], metric="r2")

    assert found.higher_is_better
    assert [each.job for each in found.entries] == ["c", "a"]


@pytest.mark.parametrize(
    ("name", "higher"),
    [("validation:auc", True), ("train_loss", False), ("accuracy", True), ("mean_error", False)],
)
def test_the_direction_of_a_scripts_metric_is_told_by_its_name(name: str, higher: bool) -> None:
    found = compared_jobs(
        [entry("a", task="", metrics={name: 0.1}), entry("b", task="", metrics={name: 0.2})]
    )

    assert (found.metric, found.higher_is_better, found.warnings) == (name, higher, ())


def test_a_metric_of_unknown_direction_is_warned_of() -> None:
    found = compared_jobs([entry("a", task="", metrics={"wobble": 0.1})])

    assert "less is taken as better" in found.warnings[0]


def test_a_metric_that_no_job_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidInputError, match="rmse"):
        compared_jobs([entry("a", 1.0)], metric="rmsee")


def test_jobs_without_any_metric_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="has a metric yet"):
        compared_jobs([entry("a"), entry("b")])


def test_the_front_holds_what_no_other_beats_in_both() -> None:
    # b is slower than a and worse; c is the fastest; d as good as a and slower
    entries = [entry("a", 1.0), entry("b", 2.0), entry("c", 3.0), entry("d", 1.0), entry("e", 0.5)]
    times = {"a": latency(10), "b": latency(20), "c": latency(5), "d": latency(11)}

    found = compared_jobs(entries, latencies=times)

    # e has no latency, so nobody knows whether it is on the front
    assert found.front == {"a", "c"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), min_size=1, max_size=12))
def test_every_job_off_the_front_is_beaten_by_one_on_it(pairs: list[tuple[int, int]]) -> None:
    entries = [entry(str(n), float(loss)) for n, (loss, _) in enumerate(pairs)]
    times = {str(n): latency(float(time)) for n, (_, time) in enumerate(pairs)}

    front = compared_jobs(entries, latencies=times).front

    assert front
    for n, (loss, time) in enumerate(pairs):
        beaten = any(
            a <= loss and b <= time and (a, b) != (loss, time)
            for a, b in (pairs[int(each)] for each in front)
        )
        assert beaten != (str(n) in front)


def test_figures_from_different_rows_are_warned_of() -> None:
    found = compared_jobs([entry("a", 1.0), entry("b", 2.0, data={"validation rows": "sha256:b"})])

    assert "2 different sets of validation rows" in found.warnings[0]


def test_latencies_of_different_processors_are_warned_of() -> None:
    times = {"a": latency(1.0), "b": latency(1.0, cpu="other")}

    found = compared_jobs([entry("a", 1.0), entry("b", 2.0)], latencies=times)

    assert found.warnings == ("The latencies were measured on different processors.",)


def test_what_differs_between_two_jobs_is_told_by_section() -> None:
    first = entry(
        "a",
        1.0,
        parameters={"depth": 3, "rate": 0.1},
        seed=1,
        recipe=(("scale", ("x",), ""), ("scale", ("y",), "")),
        code={"commit": "abc"},
        packages={"numpy": "2.0"},
    )
    second = entry(
        "b",
        2.0,
        parameters={"depth": 5, "rate": 0.1, "bins": None},
        seed=1,
        recipe=(("scale", ("x",), ""),),
        code={"commit": "def"},
        packages={"numpy": "2.0"},
        data={"validation rows": "sha256:b"},
    )

    found = differences(first, second)

    assert found["parameters"] == (("bins", "–", "none"), ("depth", "3", "5"))
    assert found["recipe"] == (("scale (2)", "y", "–"),)
    assert found["data"] == (("validation rows", "sha256:a", "sha256:b"),)
    assert found["code"] == (("commit", "abc", "def"),)
    assert found["packages"] == found["job"] == ()


def test_a_job_compared_with_itself_twice_differs_in_nothing() -> None:
    assert not any(differences(entry("a", 1.0), entry("b", 1.0)).values())


def test_parameters_that_differ_within_an_algorithm_come_before_those_between() -> None:
    entries = [
        entry("a", 1.0, parameters={"seeded": 1, "rate": 0.1}),
        entry("b", 1.0, parameters={"seeded": 1, "rate": 0.2}),
        entry("c", 1.0, algorithm="knn", parameters={"seeded": 2, "k": 3}),
    ]

    # k is the same wherever it is known
    assert varying_parameters(entries) == ("rate", "seeded")


def test_a_scripts_metric_is_found_by_its_bare_name() -> None:
    told = entry("a", metrics={"validation:auc": 0.75, "gone": None})

    assert value_of(told, "auc") == 0.75
    assert value_of(told, "gone") is None


@pytest.mark.parametrize("n", [0, 501])
def test_none_and_very_many_jobs_cannot_be_compared(n: int) -> None:
    with pytest.raises(InvalidInputError, match=f"{n} jobs"):
        compared_jobs([entry(str(each), 1.0) for each in range(n)])
