"""The small language of `derive:` values: parsed, checked, and compiled for tables and for rows.

What can be written: columns by name, numbers, "text", arithmetic, comparisons, `and`, `or`, `not`,
`in ("a", "b")`, and the functions of `function.FUNCTIONS` plus `today()`, `date("2026-01-31")` and
`column("a name with spaces")`.

`today()` is the day a row is looked at: for training the date of the snapshot, which is stored with
the fitted recipe so that fitting again gives the same numbers, and in serving the day of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from loopwright.prepare.function import ColumnType, Type
from loopwright.prepare.grammar import read_expression
from loopwright.prepare.node import TODAY, Column, Node, Today, list_nodes, to_python, with_node
from loopwright.prepare.value import READERS

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """A checked expression over named columns.

    Use it twice: `add_to` for a table and `evaluate` (or `to_python`) for one row; both give the
    same value to the last bit. A missing operand makes the result missing, and so do a division by
    zero, a logarithm of nothing and a number too large; `if`, `coalesce` and `is_missing` look at
    missing values themselves.
    """

    text: str
    root: Node
    columns: tuple[str, ...]

    @property
    def type(self) -> Type:
        """What the expression gives."""
        return self.root.type

    @property
    def uses_today(self) -> bool:
        """Whether the value depends on the day it is asked for."""
        return any(isinstance(node, Today) for node in list_nodes(self.root))

    def add_to(self, table: pl.LazyFrame, *, name: str, today: date | None = None) -> pl.LazyFrame:
        """Return `table`, whose columns were read by `value.read_column`, with column `name` added."""
        return with_node(table, self.root, name=name, today=today)

    def to_python(self, key: Callable[[str], Any]) -> Callable[[Any], Any]:
        """Return a function of a row, which finds the value of `name` under `row[key(name)]`.

        Values must have been read by `value.READERS`; the date of today is under `key(TODAY)`.
        """
        return to_python(self.root, key)

    def evaluate(self, row: Mapping[str, Any], *, today: date | None = None) -> Any:
        """Return the value for one row of plain values; columns that are not there are missing."""
        found = [node for node in list_nodes(self.root) if isinstance(node, Column)]
        types = {node.name: node.type for node in found if node.type != "unknown"}
        read = {name: READERS[kind](row.get(name)) for name, kind in types.items()}
        return self.to_python(lambda name: name)({**read, TODAY: today})


def parse_expression(text: str, columns: Mapping[str, ColumnType]) -> Expression:
    """Return the checked form of `text` over the given columns.

    Parameters
    ----------
    text
        At most 1,000 characters, such as ``days_between(opened_at, today())``.
    columns
        What each column stores.

    Raises
    ------
    InvalidInputError
        If the text cannot be read, names something unknown, mixes types, or is too long or nested
        too deeply; `facts` hold the position (from 1) of the character that is wrong.

    Examples
    --------
    >>> size = parse_expression("sqft / rooms", {"sqft": "number", "rooms": "number"})
    >>> size.evaluate({"sqft": 1000, "rooms": 4})
    250.0
    >>> size.evaluate({"sqft": 1000, "rooms": 0}) is None
    True
    """
    root = read_expression(text, columns)
    used = dict.fromkeys(node.name for node in list_nodes(root) if isinstance(node, Column))
    return Expression(text=text, root=root, columns=tuple(used))
