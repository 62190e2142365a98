"""Segments that are watched of their own: the values of a column, or rows that a condition holds for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.monitor.value import to_labels, to_numbers

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from loopwright.prepare.function import ColumnType

    Mask = NDArray[np.bool_]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

N_MOST_VALUES = 8  # of one column
N_MOST_SEGMENTS = 24
LEAST_ROWS = 200  # of the reference; a smaller segment has no usual to be compared with


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Some of the rows.

    Parameters
    ----------
    name
        What people call it, such as `cut = Ideal` or `carat above 0.9`.
    column
        The column that decides; empty for a condition.
    value
        The column's value as text.
    above, up_to
        Numbers: the bounds of the segment, the lower one not part of it.
    condition
        An expression over the columns that is true or false.
    """

    name: str
    column: str = ""
    value: str | None = None
    above: float | None = None
    up_to: float | None = None
    condition: str = ""

    def mask(self, frame: pl.DataFrame) -> Mask:
        """Return for which rows it holds, (n_rows,); missing values hold for none."""
        if self.condition:
            return _condition_mask(self.condition, frame)
        if self.column not in frame.columns:
            return np.zeros(frame.height, dtype=np.bool_)
        if self.value is not None:
            held = to_labels(frame[self.column]) == self.value
            return held.fill_null(False).to_numpy().astype(np.bool_)
        numbers = to_numbers(frame[self.column], kind="number")
        low = -np.inf if self.above is None else self.above
        high = np.inf if self.up_to is None else self.up_to
        mask: Mask = (numbers > low) & (numbers <= high)
        return mask


def check_segments(wanted: Sequence[str], columns: Iterable[str]) -> None:
    """Check that segments can be read over these columns, before any row is there.

    Raises
    ------
    InvalidInputError
        If an entry is neither a column nor a condition over the columns, with the nearest name.
    """
    from loopwright.prepare.expression import parse_expression

    known: dict[str, ColumnType] = dict.fromkeys(columns, "unknown")
    for text in wanted:
        if text not in known:
            try:
                parse_expression(text, known)
            except InvalidInputError as error:
                raise _no_segment(text, error, list(known)) from error


def build_segments(
    wanted: Sequence[str], frame: pl.DataFrame, kinds: Mapping[str, str]
) -> tuple[Segment, ...]:
    """Return the segments that a list of columns and conditions asks for.

    A category gives a segment for each of its up to 8 most frequent values, a number one for each
    third of the rows. A segment with fewer than 200 reference rows is left out.

    Raises
    ------
    InvalidInputError
        If an entry is neither a column nor a condition over the columns, or there are more than 24.
    """
    found: list[Segment] = []
    for text in wanted:
        made = _of_column(text, frame[text], kinds) if text in frame.columns else [_of(text, frame)]
        found += [each for each in made if int(each.mask(frame).sum()) >= LEAST_ROWS]
    if len(found) > N_MOST_SEGMENTS:
        raise InvalidInputError(
            f"monitor.segments come to {len(found)} segments; at most {N_MOST_SEGMENTS} are watched.",
            hint="Name fewer columns, or conditions instead of columns.",
            field="monitor.segments",
            value=list(wanted),
        )
    return tuple(found)


def _of_column(column: str, values: pl.Series, kinds: Mapping[str, str]) -> list[Segment]:
    if kinds.get(column) in ("category", "boolean", "text"):
        counts = to_labels(values).drop_nulls().value_counts()
        ordered = counts.sort("count", counts.columns[0], descending=[True, False])
        labels = ordered[counts.columns[0]].head(N_MOST_VALUES).to_list()
        return [Segment(name=f"{column} = {v}", column=column, value=v) for v in labels]
    numbers = to_numbers(values, kind="number")
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return []
    low, high = (float(f"{q:.4g}") for q in np.quantile(finite, [1 / 3, 2 / 3]))
    return [
        Segment(name=f"{column} up to {low:g}", column=column, up_to=low),
        Segment(name=f"{column} from {low:g} to {high:g}", column=column, above=low, up_to=high),
        Segment(name=f"{column} above {high:g}", column=column, above=high),
    ]


def _of(text: str, frame: pl.DataFrame) -> Segment:
    from loopwright.prepare import value_types
    from loopwright.prepare.expression import parse_expression

    try:
        expression = parse_expression(text, value_types(frame))
    except InvalidInputError as error:
        raise _no_segment(text, error, frame.columns) from error
    if expression.type != "boolean" or expression.uses_today:
        raise InvalidInputError(
            f"monitor.segments: {text!r} gives a {expression.type}, so it holds for no rows in "
            "particular.",
            hint='Write a column or a condition that holds at any time, such as "tenure < 12".',
            field="monitor.segments",
            value=text,
        )
    return Segment(name=text, condition=text)


def _no_segment(text: str, error: InvalidInputError, columns: list[str]) -> InvalidInputError:
    return InvalidInputError(
        f"monitor.segments: {text!r} is no column, and no condition: {error.message}",
        hint=did_you_mean(text, columns) or error.hint,
        field="monitor.segments",
        value=text,
    )


def _condition_mask(text: str, frame: pl.DataFrame) -> Mask:
    from loopwright.prepare import value_types
    from loopwright.prepare.expression import parse_expression
    from loopwright.prepare.value import read_columns

    types = value_types(frame)
    try:
        expression = parse_expression(text, types)
    except InvalidInputError:  # a column that the condition asks for was not sent
        return np.zeros(frame.height, dtype=np.bool_)
    read = read_columns(frame, {each: types[each] for each in expression.columns})
    table = frame.lazy().select(each.alias(column) for column, each in read.items())
    held = "held" + "_" * max((len(each) for each in read), default=0)
    values = expression.add_to(table, name=held).collect()[held]
    return values.cast(pl.Boolean).fill_null(False).to_numpy().astype(np.bool_)
