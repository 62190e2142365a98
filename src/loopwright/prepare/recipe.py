"""A recipe: ordered steps from raw rows to features, fitted once and applied everywhere."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.encoding import (
    FittedEncoding,
    Frequency,
    Ordinal,
    TargetEncode,
)
from loopwright.prepare.one_hot import FittedOneHot, OneHot
from loopwright.prepare.scaling import (
    Clip,
    FittedClip,
    FittedImpute,
    FittedScale,
    Impute,
    Log1p,
    Scale,
)
from loopwright.prepare.step import DateParts, Derive, Drop, Training, Types
from loopwright.prepare.value import ValueType, find_value_type, read_columns, value_types

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

AnyStep = (
    Drop
    | Derive
    | DateParts
    | Impute
    | Log1p
    | Clip
    | Scale
    | OneHot
    | Ordinal
    | Frequency
    | TargetEncode
)
AnyFittedStep = (
    Drop
    | Derive
    | DateParts
    | FittedImpute
    | Log1p
    | FittedClip
    | FittedScale
    | FittedOneHot
    | FittedEncoding
)

_RECIPE_FORMAT = "loopwright.recipe/1"
_FITTED_FORMAT = "loopwright.fitted-recipe/1"


def step_name(step: AnyStep | AnyFittedStep) -> str:
    """Return what a step is called: `drop`, `one_hot`, ..."""
    return step.kind if isinstance(step, FittedEncoding) else str(step.__struct_config__.tag)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to do with the columns of a table, in this order; every step says why."""

    steps: tuple[AnyStep, ...]

    def explain(self) -> list[tuple[str, tuple[str, ...], str]]:
        """Return the name, the columns and the reason of each step."""
        return _explained(self.steps)

    def to_json(self) -> str:
        """Return the recipe as JSON."""
        return _written(_RECIPE_FORMAT, {"steps": self.steps})

    @classmethod
    def from_json(cls, text: str | bytes) -> Recipe:
        """Return the recipe that `to_json` wrote.

        Raises
        ------
        InvalidInputError
            If the text is no recipe, or of a format this release does not know.
        """
        return cls(_read(text, _RECIPE_FORMAT, _RecipeFile).steps)

    def _repr_html_(self) -> str:
        return _table(self.explain())


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
        types: Types = self.inputs
        read = [e.alias(name) for name, e in read_columns(frame, types).items()]
        table = frame.lazy().select(read)
        for step in self.steps:
            table = step.apply(table, types, today=today or self.today)
            types = step.types_after(types)
        return _matrix(table.select(self.feature_names).collect())

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
        return _table(self.explain())


def fit_recipe(
    recipe: Recipe,
    frame: pl.DataFrame,
    target: np.ndarray | None,
    *,
    seed: int,
    today: date | None = None,
) -> tuple[FittedRecipe, np.ndarray]:
    """Return the fitted recipe, and the features to train with, float64, (n_rows, n_features).

    The features to train with equal ``fitted.transform(frame)`` except for target encodings, where
    each row gets what the other folds know.

    Parameters
    ----------
    frame
        The training rows only, without the target; at least one.
    target
        One value per row, on the scale that is trained (the logarithm of a price if that is what
        the algorithm sees), or the labels of classes.
    seed
        Decides the folds.
    today
        The date that `today()` gives: that of the snapshot, so that the fit can be repeated.

    Raises
    ------
    InvalidInputError
        If a step cannot be done, or a column would be left that is not a number.
    """
    if not frame.height or (target is not None and len(target) != frame.height):
        raise InvalidInputError(
            f"The table has {frame.height} rows, the target {0 if target is None else len(target)}.",
            hint="Fit on at least one row, with one target value for each.",
        )
    stored = value_types(frame)
    unreadable = _unreadable(recipe, frame)
    types: Types = stored
    table = frame.select(e.alias(name) for name, e in read_columns(frame, types).items())
    steps: list[AnyFittedStep] = []
    uses_today = False
    for step in recipe.steps:
        training = Training(
            table=table,
            types=types,
            target=target,
            seed=seed,
            today=today,
            unreadable=unreadable,
            source=frozenset(stored),
        )
        fitted = step.fit(training)
        changed = fitted.apply(table.lazy(), types, today=today).collect()
        if isinstance(step, TargetEncode) and isinstance(fitted, FittedEncoding):
            made = step.out_of_fold(training, fitted)
            changed = changed.with_columns(pl.Series(n, values) for n, values in made.items())
        uses_today |= isinstance(step, Derive) and step.parsed(types).uses_today
        types = fitted.types_after(types)
        table = changed.select(list(types))
        steps.append(fitted)
    _check_features(types)
    return FittedRecipe(
        steps=tuple(steps),
        inputs=_inputs(steps, stored, types),
        today=today if uses_today else None,
    ), _matrix(table)


def _unreadable(recipe: Recipe, frame: pl.DataFrame) -> tuple[str, ...]:
    """Return the columns no step can read, all of which the recipe must drop."""
    dropped = {name for step in recipe.steps if isinstance(step, Drop) for name in step.columns}
    found = [name for name, dtype in frame.schema.items() if find_value_type(dtype) is None]
    for name in found:
        if name not in dropped:
            raise InvalidInputError(
                f"Column {name!r} holds {frame.schema[name]} values, which no step can read.",
                hint="Drop it, or turn it into numbers, text or dates first.",
                field=name,
                value=str(frame.schema[name]),
            )
    return tuple(found)


def _inputs(steps: Sequence[AnyFittedStep], stored: Types, left: Types) -> dict[str, ValueType]:
    """Return the columns that are read: all but those that are only dropped."""
    used = {name for step in steps if not isinstance(step, Drop) for name in step.columns}
    return {name: kind for name, kind in stored.items() if name in used or name in left}


def _check_features(types: Types) -> None:
    for name, kind in types.items():
        if kind not in ("number", "boolean"):
            raise InvalidInputError(
                f"After the last step the column {name!r} still holds {kind} values.",
                hint="Drop it, or encode it as numbers (one_hot, target_encode, date_parts).",
                field=name,
                value=kind,
            )
    if not types:
        raise InvalidInputError(
            "The recipe leaves no feature.", hint="Keep at least one column to predict from."
        )


def _matrix(table: pl.DataFrame) -> np.ndarray:
    columns = table.select(pl.all().cast(pl.Float64).fill_null(float("nan")))
    matrix = np.empty((table.height, table.width))
    for at, column in enumerate(columns.iter_columns()):
        matrix[:, at] = column.to_numpy()
    # what overflowed on the way is missing
    matrix[np.isinf(matrix)] = np.nan
    return matrix


class _RecipeFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    steps: tuple[AnyStep, ...]


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


def _table(rows: Sequence[tuple[str, tuple[str, ...], str]]) -> str:
    head = "<tr><th>step</th><th>columns</th><th>reason</th></tr>"
    body = "".join(
        "<tr>"
        + "".join(
            f'<td style="text-align:left">{html.escape(cell)}</td>'
            for cell in (step, ", ".join(columns), reason)
        )
        + "</tr>"
        for step, columns, reason in rows
    )
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
