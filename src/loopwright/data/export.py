"""Rows as files for other programs: CSV, Parquet or JSON, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

ExportFormat = Literal["csv", "parquet", "json"]
_BATCH_ROWS = 50_000
# what makes spreadsheet programs take text for a formula; the wide forms count in some of them
_FORMULA = r"^[=+\-@\t\r\n＝＋－＠]"


def export_rows(
    rows: pl.LazyFrame, path: Path, *, kind: ExportFormat | None = None, safe: bool = True
) -> int:
    """Write rows to a file and return how many it was; memory stays bounded.

    Parameters
    ----------
    rows
        What to write.
    path
        Where to; a file that is there is replaced once the new one is complete.
    kind
        `csv`, `parquet` or `json` (one array of objects); told from the suffix when absent.
    safe
        Whether text in a CSV file that a spreadsheet program would run as a formula gets an
        apostrophe in front. Numbers, Parquet and JSON are never changed.

    Raises
    ------
    InvalidInputError
        If the kind is not one of these, or the file cannot be written.
    """
    found = _format(path, kind)
    if not path.parent.is_dir():
        raise _refused(path, f"there is no folder {str(path.parent)!r}")
    if path.is_dir():
        raise _refused(path, "it is a folder")
    temporary = None
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(descriptor)
        temporary = Path(name)
        _write(rows, temporary, found, safe)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as cause:
        raise _refused(path, cause.strerror or str(cause)) from cause
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return int(rows.select(pl.len()).collect(engine="streaming").item())


def without_formulas(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Return rows with an apostrophe before every text, names of columns too, that is a formula."""
    schema = rows.collect_schema()
    texts = [name for name, dtype in schema.items() if dtype == pl.String]
    cells = [
        pl.when(pl.col(name).str.contains(_FORMULA))
        .then(pl.concat_str(pl.lit("'"), pl.col(name)))
        .otherwise(pl.col(name))
        .alias(name)
        for name in texts
    ]
    heads = pl.Series(schema.names(), dtype=pl.String).str.contains(_FORMULA).to_list()
    names = {name: f"'{name}" for name, is_formula in zip(schema, heads, strict=True) if is_formula}
    return rows.with_columns(cells).rename(names)


def _write(rows: pl.LazyFrame, path: Path, kind: str, safe: bool) -> None:
    if kind == "parquet":
        rows.sink_parquet(path, compression="zstd", maintain_order=True)
    elif kind == "csv":
        (without_formulas(rows) if safe else rows).sink_csv(path, maintain_order=True)
    else:
        _write_json(rows, path)


def _write_json(rows: pl.LazyFrame, path: Path) -> None:
    mark = "["
    with path.open("w", encoding="utf-8") as file:
        for batch in rows.collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True):
            if batch.height:
                file.write(f"{mark}\n{batch.write_json()[1:-1]}")
                mark = ","
        file.write("[]\n" if mark == "[" else "\n]\n")


def _format(path: Path, kind: str | None) -> str:
    known = get_args(ExportFormat)
    found = kind or path.suffix.lower().removeprefix(".")
    if found not in known:
        raise InvalidInputError(
            f"{found or str(path)!r} is not a format that rows are exported in.",
            hint=did_you_mean(found, known),
            field="format",
            value=found,
        )
    return found


def _refused(path: Path, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{str(path)!r} cannot be written: {reason}.",
        hint="Choose another path with --output.",
        field="output",
        value=str(path),
    )
