"""The reference of the steps says what the code does, and its examples are accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from loopwright.prepare.order import read_order, step_kinds
from loopwright.testing.step_reference import USES, recipe_steps_reference

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "recipe-steps.md"


def test_the_reference_of_the_steps_is_what_the_code_says() -> None:
    assert REFERENCE.read_text() == recipe_steps_reference(), (
        "The code has changed. Write the reference again: "
        "python -m loopwright.testing.step_reference > docs/reference/recipe-steps.md"
    )


@pytest.mark.parametrize("name", USES)
def test_every_example_of_a_step_is_accepted(name: str) -> None:
    example = yaml.safe_load(USES[name][1])

    step = read_order(example, place="prepare.steps[0]")

    assert isinstance(step, step_kinds()[name])
