from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import (
    Interact,
    Recipe,
    fit_recipe,
)


def features(frame: pl.DataFrame, *steps: Any) -> tuple[tuple[str, ...], list[list[float]]]:
    fitted, found = fit_recipe(Recipe(steps), frame, None, seed=0)
    return fitted.feature_names, found.tolist()


FRAME = pl.DataFrame({"a": [6.0, 1.0, 1e200], "b": [2.0, 0.0, 1e200], "c": [1.0, None, 3.0]})


def test_every_pair_is_combined_in_order() -> None:
    names, found = features(FRAME, Interact(columns=("a", "b", "c")))

    assert names[3:] == ("a*b", "a*c", "b*c")
    assert found[0][3:] == [12.0, 6.0, 2.0]


def test_a_division_by_zero_and_what_is_too_large_are_missing() -> None:
    _, ratios = features(FRAME, Interact(columns=("a", "b"), by="ratio"))
    _, products = features(FRAME, Interact(columns=("a", "b")))

    assert ratios[0][3] == 3.0
    assert np.isnan(ratios[1][3])
    assert np.isnan(products[2][3])


def test_one_column_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="two columns or more"):
        features(FRAME, Interact(columns=("a",)))
