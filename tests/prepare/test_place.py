from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from loopwright.prepare import Recipe, fit_recipe
from loopwright.prepare.expression import parse_expression
from loopwright.prepare.place import find_place, place_steps, written

_RNG = np.random.default_rng(1)
NORTH = pl.Series("lat", _RNG.uniform(47, 48, size=1_000))
EAST = pl.Series("geo long", _RNG.uniform(-123, -122, size=1_000))


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("lat", "long"), True),
        (("Latitude", "Longitude"), True),
        (("home_lat", "home_lng"), True),
        (("lat", "length"), False),
        (("flat", "long"), False),
    ],
)
def test_a_place_is_known_by_its_names(names: tuple[str, str], found: bool) -> None:
    columns = [NORTH.rename(names[0]), EAST.rename(names[1])]

    assert (find_place(columns) is not None) is found


def test_numbers_beyond_the_globe_are_no_place() -> None:
    assert find_place([NORTH * 10, EAST.rename("long")]) is None


def test_cells_are_small_but_hold_enough_rows() -> None:
    area, neighbourhood, _ = place_steps(NORTH, EAST, taken=["area"], per_class=False)

    # 1,000 rows over one square degree: 4 cells hold 250 each, 25 hold 40 each
    assert area.expression == "floor(lat * 2) * 1000000 + floor(column('geo long') * 2)"  # type: ignore[union-attr]
    assert neighbourhood.expression.startswith("floor(lat * 5)")  # type: ignore[union-attr]
    assert (area.name, neighbourhood.name) == ("area_2", "neighbourhood")  # type: ignore[union-attr]


def test_rows_of_one_cell_share_its_mean() -> None:
    frame = pl.DataFrame([NORTH, EAST])
    target = (NORTH > 47.5).to_numpy().astype(float)
    steps = tuple(place_steps(NORTH, EAST, taken=[], per_class=False))

    fitted, _ = fit_recipe(Recipe(steps), frame, target, seed=0)
    found = fitted.transform(frame)[:, fitted.feature_names.index("area_target_mean")]

    assert found[target == 1].min() > 0.9
    assert found[target == 0].max() < 0.1


@pytest.mark.parametrize("name", ["size", "a b", "if", "it's", 'a"b', "é", "x\ny", "column"])
def test_any_name_can_be_written_in_an_expression(name: str) -> None:
    found = parse_expression(f"{written(name)} * 2", {name: "number"})

    assert found.evaluate({name: 2}) == 4.0
