"""A sheet of an Excel workbook as a table."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data.fault import broken

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

MAX_WORKBOOK_BYTES = 1 << 30


def sheet_table(path: Path, sheet: str | None) -> pl.DataFrame:
    """Return the rows of a sheet; its first row holds the names of the columns.

    A column that mixes numbers and text becomes text, whichever comes first.

    Parameters
    ----------
    path
        A workbook, `.xlsx` or `.xlsm`.
    sheet
        Which sheet; needed only when there are several.

    Raises
    ------
    InvalidInputError
        If it is no workbook, has no such sheet, or the sheet has no rows.
    BackendError
        If the library that reads workbooks is not installed.
    """
    _check_workbook(path)
    try:
        import fastexcel
    except ImportError as cause:
        raise BackendError(
            "Reading Excel workbooks needs the fastexcel library, which is not installed.",
            hint="Install it: pip install 'loopwright[files]'",
        ) from cause
    try:
        reader = fastexcel.read_excel(path)
        loaded = reader.load_sheet(
            _chosen(reader.sheet_names, sheet, path),
            schema_sample_rows=None,
            dtype_coercion="coerce",
        )
        frame = loaded.to_polars()
    except fastexcel.FastExcelError as cause:
        reason = str(cause).partition("\n")[0].rstrip(".")
        raise broken(
            path, None, f"It cannot be read as Excel: {reason}.", "Save it again."
        ) from cause
    if frame.width == 0:
        raise broken(path, None, "The sheet is empty.", "Choose a sheet with a header and rows.")
    return frame.filter(~pl.all_horizontal(pl.all().is_null()))


def _check_workbook(path: Path) -> None:
    """Raise unless the file is a zip archive of a harmless size, which every workbook is."""
    try:
        with zipfile.ZipFile(path) as archive:
            n_bytes = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as cause:
        raise broken(
            path, None, "It is not an Excel workbook.", "Save it as .xlsx, or rename it."
        ) from cause
    if n_bytes > MAX_WORKBOOK_BYTES:
        raise broken(
            path,
            None,
            f"It unpacks to {n_bytes / 2**20:,.0f} MiB, more than a workbook may have.",
            "Export the sheet as CSV.",
        )


def _chosen(sheets: list[str], wanted: str | None, path: Path) -> str:
    if wanted is not None and wanted not in sheets:
        raise InvalidInputError(
            f"{path} has no sheet {wanted!r}.",
            hint=did_you_mean(wanted, sheets),
            field="data.source.sheet",
            value=wanted,
        )
    if wanted is None and len(sheets) > 1:
        raise InvalidInputError(
            f"{path} has {len(sheets)} sheets: {', '.join(sheets[:8])}.",
            hint=f"Say which one in the source, such as `sheet: {sheets[0]}`.",
            field="data.source.sheet",
        )
    return wanted if wanted is not None else sheets[0]
