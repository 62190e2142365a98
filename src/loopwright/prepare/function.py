"""The functions of the expression language, each as a Polars expression and as plain Python.

Both columns of a line do the same float64 operations in the same order, so they agree to the last
bit. A missing operand makes the result missing, and so does a result that is not finite, unless the
line says otherwise.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING, Any, Literal, cast

from loopwright.core.lazy import LazyModule
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

Type = Literal["number", "text", "boolean", "date", "unknown"]
"""What a value is; `unknown` only where a text is checked before the columns' types are known."""

ColumnType = ValueType | Type
Accepts = Literal["number", "text", "boolean", "date", "unknown", "same", "any"]
"""What an argument may be; all arguments marked `same` must be of one type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function or operator: what it takes, what it gives, and how both sides compute it.

    Parameters
    ----------
    accepts
        The arguments. With `n_more` true the last may be repeated.
    gives
        The type of the result; `same` for that of the arguments marked `same`.
    as_polars, as_python
        Take the arguments and return the result: expressions here, values there. The Python side
        of a strict function never sees None.
    strict
        Whether a missing argument makes the result missing before the function is asked.
    shape
        How it is written, for messages and documentation.
    in_pairs
        Whether many arguments are computed two at a time.
    n_optional
        How many arguments at the end may be left out.
    whole
        If given, the second argument is a whole number written out, in this closed range.
    """

    accepts: tuple[Accepts, ...]
    gives: Accepts
    as_polars: Callable[..., pl.Expr]
    as_python: Callable[..., Any]
    shape: str
    n_more: bool = False
    in_pairs: bool = False
    n_optional: int = 0
    whole: tuple[int, int] | None = None
    strict: bool = True


def divided(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    """Return a / b, rounded as IEEE 754 says.

    Polars multiplies by 1 / b when b is one value for all rows, which is off by one bit in some
    places; adding zeros of the length of `a` gives b that length.
    """
    return a / (b + a * 0.0)


def finite(x: pl.Expr) -> pl.Expr:
    """Return x where it is finite, missing elsewhere."""
    return pl.when(x.is_finite()).then(x)


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _guarded(condition: pl.Expr, x: pl.Expr) -> pl.Expr:
    return finite(pl.when(condition).then(x))


def _whole(x: pl.Expr) -> pl.Expr:
    # Python's whole numbers know no minus zero
    return pl.when(x == 0.0).then(0.0).otherwise(x)


def _divide(a: float, b: float) -> float | None:
    return None if b == 0.0 else _finite(a / b)


def _modulo(a: float, b: float) -> float | None:
    quotient = _divide(a, b)
    return None if quotient is None else _finite(a - float(math.floor(quotient)) * b)


def _modulo_polars(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    quotient = _guarded(b != 0.0, divided(a, b))
    return finite(a - _whole(quotient.floor()) * b)


def _power(a: float, n: float) -> float | None:
    return _finite(reduce(operator.mul, [a] * int(n)))


def _power_polars(a: pl.Expr, n: int) -> pl.Expr:
    return finite(reduce(operator.mul, [a] * n))


def _round(a: float, digits: float = 0.0) -> float | None:
    scale = 10.0 ** int(digits)
    scaled = _finite(a * scale)
    return None if scaled is None else float(round(scaled)) / scale


def _round_polars(a: pl.Expr, digits: int = 0) -> pl.Expr:
    scale = 10.0**digits
    return divided(_whole(finite(a * scale).round(mode="half_to_even")), pl.lit(scale))


def _exp(a: float) -> float | None:
    try:
        return math.exp(a)
    except OverflowError:
        return None


def _both(a: pl.Expr, b: pl.Expr, result: pl.Expr) -> pl.Expr:
    return pl.when(a.is_not_null() & b.is_not_null()).then(result)


def _least(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    return _both(a, b, pl.when(a <= b).then(a).otherwise(b))


def _greatest(a: pl.Expr, b: pl.Expr) -> pl.Expr:
    return _both(a, b, pl.when(a >= b).then(a).otherwise(b))


def _if_polars(condition: pl.Expr, a: pl.Expr, b: pl.Expr) -> pl.Expr:
    return pl.when(condition).then(a).when(condition.is_not_null()).then(b)


def _if(condition: bool | None, a: Any, b: Any) -> Any:
    return None if condition is None else (a if condition else b)


def _each_text(change: Callable[[str], str]) -> Callable[[pl.Expr], pl.Expr]:
    # Rust and Python know different editions of Unicode, so Python's own methods do both sides
    def changed(column: pl.Series) -> pl.Series:
        texts = [None if text is None else change(text) for text in column.to_list()]
        return pl.Series(column.name, texts, dtype=pl.String)

    return lambda column: column.map_batches(changed, return_dtype=pl.String, is_elementwise=True)


def _number(x: pl.Expr) -> pl.Expr:
    return x.cast(pl.Float64)


def _days(x: pl.Expr) -> pl.Expr:
    return x.cast(pl.Int32).cast(pl.Float64)


def _of_numbers(
    shape: str,
    as_polars: Callable[..., pl.Expr],
    as_python: Callable[..., float | None],
    n: int = 2,
    *,
    n_more: bool = False,
) -> Function:
    return Function(
        accepts=cast("tuple[Accepts, ...]", ("number",) * n),
        gives="number",
        as_polars=as_polars,
        as_python=as_python,
        shape=shape,
        n_more=n_more,
        in_pairs=n_more,
    )


def _comparison(sign: str, compare: Callable[[Any, Any], Any]) -> Function:
    return Function(
        accepts=("same", "same"),
        gives="boolean",
        as_polars=compare,
        as_python=compare,
        shape=f"a {sign} b",
    )


def _part(
    name: str, as_polars: Callable[[pl.Expr], pl.Expr], as_python: Callable[[date], int]
) -> Function:
    return Function(
        accepts=("date",),
        gives="number",
        as_polars=lambda x: _number(as_polars(x)),
        as_python=lambda day: float(as_python(day)),
        shape=f"{name}(date)",
    )


def day_of_year(day: date) -> int:
    """Return 1 for the first of January, up to 366."""
    return day.toordinal() - date(day.year, 1, 1).toordinal() + 1


OPERATORS: dict[str, Function] = {
    "+": _of_numbers("a + b", lambda a, b: finite(a + b), lambda a, b: _finite(a + b)),
    "-": _of_numbers("a - b", lambda a, b: finite(a - b), lambda a, b: _finite(a - b)),
    "*": _of_numbers("a * b", lambda a, b: finite(a * b), lambda a, b: _finite(a * b)),
    "/": _of_numbers("a / b", lambda a, b: _guarded(b != 0.0, divided(a, b)), _divide),
    "%": _of_numbers("a % b", _modulo_polars, _modulo),
    "**": Function(
        accepts=("number", "number"),
        gives="number",
        as_polars=_power_polars,
        as_python=_power,
        shape="a ** 2",
        whole=(1, 8),
    ),
    "negative": _of_numbers("-a", lambda a: a * -1.0, lambda a: a * -1.0, n=1),
    "==": _comparison("==", operator.eq),
    "!=": _comparison("!=", operator.ne),
    "<": _comparison("<", operator.lt),
    "<=": _comparison("<=", operator.le),
    ">": _comparison(">", operator.gt),
    ">=": _comparison(">=", operator.ge),
    "and": Function(
        accepts=("boolean", "boolean"),
        gives="boolean",
        as_polars=lambda a, b: _both(a, b, a & b),
        as_python=lambda a, b: a and b,
        shape="a and b",
    ),
    "or": Function(
        accepts=("boolean", "boolean"),
        gives="boolean",
        as_polars=lambda a, b: _both(a, b, a | b),
        as_python=lambda a, b: a or b,
        shape="a or b",
    ),
    "not": Function(
        accepts=("boolean",),
        gives="boolean",
        as_polars=operator.invert,
        as_python=operator.not_,
        shape="not a",
    ),
}
"""What is written between or before its arguments."""

FUNCTIONS: dict[str, Function] = {
    "abs": _of_numbers("abs(a)", lambda a: a.abs(), abs, n=1),
    "ceil": _of_numbers("ceil(a)", lambda a: _whole(a.ceil()), lambda a: float(math.ceil(a)), n=1),
    "floor": _of_numbers(
        "floor(a)", lambda a: _whole(a.floor()), lambda a: float(math.floor(a)), n=1
    ),
    "round": Function(
        accepts=("number", "number"),
        gives="number",
        as_polars=_round_polars,
        as_python=_round,
        shape="round(a) or round(a, 2)",
        n_optional=1,
        whole=(0, 9),
    ),
    "exp": _of_numbers("exp(a)", lambda a: finite(a.exp()), _exp, n=1),
    "log": _of_numbers(
        "log(a)",
        lambda a: _guarded(a > 0.0, a.log()),
        lambda a: math.log(a) if a > 0.0 else None,
        n=1,
    ),
    "log1p": _of_numbers(
        "log1p(a)",
        lambda a: _guarded(a > -1.0, a.log1p()),
        lambda a: math.log1p(a) if a > -1.0 else None,
        n=1,
    ),
    "sqrt": _of_numbers(
        "sqrt(a)",
        lambda a: _guarded(a >= 0.0, a.sqrt()),
        lambda a: math.sqrt(a) if a >= 0.0 else None,
        n=1,
    ),
    "min": _of_numbers("min(a, b, ...)", _least, lambda a, b: a if a <= b else b, n_more=True),
    "max": _of_numbers("max(a, b, ...)", _greatest, lambda a, b: a if a >= b else b, n_more=True),
    "year": _part("year", lambda x: x.dt.year(), lambda day: day.year),
    "month": _part("month", lambda x: x.dt.month(), lambda day: day.month),
    "day": _part("day", lambda x: x.dt.day(), lambda day: day.day),
    "weekday": _part("weekday", lambda x: x.dt.weekday(), date.isoweekday),
    "day_of_year": _part("day_of_year", lambda x: x.dt.ordinal_day(), day_of_year),
    "days_between": Function(
        accepts=("date", "date"),
        gives="number",
        as_polars=lambda a, b: _days(b) - _days(a),
        as_python=lambda a, b: float(b.toordinal() - a.toordinal()),
        shape="days_between(from, to)",
    ),
    "lower": Function(
        accepts=("text",),
        gives="text",
        as_polars=_each_text(str.lower),
        as_python=str.lower,
        shape="lower(text)",
    ),
    "upper": Function(
        accepts=("text",),
        gives="text",
        as_polars=_each_text(str.upper),
        as_python=str.upper,
        shape="upper(text)",
    ),
    "length": Function(
        accepts=("text",),
        gives="number",
        as_polars=lambda text: _number(text.str.len_chars()),
        as_python=lambda text: float(len(text)),
        shape="length(text)",
    ),
    "contains": Function(
        accepts=("text", "text"),
        gives="boolean",
        as_polars=lambda text, part: text.str.contains(part, literal=True),
        as_python=lambda text, part: part in text,
        shape='contains(text, "part")',
    ),
    "concat": Function(
        accepts=("text", "text"),
        gives="text",
        as_polars=lambda *texts: pl.concat_str(texts),
        as_python=lambda *texts: "".join(texts),
        shape="concat(text, text, ...)",
        n_more=True,
    ),
    "if": Function(
        accepts=("boolean", "same", "same"),
        gives="same",
        as_polars=_if_polars,
        as_python=_if,
        shape="if(condition, then, else)",
        strict=False,
    ),
    "coalesce": Function(
        accepts=("same", "same"),
        gives="same",
        as_polars=lambda *values: pl.coalesce(*values),
        as_python=lambda *values: next((v for v in values if v is not None), None),
        shape="coalesce(a, b, ...)",
        n_more=True,
        strict=False,
    ),
    "is_missing": Function(
        accepts=("any",),
        gives="boolean",
        as_polars=lambda x: x.is_null(),
        as_python=lambda value: value is None,
        shape="is_missing(a)",
        strict=False,
    ),
    "null_if": Function(
        accepts=("same", "same"),
        gives="same",
        as_polars=lambda a, b: pl.when(a != b).then(a),
        as_python=lambda a, b: None if a == b else a,
        shape="null_if(a, value)",
    ),
}
"""What is called by name; `today()`, `date("...")` and `column("...")` belong to the grammar."""
