"""What each row is worth: the payoff of a loop file, computed for the rows it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.loop.sourcing import Target
from loopwright.prepare import value_types
from loopwright.prepare.expression import Expression, parse_expression
from loopwright.prepare.value import read_columns
from loopwright.problem import (
    OUTCOMES,
    Problem,
    amounts,
    check_line,
    check_outcomes,
    is_per_row,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt
    import polars as pl

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")


def row_money(problem: Problem, target: Target, frame: pl.DataFrame) -> Array | None:
    """Return what each row earns by its true class and the class said; see `Answers.money`.

    None where nothing is earned, and where there are two classes and plain numbers, which the
    metrics know themselves. NaN where a column of the amount is missing in the row.

    Parameters
    ----------
    problem, target
        The payoff and the classes.
    frame
        Rows with the columns that the payoff names, `n_rows`.
    """
    payoff = problem.payoff
    if not payoff or not target.classes:
        return None
    if len(target.classes) == 2 and not is_per_row(payoff):
        return None
    table = amounts(payoff, target.classes)
    texts = list(dict.fromkeys(each for line in table for each in line if isinstance(each, str)))
    if not texts:
        fixed = np.asarray(table, dtype=np.float64)
        return np.broadcast_to(fixed, (frame.height, *fixed.shape))
    computed = {text: _computed(text, frame) for text in texts}
    money = np.empty((frame.height, len(table), len(table)))
    for true, line in enumerate(table):
        for said, amount in enumerate(line):
            money[:, true, said] = computed[amount] if isinstance(amount, str) else amount
    return money


def can_be_counted(problem: Problem, columns: Iterable[str]) -> bool:
    """Return whether rows with these columns tell what they are worth."""
    known = set(columns)
    return all(set(each.columns) <= known for each in _expressions(problem, None).values())


def money_columns(problem: Problem) -> list[str]:
    """Return the columns that the amounts of a payoff name, sorted."""
    return sorted({name for each in _expressions(problem, None).values() for name in each.columns})


def checked_payoff_columns(problem: Problem, target: Target, columns: Iterable[str]) -> None:
    """Check that a payoff names only columns and classes there are.

    Raises
    ------
    InvalidInputError
        With the key, the column and the nearest right one.
    """
    if not problem.payoff:
        return
    if target.classes:
        amounts(problem.payoff, target.classes)
    known = [name for name in columns if name != target.column]
    for key, expression in _expressions(problem, known).items():
        if expression.uses_today:
            raise InvalidInputError(
                f"{key} asks for today(), so the same rows would be worth something else tomorrow.",
                hint="Name a column with the day the row is about.",
                field=key,
                value=expression.text,
            )


def checked_worth(problem: Problem, target: Target, rows: pl.LazyFrame) -> None:
    """Check what the rows are worth: known for every row, and with signs that make sense.

    Parameters
    ----------
    rows
        All rows of the snapshot.

    Raises
    ------
    InvalidInputError
        If an amount is missing in some rows, or right answers earn less than wrong ones on average.
    """
    if not is_per_row(problem.payoff):
        return
    used = {name for each in _expressions(problem, None).values() for name in each.columns}
    chosen = [name for name in rows.collect_schema().names() if name in used]
    known = rows.filter(pl.col(target.column).is_not_null())
    frame = known.select(*chosen, target.column).collect()
    money = row_money(problem, target, frame)
    if money is None:
        return
    if n_unknown := int((~np.isfinite(money)).any(axis=(1, 2)).sum()):
        raise InvalidInputError(
            f"problem.payoff cannot be computed for {n_unknown:,} of {frame.height:,} rows: a column "
            "it names is missing there.",
            hint="Say what stands for it, such as coalesce(yearly_value, 0).",
            field="problem.payoff",
            value=n_unknown,
        )
    means = money.mean(axis=0)
    if len(means) == 2:
        earned = {name: float(means[true, said]) for name, (true, said) in OUTCOMES.items()}
        check_outcomes(earned, of=f", on average over {frame.height:,} rows")
        return
    for place, name in enumerate(target.classes):
        check_line(name, dict(zip(target.classes, map(float, means[place]), strict=True)))


def _expressions(problem: Problem, columns: list[str] | None) -> dict[str, Expression]:
    """Return the amounts that are expressions, by their key, over these columns or any."""
    found: dict[str, Expression] = {}
    for name, line in (problem.payoff or {}).items():
        inner: Mapping[str, Any] = line if isinstance(line, Mapping) else {"": line}
        for said, amount in inner.items():
            if not isinstance(amount, str):
                continue
            key = f"problem.payoff.{name}" + (f".{said}" if said else "")
            known = _AnyColumn() if columns is None else dict.fromkeys(columns, "unknown")
            try:
                found[key] = parse_expression(amount, known)  # type: ignore[arg-type]
            except InvalidInputError as error:
                raise InvalidInputError(
                    f"{key}: {error.message}", hint=error.hint, **{**error.facts, "field": key}
                ) from error
    return found


class _AnyColumn(dict[str, str]):
    """Columns of unknown types, whatever their names."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "unknown"


def _computed(text: str, frame: pl.DataFrame) -> Array:
    """Return an amount for every row; NaN where it is missing."""
    types = value_types(frame)
    expression = parse_expression(text, types)
    if expression.type != "number":
        raise InvalidInputError(
            f"The amount {text!r} of problem.payoff gives a {expression.type}, not money.",
            hint="Write an expression that gives a number.",
            field="problem.payoff",
            value=text,
        )
    if not expression.columns:
        return np.full(frame.height, expression.evaluate({}), dtype=np.float64)
    read = read_columns(frame, {name: types[name] for name in expression.columns})
    table = frame.lazy().select(each.alias(name) for name, each in read.items())
    name = "money" + "_" * max(len(each) for each in read)
    earned = expression.add_to(table, name=name).collect()[name]
    return earned.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
