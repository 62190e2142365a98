"""Rows in files: CSV, JSON lines and Parquet, one file or many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import nearest
from loopwright.data.fault import broken, check_bytes, check_csv, check_json_lines, open_bytes
from loopwright.data.source import BATCH_ROWS, check_target

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SEPARATORS = ",;\t|"
_HEADER_BYTES = 1 << 16
_KINDS = {
    ".csv": "CSV",
    ".csv.gz": "CSV",
    ".tsv": "CSV",
    ".jsonl": "JSON lines",
    ".ndjson": "JSON lines",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}


class OpenedFiles:
    """The rows of the files that match a path, in the order of the file names.

    CSV cells arrive as text: which columns are numbers or dates is decided from all rows, not from
    the first hundred (`loopwright.data.conversion`).
    """

    def __init__(self, path: str, base: Path) -> None:
        self._given = path
        self._path = base / Path(path).expanduser()
        self._kind = _kind_of(path)
        self._schemas: dict[tuple[Path, int], dict[str, pl.DataType]] = {}

    def describe(self) -> str:
        """Return the path as the loop file gives it."""
        return f"file {self._given}"

    def fingerprint(self) -> str:
        """Return a digest of the path, size and time of change of every file."""
        facts = [(str(path), path.stat()) for path in self._files()]
        return digest_value([[name, stat.st_size, stat.st_mtime_ns] for name, stat in facts])

    def schema(self) -> dict[str, pl.DataType]:
        """Return the columns of the first file; CSV columns are text."""
        return self._schema(self._files()[0])

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the rows of one file after the other."""
        files = self._files()
        columns = list(self._schema(files[0]))
        for path in files:
            self._check_columns(path, columns, files[0])
            yield from self._read(path, columns)

    def check(self, target: str | None = None) -> None:
        """Raise for a missing, broken or empty file and for an unusable target."""
        files = self._files()
        columns = list(self._schema(files[0]))
        for path in files:
            self._check_columns(path, columns, files[0])
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
                value=self._given,
            )
        if target is not None:
            check_target(target, columns=columns, n_values=len(seen), of=self.describe())

    def _files(self) -> list[Path]:
        if self._path.is_file():
            return [self._path]
        name = self._path.name
        if any(mark in self._given for mark in "*?["):
            anchor = Path(self._path.anchor)
            found = sorted(
                path for path in anchor.glob(str(self._path.relative_to(anchor))) if path.is_file()
            )
            if found:
                return found
            said = f"No file matches {self._given!r}"
        elif self._path.is_dir():
            raise self._refused(
                f"{self._given!r} is a folder.",
                f"Name its files, such as '{self._given}/*.parquet'.",
            )
        else:
            said = f"There is no file {self._given!r}"
        folder = self._path.parent
        if not folder.is_dir():
            raise self._refused(f"{said}: there is no folder {folder}.", "Correct the path.")
        near = nearest(name, [path.name for path in folder.iterdir()])
        hint = f"Did you mean {near!r}?" if near else "Correct the path."
        raise self._refused(f"{said} in {folder}.", hint)

    def _refused(self, message: str, hint: str) -> InvalidInputError:
        return InvalidInputError(message, hint=hint, field="data.source.path", value=self._given)

    def _schema(self, path: Path) -> dict[str, pl.DataType]:
        # JSON lines are read to their end for this, so it is done once for every state of a file
        key = (path, path.stat().st_mtime_ns)
        if key not in self._schemas:
            self._schemas[key] = self._found_schema(path)
        return self._schemas[key]

    def _found_schema(self, path: Path) -> dict[str, pl.DataType]:
        try:
            if self._kind != "Parquet" and _is_empty(path):
                check_bytes(path)
            columns = dict(_scan(path, self._kind).collect_schema())
        except (pl.exceptions.PolarsError, OSError) as cause:
            raise self._diagnosis(path, cause) from cause
        if not columns:
            raise broken(path, None, "It has no columns.", "Give a file with a header and rows.")
        return columns

    def _check_columns(self, path: Path, columns: list[str], first: Path) -> None:
        found = list(self._schema(path))
        if set(found) != set(columns):
            odd = sorted(set(found) ^ set(columns))
            raise broken(
                path,
                None,
                f"Its columns are not those of {first.name}: {', '.join(odd[:5])} in one only.",
                "Give files with the same columns.",
            )

    def _read(self, path: Path, columns: list[str]) -> Iterator[pl.DataFrame]:
        is_csv = self._kind == "CSV"
        if is_csv:
            check_bytes(path)
        suspicious = False
        try:
            for batch in (
                _scan(path, self._kind)
                .select(columns)
                .collect_batches(chunk_size=BATCH_ROWS, maintain_order=True)
            ):
                if is_csv and len(columns) > 1 and batch[columns[-1]].null_count():
                    # a blank line reads as a row of nulls, a short row as nulls at its end
                    suspicious = True
                    batch = batch.filter(~pl.all_horizontal(pl.all().is_null()))
                for piece in batch.iter_slices(BATCH_ROWS):
                    if piece.height:
                        yield piece
        except (pl.exceptions.PolarsError, OSError) as cause:
            raise self._diagnosis(path, cause) from cause
        if suspicious:
            check_csv(path, _separator(path))

    def _diagnosis(self, path: Path, cause: Exception) -> InvalidInputError:
        """Return the error for a file that cannot be read: the line at fault if it can be found."""
        if self._kind != "Parquet":
            check_bytes(path)
        if self._kind == "CSV":
            check_csv(path, _separator(path))
        elif self._kind == "JSON lines":
            check_json_lines(path)
        reason = str(cause).partition("\n")[0].rstrip(".")
        return broken(
            path, None, f"It cannot be read as {self._kind}: {reason}.", "Export it again."
        )


def _scan(path: Path, kind: str) -> pl.LazyFrame:
    if kind == "CSV":
        return pl.scan_csv(path, separator=_separator(path), infer_schema=False, glob=False)
    if kind == "JSON lines":
        return pl.scan_ndjson(path, infer_schema_length=None)
    return pl.scan_parquet(path, glob=False)


def _kind_of(path: str) -> str:
    for suffix, kind in _KINDS.items():
        if path.lower().endswith(suffix):
            return kind
    raise InvalidInputError(
        f"The kind of the file {path!r} cannot be told from its name.",
        hint=f"Use a name that ends in {', '.join(_KINDS)}.",
        field="data.source.path",
        value=path,
    )


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
