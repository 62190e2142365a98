"""What can be searched, and what is refused with the name of what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.train import ALGORITHMS, get_algorithm
from loopwright.tune.space import DEFAULT_SPACES, Range, checked_space, distributions


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_every_algorithm_has_a_space_of_its_own_inside_what_it_allows(name: str) -> None:
    algorithm = get_algorithm(name)

    space = checked_space(algorithm, None)

    assert set(space) == set(DEFAULT_SPACES[name])
    given = {
        key: values if isinstance(values, Range) else list(values) for key, values in space.items()
    }
    assert checked_space(algorithm, given) == space


def test_two_numbers_are_the_ends_of_a_range_and_more_are_the_values_to_try() -> None:
    space = checked_space(
        get_algorithm("lightgbm"),
        {"num_leaves": [8, 64], "max_bin": [63, 127, 255], "boosting": ["gbdt", "goss"]},
    )

    assert space == {
        "num_leaves": Range(low=8, high=64),
        "max_bin": (63, 127, 255),
        "boosting": ("gbdt", "goss"),
    }


def test_a_hyperparameter_goes_by_its_other_names_too() -> None:
    space = checked_space(get_algorithm("xgboost"), {"eta": [0.01, 0.1], "num_round": [10, 30]})

    assert set(space) == {"learning_rate", "rounds"}
    with pytest.raises(InvalidInputError, match="stands there twice"):
        checked_space(get_algorithm("xgboost"), {"eta": [0.01, 0.1], "learning_rate": [0.1, 0.2]})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"num_leafs": [2, 4]}, "num_leafs"),
        ({"num_leaves": [64, 8]}, "no range"),
        ({"num_leaves": [8, 8]}, "no range"),
        ({"num_leaves": [0, 8]}, "reaches to 0"),
        ({"learning_rate": Range(low=0.0, high=0.1, log=True)}, "no logarithm"),
        ({"learning_rate": Range(low=0.1, high=7.0)}, "reaches to 7"),
        ({"learning_rate": [float("nan"), 0.1]}, "no range"),
        ({"boosting": ["gbdt", "dart"]}, "names 'dart'"),
        ({"boosting": Range(low=0, high=1)}, "is a word"),
        ({"max_bin": []}, "0 values"),
        ({"recipe.encodings": ["target"]}, "no choice"),
        ({"recipe.encoding": ["one_hot"]}, "names 'one_hot'"),
        ({"recipe.texts": []}, "no list"),
    ],
)
def test_a_space_that_contradicts_itself_or_the_algorithm_is_refused(
    given: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInputError, match=says) as caught:
        checked_space(get_algorithm("lightgbm"), given)

    assert str(caught.value.facts["field"]).startswith("space.")
    assert caught.value.hint


def test_whole_numbers_are_searched_as_whole_numbers() -> None:
    algorithm = get_algorithm("lightgbm")

    found = distributions(algorithm, checked_space(algorithm, None))

    assert type(found["num_leaves"]).__name__ == "IntDistribution"
    assert type(found["learning_rate"]).__name__ == "FloatDistribution"


def test_choices_about_the_recipe_stand_beside_hyperparameters() -> None:
    algorithm = get_algorithm("lightgbm")

    space = checked_space(
        algorithm, {"recipe.encoding": ["ordinal", "target"], "num_leaves": [8, 64]}
    )

    assert space["recipe.encoding"] == ("ordinal", "target")
    assert type(distributions(algorithm, space)["recipe.encoding"]).__name__ == (
        "CategoricalDistribution"
    )
