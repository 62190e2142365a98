"""A recipe: ordered steps from raw rows to features, fitted once and applied everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.catalogue import AnyFittedStep, AnyStep, step_name
from loopwright.prepare.feature_file import changed, open_table, write_features
from loopwright.prepare.line import Line, lines_html, lines_of, place_of, without_line
from loopwright.prepare.order import BY_YOU
from loopwright.prepare.step import Derive, Drop, Types
from loopwright.prepare.value import ValueType, read_columns

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

_BLOCK_ROWS = 4_096
_PART_ROWS = 131_072
_RECIPE_FORMAT = "loopwright.recipe/1"
_FITTED_FORMAT = "loopwright.fitted-recipe/1"


class Refusal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A suggestion that a person refused for one column, why, and the step taken instead."""

    step: str
    column: str
    reason: str
    instead: str | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to do with the columns of a table, in this order; every step says why.

    Parameters
    ----------
    steps
        In the order in which they are done.
    refusals
        What was suggested and a person did not want; kept for the record.
    """

    steps: tuple[AnyStep, ...]
    refusals: tuple[Refusal, ...] = ()

    def explain(self) -> list[tuple[str, tuple[str, ...], str]]:
        """Return the name, the columns and the reason of each step, then what was refused."""
        return [*_explained(self.steps), *self._refused()]

    def _refused(self) -> list[tuple[str, tuple[str, ...], str]]:
        return [
            (
                f"no {refusal.step}",
                (refusal.column,),
                refusal.reason + (f"; {refusal.instead} instead" if refusal.instead else ""),
            )
            for refusal in self.refusals
        ]

    def lines(self) -> tuple[Line, ...]:
        """Return a line for each step, with the id under which `without` and `with_` know it."""
        return lines_of(self.steps)

    def without(self, line: str, *columns: str) -> Recipe:
        """Return the recipe without a line, or without some columns of it.

        Parameters
        ----------
        line
            The id of the line, such as `scale` or `drop-2`.
        columns
            Only these columns are left out; all of them when absent.

        Raises
        ------
        InvalidInputError
            If there is no such line or column.
        """
        return replace(self, steps=without_line(self.steps, line, columns))

    def with_(self, step: AnyStep, *, before: str | None = None) -> Recipe:
        """Return the recipe with another step: before the line of that id, else at the end.

        Raises
        ------
        InvalidInputError
            If there is no such line.
        """
        at = len(self.steps) if before is None else place_of(self.steps, before)
        said = step if step.reason else msgspec.structs.replace(step, reason=BY_YOU)
        return replace(self, steps=(*self.steps[:at], said, *self.steps[at:]))

    def to_json(self) -> str:
        """Return the recipe as JSON."""
        refusals = {"refusals": self.refusals} if self.refusals else {}
        return _written(_RECIPE_FORMAT, {"steps": self.steps, **refusals})

    @classmethod
    def from_json(cls, text: str | bytes) -> Recipe:
        """Return the recipe that `to_json` wrote.

        Raises
        ------
        InvalidInputError
            If the text is no recipe, or of a format this release does not know.
        """
        found = _read(text, _RECIPE_FORMAT, _RecipeFile)
        return cls(found.steps, found.refusals)

    def _repr_html_(self) -> str:
        return lines_html(self.lines(), self._refused())


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedRecipe:
    """A recipe with everything it learned; gives the same features for a table and for one row.

    Parameters
    ----------
    steps
        The fitted steps.
    inputs
        The columns that a table or a request must hold, and what they store.
    today
        The date `today()` gave in training; None if no step asks.
    """

    steps: tuple[AnyFittedStep, ...]
    inputs: Mapping[str, ValueType]
    today: date | None = None
    feature_names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        types: Types = self.inputs
        for step in self.steps:
            absent = [name for name in step.columns if name not in types]
            if absent and not isinstance(step, Drop):
                raise KeyError(absent[0])
            types = step.types_after(types)
        object.__setattr__(self, "feature_names", tuple(types))

    @property
    def uses_today(self) -> bool:
        """Whether a feature depends on the day it is computed."""
        return self.today is not None

    def transform(self, frame: pl.DataFrame, *, today: date | None = None) -> np.ndarray:
        """Return the features of a table, float64, (n_rows, n_features); missing is NaN.

        One pass over the input columns. `today` is what `today()` gives; by default the date of
        training, so that a table gives the same features on every day.

        Raises
        ------
        InvalidInputError
            If an input column is not there or stores something else.
        """
        read_columns(frame, self.inputs)
        read = frame.select(list(self.inputs))
        if read.height <= _PART_ROWS:
            return matrix(self.transform_lazily(read.lazy(), today=today).collect())
        # in parts, so that the features are never held twice
        found = np.empty((read.height, len(self.feature_names)))
        parts = changed(
            read.iter_slices(_PART_ROWS),
            read.schema,
            lambda part: self.transform_lazily(part, today=today),
        )
        for at, part in enumerate(parts):
            _write_columns(part, found[at * _PART_ROWS :])
        return found

    def transform_lazily(self, table: pl.LazyFrame, *, today: date | None = None) -> pl.LazyFrame:
        """Return the plan of the features of a lazy table; nothing is computed yet.

        Its columns are the features, numbers and booleans; missing is null.

        Raises
        ------
        InvalidInputError
            If an input column is not there or stores something else.
        """
        types: Types = self.inputs
        header = pl.DataFrame(schema=table.collect_schema())
        table = table.select(e.alias(name) for name, e in read_columns(header, types).items())
        for step in self.steps:
            table = step.apply(table, types, today=today or self.today)
            types = step.types_after(types)
        return table.select(self.feature_names)

    def transform_batches(
        self, frames: Iterable[pl.DataFrame], *, today: date | None = None
    ) -> Iterator[np.ndarray]:
        """Give the features of one table after the other; see `transform`."""
        for frame in frames:
            yield self.transform(frame, today=today)

    def transform_file(
        self,
        source: pl.LazyFrame | Path | str,
        out: Path | str,
        *,
        batch_rows: int = 100_000,
        today: date | None = None,
    ) -> int:
        """Write the features of any number of rows to a Parquet file and return how many rows.

        The rows stream through in bounded memory. The file holds what `transform` returns, to the
        last bit: float64 columns named as the features, missing is NaN. It appears when it is
        whole.

        Parameters
        ----------
        source
            A lazy table, or the path of a Parquet file.
        batch_rows
            Rows in one group of the file, at least 1.

        Raises
        ------
        InvalidInputError
            If an input column is not there or stores something else, or there is no such file.
        """
        self.transform_lazily(open_table(source), today=today)
        return write_features(
            source,
            list(self.inputs),
            lambda batch: self.transform_lazily(batch, today=today),
            Path(out),
            batch_rows=batch_rows,
        )

    def explain(self) -> list[tuple[str, tuple[str, ...], str]]:
        """Return the name, the columns and the reason of each step."""
        return _explained(self.steps)

    def to_json(self) -> str:
        """Return the fitted recipe as JSON; every float reads back as the same float."""
        today = self.today.isoformat() if self.today else None
        values = {"steps": self.steps, "inputs": list(self.inputs.items()), "today": today}
        return _written(_FITTED_FORMAT, values)

    @classmethod
    def from_json(cls, text: str | bytes) -> FittedRecipe:
        """Return the fitted recipe that `to_json` wrote.

        Raises
        ------
        InvalidInputError
            If the text is no fitted recipe, or of a format this release does not know.
        """
        file = _read(text, _FITTED_FORMAT, _FittedFile)
        try:
            return cls(steps=file.steps, inputs=dict(file.inputs), today=file.today)
        except (KeyError, ValueError) as cause:
            raise InvalidInputError(
                f"The stored recipe does not hold together: {cause!r}.",
                hint="Fit the recipe again, or restore the file.",
            ) from cause

    def _repr_html_(self) -> str:
        return lines_html(lines_of(self.steps), ())


def matrix(table: pl.DataFrame) -> np.ndarray:
    """Return the columns as float64, (n_rows, n_columns); what is missing or infinite is NaN."""
    found = np.empty((table.height, table.width))
    _write_columns(table, found)
    return found


def _write_columns(table: pl.DataFrame, found: np.ndarray) -> None:
    # Polars gives NaN for what is missing
    columns = [column.cast(pl.Float64).to_numpy() for column in table.iter_columns()]
    # rows in blocks that stay in the processor's cache while the columns are written
    for start in range(0, table.height, _BLOCK_ROWS):
        block = found[start : start + _BLOCK_ROWS]
        for at, column in enumerate(columns):
            block[:, at] = column[start : start + _BLOCK_ROWS]
        # what overflowed on the way is missing
        block[np.isinf(block)] = np.nan


class _RecipeFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    steps: tuple[AnyStep, ...]
    refusals: tuple[Refusal, ...] = ()


class _FittedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    steps: tuple[AnyFittedStep, ...]
    inputs: tuple[tuple[str, ValueType], ...]
    today: date | None = None


def _written(format_: str, values: Mapping[str, Any]) -> str:
    return json.dumps(msgspec.to_builtins({"format": format_, **values}), ensure_ascii=False)


def _read(text: str | bytes, format_: str, file: Any) -> Any:
    try:
        found = msgspec.json.decode(text, type=_Format).format
        if found == format_:
            return msgspec.json.decode(text, type=file)
    except msgspec.MsgspecError as cause:
        raise InvalidInputError(
            f"This is not a stored recipe: {cause}.",
            hint="Fit the recipe again, or restore the file.",
            expected=format_,
        ) from cause
    raise InvalidInputError(
        f"The recipe is stored as {found[:80]!r}; this release reads {format_!r}.",
        hint="Use the release that wrote it, or fit the recipe again.",
        value=found,
        expected=format_,
    )


class _Format(msgspec.Struct, frozen=True):
    format: str


def _explained(
    steps: Sequence[AnyStep | AnyFittedStep],
) -> list[tuple[str, tuple[str, ...], str]]:
    return [
        (step_name(s), (s.name,) if isinstance(s, Derive) else s.columns, s.reason) for s in steps
    ]
