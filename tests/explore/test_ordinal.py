from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopwright.explore import profile, profile_page
from loopwright.explore.ordinal import is_graded, word_order


@pytest.mark.parametrize(
    "values",
    [
        ["Low", "medium", "HIGH"],
        ["Fair", "Good", "Very Good", "Premium", "Ideal"],
        ["Strongly disagree", "Disagree", "Neutral", "Agree", "Strongly agree"],
        ["Very_Poor", "Poor", "Below_Average", "Good"],
        ["XS", "S", "M", "L", "XL"],
    ],
)
def test_words_of_a_known_scale_are_put_in_order(values: list[str]):
    assert word_order(sorted(values)) == tuple(values)


@pytest.mark.parametrize(
    "values",
    [
        ["low", "high"],
        ["low", "Low", "high"],
        ["red", "green", "blue"],
        ["low", "high", "Kent"],
        [],
    ],
)
def test_other_words_have_no_order(values: list[str]):
    assert word_order(values) == ()


@pytest.mark.parametrize(
    ("name", "low", "high", "n_distinct", "expected"),
    [
        ("grade", 1, 13, 12, True),
        ("OverallQual", 1, 10, 10, True),
        ("condition", 1, 5, 5, True),
        ("bedrooms", 0, 11, 12, False),
        ("month", 1, 12, 12, False),
        ("grade", 0, 100, 90, False),
        ("grade", 1, 13, 5, False),
        ("score", -1, 5, 7, False),
        ("q12", 1, 5, 5, True),
    ],
)
def test_whole_numbers_are_grades_by_name_and_steps(
    name: str, low: int, high: int, n_distinct: int, expected: bool
):
    assert is_graded(name, low=low, high=high, n_distinct=n_distinct) is expected


def test_an_ordinal_column_goes_with_the_target_in_its_own_order():
    rng = np.random.default_rng(0)
    level = rng.integers(0, 3, 600)
    frame = pl.DataFrame(
        {
            # the order of the alphabet is high, low, medium
            "risk": [("low", "medium", "high")[n] for n in level],
            "grade": level + 1,
            "loss": level + rng.normal(scale=0.3, size=600),
        }
    )

    result = profile(frame, target="loss")

    risk, grade = result.column("risk"), result.column("grade")
    assert (risk.kind, grade.kind) == ("ordinal", "ordinal")
    assert risk.order == ("low", "medium", "high")
    assert risk.association == grade.association
    assert risk.association is not None
    assert risk.association.measure == "|Spearman|"
    told = [f.evidence for f in result.findings if f.kind == "ordinal" and f.column == "risk"]
    assert told == ["Its values have an order: low < medium < high."]
    assert [f.column for f in result.findings if f.kind == "near_duplicate"] == ["grade"]
    assert "low &lt; medium &lt; high" in profile_page(result)
