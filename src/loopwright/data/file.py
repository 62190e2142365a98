"""Rows in files: CSV, JSON, Parquet and Excel, one file or many, here or elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.quantity import mebibytes
from loopwright.data.block import csv_blocks
from loopwright.data.fault import (
    broken,
    check_bytes,
    check_csv,
    check_header,
    check_json_lines,
    open_bytes,
)
from loopwright.data.part import Kind, Part, Unpacked, called
from loopwright.data.place import Located, open_place
from loopwright.data.source import BATCH_ROWS, FileSource, check_target

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SEPARATORS = ",;\t|"
_HEADER_BYTES = 1 << 16


class OpenedFiles:
    """The rows of the files that a path means, in the order of the file names.

    CSV cells arrive as text: which columns are numbers or dates is decided from all rows, not from
    the first hundred (`loopwright.data.conversion`). Nested objects in JSON are spread over dotted
    columns. What is packed, or lies elsewhere, is brought into a temporary folder first.
    """

    def __init__(
        self, spec: FileSource, base: Path, *, environ: Mapping[str, str] | None = None
    ) -> None:
        max_bytes = mebibytes(spec.max_size, field="data.source.max_size") << 20
        self._unpacked = Unpacked(sheet=spec.sheet, max_bytes=max_bytes)
        self._place = open_place(
            spec,
            base,
            environ=os.environ if environ is None else environ,
            unpacked=self._unpacked,
            max_bytes=max_bytes,
        )
        self._schemas: dict[tuple[Path, int], dict[str, pl.DataType]] = {}

    def describe(self) -> str:
        """Return the path as the loop file gives it, without credentials."""
        return f"file {self._place.describe()}"

    def fingerprint(self) -> str | None:
        """Return a digest of the names, sizes and states of the files."""
        return self._place.fingerprint()

    def schema(self) -> dict[str, pl.DataType]:
        """Return the columns of the first file; CSV columns are text."""
        return self._schema(self._parts(self._place.files()[0])[0])

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the rows of one file after the other."""
        first: Part | None = None
        for file in self._place.files():
            for part in self._parts(file):
                first = first or part
                columns = list(self._schema(first))
                self._check_columns(part, columns, first)
                yield from self._read(part, columns)

    def check(self, target: str | None = None) -> None:
        """Raise for a missing, broken or empty file and for an unusable target."""
        parts = [part for file in self._place.files() for part in self._parts(file)]
        columns = list(self._schema(parts[0]))
        for part in parts:
            self._check_columns(part, columns, parts[0])
        if target is not None:
            check_target(target, columns=columns, n_values=None, of=self.describe())
        seen: set[object] = set()
        n_rows = 0
        for batch in self.batches():
            n_rows += batch.height
            if target is None or len(seen) > 1:
                break
            seen.update(_some_values(batch[target]))
        if n_rows == 0:
            raise InvalidInputError(
                f"{self.describe()} has columns but no rows.",
                hint="Give a file with at least a few dozen rows.",
                field="data.source.path",
                value=self._place.describe(),
            )
        if target is not None:
            check_target(target, columns=columns, n_values=len(seen), of=self.describe())

    def _parts(self, file: Located) -> list[Part]:
        with called(file.path, file.label):
            return self._unpacked.parts(file.path, label=file.label)

    def _schema(self, part: Part) -> dict[str, pl.DataType]:
        # JSON lines are read to their end for this, so it is done once for every state of a file
        key = (part.path, part.path.stat().st_mtime_ns)
        if key not in self._schemas:
            with called(part.path, part.label):
                self._schemas[key] = _found_schema(part)
        return self._schemas[key]

    def _check_columns(self, part: Part, columns: list[str], first: Part) -> None:
        found = list(self._schema(part))
        if set(found) != set(columns):
            odd = sorted(set(found) ^ set(columns))
            with called(part.path, part.label):
                raise broken(
                    part.path,
                    None,
                    f"Its columns are not those of {Path(first.label).name}: "
                    f"{', '.join(odd[:5])} in one only.",
                    "Give files with the same columns.",
                )

    def _read(self, part: Part, columns: list[str]) -> Iterator[pl.DataFrame]:
        # the consumer's own errors must not be taken for those of the file
        batches = _batches(part, columns)
        while True:
            with called(part.path, part.label):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


def _found_schema(part: Part) -> dict[str, pl.DataType]:
    try:
        if part.kind != "Parquet" and _is_empty(part.path):
            check_bytes(part.path)
        if part.kind == "CSV":
            check_header(part.path, _separator(part.path))
        columns = dict(_scan(part.path, part.kind).collect_schema())
    except (pl.exceptions.PolarsError, OSError) as cause:
        raise _diagnosis(part, cause) from cause
    if not columns:
        raise broken(part.path, None, "It has no columns.", "Give a file with a header and rows.")
    return columns


def _batches(part: Part, columns: list[str]) -> Iterator[pl.DataFrame]:
    path = part.path
    is_csv = part.kind == "CSV"
    if is_csv:
        check_bytes(path)
    suspicious = False
    try:
        for batch in _frames(part, columns):
            if is_csv and len(columns) > 1 and batch[columns[-1]].null_count():
                # a blank line reads as a row of nulls, a short row as nulls at its end
                suspicious = True
                batch = batch.filter(~pl.all_horizontal(pl.all().is_null()))
            for piece in batch.iter_slices(BATCH_ROWS):
                if piece.height:
                    yield piece
    except (pl.exceptions.PolarsError, OSError) as cause:
        raise _diagnosis(part, cause) from cause
    if suspicious:
        check_csv(path, _separator(path))


def _frames(part: Part, columns: list[str]) -> Iterator[pl.DataFrame]:
    if part.kind != "CSV":
        rows = _scan(part.path, part.kind).select(columns)
        yield from rows.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
        return
    # a scan of Polars reads so far ahead that a long file would take hundreds of MiB
    separator = _separator(part.path)
    for block in csv_blocks(part.path, separator):
        yield pl.read_csv(block, separator=separator, infer_schema=False).select(columns)


def _diagnosis(part: Part, cause: Exception) -> InvalidInputError:
    """Return the error for a file that cannot be read: the line at fault if it can be found."""
    if part.kind != "Parquet":
        check_bytes(part.path)
    if part.kind == "CSV":
        check_csv(part.path, _separator(part.path))
    elif part.kind == "JSON lines":
        check_json_lines(part.path)
    reason = str(cause).partition("\n")[0].rstrip(".")
    return broken(
        part.path, None, f"It cannot be read as {part.kind}: {reason}.", "Export it again."
    )


def _scan(path: Path, kind: Kind) -> pl.LazyFrame:
    if kind == "CSV":
        return pl.scan_csv(path, separator=_separator(path), infer_schema=False, glob=False)
    if kind == "JSON lines":
        return pl.scan_ndjson(path, infer_schema_length=None)
    return pl.scan_parquet(path, glob=False)


def _is_empty(path: Path) -> bool:
    with open_bytes(path) as file:
        return not file.read(1)


def _separator(path: Path) -> str:
    """Return the character that parts most fields of the header: comma, semicolon, tab or bar."""
    with open_bytes(path) as file:
        header = file.readline(_HEADER_BYTES).decode("utf-8-sig", errors="replace")
    unquoted = "".join(header.split('"')[::2])
    return max(_SEPARATORS, key=unquoted.count)


def _some_values(column: pl.Series) -> list[object]:
    """Return up to two distinct values of a column, missing ones and blank text left out."""
    column = column.drop_nulls()
    if column.dtype == pl.String:
        column = column.str.strip_chars()
        column = column.filter(column != "")
    elif column.dtype.is_float():
        column = column.drop_nans()
    if not len(column):
        return []
    return [column[0], *column.filter(column != column[0]).head(1)]
