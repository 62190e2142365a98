"""Fitting a recipe: on a table in memory, or on one that memory does not hold."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.prepare.catalogue import AnyFittedStep
from loopwright.prepare.encoding import TargetEncode
from loopwright.prepare.feature_file import n_rows, open_table, write_features
from loopwright.prepare.lazy_table import LazyTable, beside
from loopwright.prepare.recipe import FittedRecipe, Recipe, matrix
from loopwright.prepare.selection import DropPersonal
from loopwright.prepare.step import Derive, Drop, Training, TrainingTable, Types
from loopwright.prepare.value import ValueType, find_value_type, read_columns, value_types

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

_BATCH_ROWS = 100_000

Settle = Callable[["pl.LazyFrame", Mapping[str, "np.ndarray"], Types], TrainingTable]
"""Returns the table after a step, some columns replaced by what only training rows get."""


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

    def settle(changed: pl.LazyFrame, made: Mapping[str, np.ndarray], types: Types) -> pl.DataFrame:
        own = changed.select(name for name in types if name not in made).collect(engine="in-memory")
        replaced = [pl.Series(name, values) for name, values in made.items()]
        # a table without columns of its own has no height to keep
        return (own.with_columns(replaced) if own.width else pl.DataFrame(replaced)).select(
            list(types)
        )

    table = frame.select(e.alias(name) for name, e in _read(recipe, frame).items())
    fitted, settled = _fit_steps(recipe, frame, table, target, settle, seed=seed, today=today)
    return fitted, matrix(settled.lazy().collect(engine="in-memory"))


def fit_recipe_lazily(
    recipe: Recipe,
    source: pl.LazyFrame | Path | str,
    target: np.ndarray | str | None,
    *,
    seed: int,
    today: date | None = None,
    features: Path | None = None,
) -> FittedRecipe:
    """Return the recipe fitted on a table that memory need not hold; the same as `fit_recipe` gives.

    Columns are read from the source one at a time, each when a step asks for it, so memory holds
    one column (8 bytes a row), the target, and what the step makes of it. Steps that compare
    columns (KNN, correlations, importance) read a sample. What a target encoding gives training
    rows waits in a temporary file.

    Parameters
    ----------
    source
        A lazy table that gives its rows in the same order each time, or the path of a Parquet
        file. It is read once for each column that steps look at.
    target
        The column of the source to predict, or its values.
    features
        Where to write the features to train with, as Parquet; see `FittedRecipe.transform_file`.

    Raises
    ------
    InvalidInputError
        If a step cannot be done, or a column would be left that is not a number.
    """
    table = open_table(source)
    header = pl.DataFrame(schema=table.collect_schema())
    if isinstance(target, str):
        if target not in header.columns:
            raise InvalidInputError(
                f"The table has no column {target!r} to predict.",
                hint=did_you_mean(target, header.columns),
                field=target,
            )
        values = table.select(target).collect(engine="streaming")[target].to_numpy()
        table, header, target = table.drop(target), header.drop(target), values
    height = n_rows(table)
    by_step: list[Mapping[str, np.ndarray]] = []
    with tempfile.TemporaryDirectory(prefix="loopwright-fit-") as folder:

        def keep(made: np.ndarray) -> np.ndarray:
            # pages of a file, which the system drops when memory is short
            path = Path(folder) / f"{len(list(Path(folder).iterdir()))}.npy"
            np.save(path, made)
            pages: np.ndarray = np.load(path, mmap_mode="r")
            return pages

        def settle(
            changed: pl.LazyFrame, made: Mapping[str, np.ndarray], types: Types
        ) -> LazyTable:
            by_step.append(made)
            if made:
                own = changed.select(name for name in types if name not in made)
                changed = beside(own, made, height)
            return LazyTable(changed.select(list(types)), height)

        read = table.select(e.alias(n) for n, e in _read(recipe, header).items())
        fitted, _ = _fit_steps(
            recipe,
            header,
            LazyTable(read, height),
            target,
            settle,
            seed=seed,
            today=today,
            keep=keep,
        )
        if features is not None:
            # batch by batch through all steps: a plan over tables beside tables, as the steps
            # leave it, would be read far ahead of what is written
            write_features(
                table if isinstance(source, pl.LazyFrame) else source,
                list(fitted.inputs),
                lambda batch: _settled(fitted, batch, by_step, today),
                features,
                batch_rows=_BATCH_ROWS,
                made={
                    _kept(at, name): values
                    for at, made in enumerate(by_step)
                    for name, values in made.items()
                },
            )
    return fitted


def _kept(step: int, name: str) -> str:
    """Return the name under which what a step made for training rows goes with the table."""
    return f"\0{step}:{name}"


def _settled(
    fitted: FittedRecipe,
    table: pl.LazyFrame,
    by_step: Sequence[Mapping[str, np.ndarray]],
    today: date | None,
) -> pl.LazyFrame:
    """Return the features of training rows, which bring along what steps made for them."""
    types: Types = fitted.inputs
    kept = [_kept(at, name) for at, made in enumerate(by_step) for name in made]
    header = pl.DataFrame(schema=table.collect_schema())
    read = read_columns(header, types)
    table = table.select(*(e.alias(name) for name, e in read.items()), *kept)
    for at, (step, made) in enumerate(zip(fitted.steps, by_step, strict=True)):
        table = step.apply(table, types, today=today)
        types = step.types_after(types)
        replaced = (pl.col(_kept(at, n)).alias(n) if n in made else pl.col(n) for n in types)
        table = table.select(*replaced, *kept)
    return table.select(fitted.feature_names)


def _read(recipe: Recipe, header: pl.DataFrame) -> dict[str, pl.Expr]:
    _unreadable(recipe, header)
    return read_columns(header, value_types(header))


def _fit_steps(
    recipe: Recipe,
    header: pl.DataFrame,
    table: TrainingTable,
    target: np.ndarray | None,
    settle: Settle,
    *,
    seed: int,
    today: date | None,
    keep: Callable[[np.ndarray], np.ndarray] = lambda made: made,
) -> tuple[FittedRecipe, TrainingTable]:
    """Return the fitted recipe and the features of the training rows."""
    if not table.height or (target is not None and len(target) != table.height):
        raise InvalidInputError(
            f"The table has {table.height} rows, the target {0 if target is None else len(target)}.",
            hint="Fit on at least one row, with one target value for each.",
        )
    stored = value_types(header)
    unreadable = _unreadable(recipe, header)
    types: Types = stored
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
        fitted: AnyFittedStep
        made: Mapping[str, np.ndarray] = {}
        if isinstance(step, TargetEncode):
            fitted, made = step.fit_out_of_fold(training, keep=keep)
        else:
            fitted = step.fit(training)
        uses_today |= isinstance(step, Derive) and step.parsed(types).uses_today
        changed = fitted.apply(table.lazy(), types, today=today)
        types = fitted.types_after(types)
        table = settle(changed, made, types)
        steps.append(fitted)
    _check_features(types)
    return FittedRecipe(
        steps=tuple(steps),
        inputs=_inputs(steps, stored, types),
        today=today if uses_today else None,
    ), table


def _unreadable(recipe: Recipe, frame: pl.DataFrame) -> tuple[str, ...]:
    """Return the columns no step can read, all of which the recipe must drop."""
    drops = (step for step in recipe.steps if isinstance(step, Drop | DropPersonal))
    dropped = {name for step in drops for name in step.columns}
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
