from __future__ import annotations

import pytest

from loopwright.monitor.bullet import metric_words, told_value
from loopwright.problem import METRIC_EXAMPLES, METRICS


@pytest.mark.parametrize("name", [*METRICS, *METRIC_EXAMPLES])
def test_every_metric_has_words_for_people_who_do_not_know_its_name(name: str) -> None:
    assert metric_words(name) != name


def test_a_number_in_the_name_stands_in_the_words() -> None:
    assert metric_words("absolute_error_of_90_percent") == (
        "error that 90% of the answers stay within"
    )
    assert metric_words("top_3_accuracy") == "cases whose class is among the first 3"


@pytest.mark.parametrize(
    ("metric", "value", "told"),
    [
        ("specificity", 0.875, "87.5%"),
        ("precision_at_top_10_percent", 0.5, "50%"),
        ("top_3_accuracy", 0.95, "95%"),
        ("absolute_error_of_90_percent", 23_456.7, "23,457"),
        ("lift_in_top_decile", 3.25, "3.25"),
        ("profit_per_case", -2.5, "-2.5"),
    ],
)
def test_shares_are_told_as_percentages_and_nothing_else_is(
    metric: str, value: float, told: str
) -> None:
    assert told_value(metric, value) == told
