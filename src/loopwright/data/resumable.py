"""Sources that can be read on from a row, after their connection broke."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from loopwright.data.source import Source


@runtime_checkable
class ResumableSource(Source, Protocol):
    """A source that can be read on from a row instead of from its start."""

    def identity(self) -> str:
        """Return a digest of what is read: the place, the table or query, and its conditions."""
        ...

    def order(self) -> tuple[str, ...]:
        """Return the columns whose values, taken together, order the rows and tell them apart.

        Empty where there are none, and the source cannot be read on.
        """
        ...

    def after(self, row: dict[str, Any]) -> Source:
        """Return a source of the rows that come after this one, of which it is given the order."""
        ...


@runtime_checkable
class SortableSource(ResumableSource, Protocol):
    """A source that can give its rows in the order of a column whose values rows may share."""

    def by(self, cursor: str, key: Sequence[str] = ()) -> Source:
        """Return a source of the same rows in the order of a column, missing values first.

        It is the source itself where it has an order of its own, or no such column.
        """
        ...

    def cursor(self) -> str | None:
        """Return the column that the rows come in the order of; None where there is none."""
        ...

    def beyond(self, value: Any) -> Source:
        """Return a source of the rows whose `cursor()` is at least this, in the same order."""
        ...


def sorted_by(source: Source, cursor: str | None, key: Sequence[str] = ()) -> Source:
    """Return a source in the order of its cursor where that helps to read it on after a break."""
    if cursor is None or not isinstance(source, SortableSource):
        return source
    return source.by(cursor, key)
