"""The tree an expression is read into, and its two compiled forms: for tables and for single rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, cast

from loopwright.core.lazy import LazyModule
from loopwright.prepare.function import Function, Type

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

TODAY = "today()"
"""Under this name a row (or the registers of a row) holds the date that `today()` gives."""


@dataclass(frozen=True, slots=True)
class Column:
    """The value of a column."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written out, or computed from such values; None is missing."""

    value: float | str | bool | date | None
    type: Type


@dataclass(frozen=True, slots=True)
class Today:
    """The date on which the row is looked at."""

    type: Type = "date"


@dataclass(frozen=True, slots=True)
class Apply:
    """A function of other nodes."""

    function: Function
    arguments: tuple[Node, ...]
    type: Type


Node = Column | Literal | Today | Apply


def list_nodes(node: Node) -> list[Node]:
    """Return the node and everything below it, each before what is below it."""
    inner = node.arguments if isinstance(node, Apply) else ()
    return [node, *(below for argument in inner for below in list_nodes(argument))]


def with_node(table: pl.LazyFrame, node: Node, *, name: str, today: date | None) -> pl.LazyFrame:
    """Return `table` with the values of the node as column `name`.

    Every function gets a column of its own on the way, level by level, so that an operand used
    several times is computed once; the columns of the way are gone at the end.
    """
    levels: list[list[pl.Expr]] = []
    names = (f"{name}\0{number}" for number in range(1_000_000))

    def place(node: Node) -> tuple[pl.Expr, int]:
        """Return where the node's value will be found, and after how many levels."""
        if not isinstance(node, Apply):
            return _leaf(node, today), 0
        placed = [place(argument) for argument in node.arguments]
        level = max(depth for _, depth in placed)
        if level == len(levels):
            levels.append([])
        arguments: list[Any] = [value for value, _ in placed]
        if node.function.whole and len(arguments) == 2:
            arguments[1] = int(cast("float", cast("Literal", node.arguments[1]).value))
        own = next(names)
        levels[level].append(node.function.as_polars(*arguments).alias(own))
        return pl.col(own), level + 1

    result, _ = place(node)
    for level in levels:
        table = table.with_columns(level)
    made = [expression.meta.output_name() for level in levels for expression in level]
    return table.with_columns(result.alias(name)).drop(made)


def _leaf(node: Column | Literal | Today, today: date | None) -> pl.Expr:
    if isinstance(node, Column):
        return pl.col(node.name).cast(pl.Date) if node.type == "date" else pl.col(node.name)
    if isinstance(node, Today):
        return pl.lit(today, dtype=pl.Date)
    dtypes = {"number": pl.Float64, "text": pl.String, "boolean": pl.Boolean, "date": pl.Date}
    return pl.lit(node.value, dtype=dtypes[node.type])


def to_python(node: Node, key: Callable[[str], Any]) -> Callable[[Any], Any]:
    """Return the node as a function of a row that holds the value of `name` under `key(name)`."""
    if isinstance(node, Literal):
        value = node.value
        return lambda _: value
    if isinstance(node, Today):
        today = key(TODAY)
        return lambda row: row[today]
    if isinstance(node, Column):
        place = key(node.name)
        # registers keep times whole; the language knows days only
        return (lambda row: _day(row[place])) if node.type == "date" else (lambda row: row[place])
    arguments = [to_python(argument, key) for argument in node.arguments]
    if node.function.strict and len(arguments) == 2:
        return _strict_pair(node.function.as_python, *arguments)
    return _applied(node.function, arguments)


def _day(value: Any) -> date | None:
    return value.date() if isinstance(value, datetime) else cast("date | None", value)


def _strict_pair(
    function: Callable[..., Any], first: Callable[[Any], Any], second: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    def run(row: Any) -> Any:
        a = first(row)
        if a is None:
            return None
        b = second(row)
        return None if b is None else function(a, b)

    return run


def _applied(function: Function, arguments: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    compute, strict = function.as_python, function.strict

    def run(row: Any) -> Any:
        values = [argument(row) for argument in arguments]
        return None if strict and None in values else compute(*values)

    return run
