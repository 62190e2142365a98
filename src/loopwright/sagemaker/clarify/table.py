"""Data sets of Clarify as columns of cells: CSV, JSON lines, JSON and Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.clarify.config import Where

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_MISSING = ("", "null", "NULL", "nan", "NaN", "None", "NA", "N/A")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells.

    Parameters
    ----------
    names
        Of the columns.
    rows
        Texts as they stand in a CSV file, or values of JSON.
    has_header
        Whether the file had a line of names.
    """

    names: tuple[str, ...]
    rows: list[list[Any]]
    has_header: bool = False

    def at(self, where: Where) -> int:
        """Return the number of a column.

        Raises
        ------
        InvalidInputError
            If there is none of this name or number.
        """
        if isinstance(where, int) and 0 <= where < len(self.names):
            return where
        if str(where) in self.names:
            return self.names.index(str(where))
        raise InvalidInputError(
            f"There is no column {where!r}; there are {', '.join(self.names[:30])}."
        )

    def column(self, where: Where) -> pl.Series:
        """Return a column with the type its cells have."""
        at = self.at(where)
        return typed(self.names[at], [row[at] for row in self.rows])

    def without(self, columns: Iterable[int]) -> Table:
        """Return the table without some columns."""
        left_out = set(columns)
        kept = [at for at in range(len(self.names)) if at not in left_out]
        return Table(
            names=tuple(self.names[at] for at in kept),
            rows=[[row[at] for at in kept] for row in self.rows],
            has_header=self.has_header,
        )


def typed(name: str, cells: Sequence[Any]) -> pl.Series:
    """Return cells as whole numbers, else as numbers, else as texts; empty ones are missing.

    Examples
    --------
    >>> typed("age", ["1", "", "2"]).dtype, typed("age", ["1", "2.5"]).dtype
    (Float64, Float64)
    """
    values = [None if _is_missing(each) else each for each in cells]
    known = [each for each in values if each is not None]
    if all(isinstance(each, bool) for each in known) and known:
        return pl.Series(name, values, dtype=pl.Boolean)
    texts = pl.Series(name, [None if v is None else _text(v) for v in values], dtype=pl.String)
    numbers = texts.cast(pl.Float64, strict=False)
    if known and numbers.null_count() == texts.null_count():
        whole = texts.str.contains(r"^[+-]?\d{1,18}$").all(ignore_nulls=False)
        return texts.cast(pl.Int64) if whole else numbers
    return texts


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in _MISSING)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else json.dumps(value)


def read_table(
    folder: Path,
    kind: str,
    *,
    headers: Sequence[str] | None = None,
    features: str | None = None,
    label: Where | None = None,
    predicted: Where | None = None,
) -> Table:
    """Return the files below a folder as one table.

    Parameters
    ----------
    kind
        `text/csv`, `application/jsonlines`, `application/json` or `application/x-parquet`.
    headers
        Names of the columns: of JSON those of the features, then of the label, then of the
        predicted label. Made up as `column_0`, ... where there are none.
    features, label, predicted
        JMESPaths into JSON.

    Raises
    ------
    InvalidInputError
        If there is no file, one cannot be read, or the names do not fit.
    """
    paths = sorted(each for each in folder.rglob("*") if each.is_file())
    if not paths:
        raise InvalidInputError("The data set has no file.")
    parts = []
    for path in paths:
        content = _content(path)
        try:
            if kind == "text/csv":
                parts.append(_of_csv(content, headers))
            elif kind == "application/x-parquet":
                parts.append(_of_parquet(content))
            else:
                is_lines = kind == "application/jsonlines"
                parts.append(_of_json(content, (features, label, predicted), is_lines=is_lines))
        except (csv.Error, ValueError, pl.exceptions.PolarsError) as error:
            raise InvalidInputError(f"{path.name} cannot be read as {kind}: {error}.") from error
    found = _together(parts)
    if not found.rows:
        raise InvalidInputError("The data set has no rows.")
    if headers is not None and len(headers) != len(found.names):
        raise InvalidInputError(
            f"There are {len(headers)} headers, and {len(found.names)} columns in the data set."
        )
    if headers is not None:
        found = Table(names=tuple(headers), rows=found.rows, has_header=found.has_header)
    return found


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise InvalidInputError(f"{path.name} is torn: {error}.") from error


def _together(parts: Sequence[Table]) -> Table:
    names = next((each.names for each in parts if each.rows), parts[0].names)
    for each in parts:
        if each.rows and len(each.names) != len(names):
            raise InvalidInputError(
                f"The files of the data set have {len(names)} and {len(each.names)} columns."
            )
    return Table(
        names=names,
        rows=[row for each in parts for row in each.rows],
        has_header=any(each.has_header for each in parts),
    )


def _of_csv(content: bytes, headers: Sequence[str] | None) -> Table:
    text = content.decode("utf-8-sig", errors="replace")
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    width = len(rows[0]) if rows else 0
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise InvalidInputError(f"Row {number} has {len(row)} values, the first has {width}.")
    has_header = _is_header(rows, headers)
    names = tuple(each.strip() for each in rows[0]) if has_header else _made_up(width)
    return Table(names=names, rows=rows[1:] if has_header else rows, has_header=has_header)


def _is_header(rows: Sequence[Sequence[str]], headers: Sequence[str] | None) -> bool:
    """Tell whether the first row holds names: those that are given, else texts above numbers."""
    if not rows:
        return False
    first = [each.strip() for each in rows[0]]
    if headers is not None and first == [each.strip() for each in headers]:
        return True
    if any(_is_number(each) or not each for each in first) or len(set(first)) < len(first):
        return False
    return any(_is_number(cell) for row in rows[1:2] for cell in row)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _made_up(width: int) -> tuple[str, ...]:
    return tuple(f"column_{at}" for at in range(width))


def _of_parquet(content: bytes) -> Table:
    table = pl.read_parquet(io.BytesIO(content))
    return Table(
        names=tuple(table.columns), rows=[list(row) for row in table.rows()], has_header=True
    )


def found_at(where: str, value: Any) -> Any:
    """Return what lies at a JMESPath.

    Raises
    ------
    InvalidInputError
        If the path is none.
    """
    # botocore brings it, and it has no types
    jmespath: Any = import_module("jmespath")
    try:
        return jmespath.search(where, value)
    except jmespath.exceptions.JMESPathError as error:
        raise InvalidInputError(f"{where!r} is no path into a JSON value: {error}") from error


def _of_json(
    content: bytes, paths: tuple[Where | None, Where | None, Where | None], *, is_lines: bool
) -> Table:
    features, label, predicted = (None if each is None else str(each) for each in paths)
    if is_lines:
        records = [json.loads(line) for line in content.splitlines() if line.strip()]
        rows = [_record(each, features, label, predicted) for each in records]
    else:
        rows = _matrix(json.loads(content), features or "@", label, predicted)
    width = len(rows[0]) if rows else 0
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise InvalidInputError(
                f"Record {number} has {len(row)} values, the first has {width}."
            )
    return Table(names=_made_up(width), rows=rows)


def _record(value: Any, features: str | None, *others: str | None) -> list[Any]:
    found = value if features is None else found_at(features, value)
    if features is not None and isinstance(found, Mapping):
        found = list(found.values())
    if not isinstance(found, list):
        raise InvalidInputError(f"There is no list of features at {features!r}.")
    return [*found, *(found_at(each, value) for each in others if each is not None)]


def _matrix(value: Any, features: str, *others: str | None) -> list[list[Any]]:
    found = found_at(features, value)
    if not isinstance(found, list) or not all(isinstance(row, list) for row in found):
        raise InvalidInputError(f"There is no list of lists at {features!r}.")
    rows = [list(row) for row in found]
    for path in others:
        if path is None:
            continue
        more = found_at(path, value)
        if not isinstance(more, list) or len(more) != len(rows):
            raise InvalidInputError(f"There are no {len(rows)} values at {path!r}.")
        for row, each in zip(rows, more, strict=True):
            row.append(each)
    return rows
