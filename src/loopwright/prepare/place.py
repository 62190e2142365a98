"""Features of where something is, from columns of latitude and longitude."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.prepare.encoding import TargetEncode
from loopwright.prepare.step import Derive, fresh
from loopwright.prepare.value import find_value_type

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_LATITUDE = re.compile(r"(?i)(?:.*_)?lat(?:itude)?")
_LONGITUDE = re.compile(r"(?i)(?:.*_)?(?:lon|lng|long|longitude)")
_CELLS_PER_DEGREE = (500, 200, 100, 50, 20, 10, 5, 2, 1)
_ROWS_PER_CELL = {"area": 60, "neighbourhood": 12}


def find_place(columns: Sequence[pl.Series]) -> tuple[pl.Series, pl.Series] | None:
    """Return the latitude and longitude, if there is one of each by name and by values."""
    latitudes = [c for c in columns if _LATITUDE.fullmatch(c.name) and _within(c, 90.0)]
    longitudes = [c for c in columns if _LONGITUDE.fullmatch(c.name) and _within(c, 180.0)]
    if len(latitudes) != 1 or len(longitudes) != 1:
        return None
    return latitudes[0], longitudes[0]


def _within(column: pl.Series, most: float) -> bool:
    if find_value_type(column.dtype) != "number" or column.drop_nulls().n_unique() < 2:
        return False
    return bool(column.drop_nulls().cast(pl.Float64).abs().max() <= most)  # type: ignore[operator]


def place_steps(
    latitude: pl.Series, longitude: pl.Series, *, taken: Sequence[str], per_class: bool
) -> list[Derive | TargetEncode]:
    """Return the steps that give every row the mean target of the cells of a map it lies in.

    The cells of two grids are as small as they can be with 60 and 12 training rows in one on
    average, so they fit a town as well as a continent.
    """
    north, east = written(latitude.name), written(longitude.name)
    names: list[str] = []
    steps: list[Derive | TargetEncode] = []
    for what, n_rows in _ROWS_PER_CELL.items():
        scale = _scale(latitude, longitude, n_rows)
        names.append(fresh(what, [*taken, *names]))
        steps.append(
            Derive(
                name=names[-1],
                expression=f"floor({north} * {scale}) * 1000000 + floor({east} * {scale})",
                reason=f"a map cut into cells of 1/{scale} degree, about {n_rows} rows or more each",
            )
        )
    steps.append(
        TargetEncode(
            columns=tuple(names),
            per_class=per_class,
            reason="what lies close together tends to be alike",
        )
    )
    return steps


def _scale(latitude: pl.Series, longitude: pl.Series, rows_per_cell: int) -> int:
    table = pl.DataFrame({"north": latitude, "east": longitude}).drop_nulls()
    for scale in _CELLS_PER_DEGREE:
        cells = table.select((pl.all().cast(pl.Float64) * scale).floor()).n_unique()
        if table.height / max(cells, 1) >= rows_per_cell:
            return scale
    return _CELLS_PER_DEGREE[-1]


def written(name: str) -> str:
    """Return how an expression names a column."""
    plain = name.isidentifier() and not keyword.iskeyword(name)
    return name if plain else f"column({name!r})"
