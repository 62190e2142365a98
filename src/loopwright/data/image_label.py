"""A table of labels beside a folder of images, joined by the path or the name of the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data.file import OpenedFiles
from loopwright.data.source import FileSource
from loopwright.data.spec import ImageSource

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_FIELD = "data.source.labels"
_COMPARED_NAMES = 10_000


class LabelTable:
    """What a table says about images; it is held in memory whole.

    A row means the image whose path it gives, or the only image of that bare name.
    """

    def __init__(self, spec: ImageSource, base: Path, *, environ: Mapping[str, str]) -> None:
        self._place = spec.labels
        self._file = spec.file
        self._source = OpenedFiles(FileSource(path=spec.labels), base, environ=environ)

    def fingerprint(self) -> str | None:
        """Return a digest of the state of the table's file."""
        return self._source.fingerprint()

    def rows(self, names: Sequence[str], *, taken: set[str]) -> pl.DataFrame:
        """Return the columns of the table beside that of the file, one row an image.

        Parameters
        ----------
        names
            Paths of the images. One that the table does not name has a row of missing values.
        taken
            Names that the table's columns may not have.

        Raises
        ------
        InvalidInputError
            If the table has no column of files, names an image twice, or one that is not there.
        """
        table = self._read(taken)
        found = self._paths(table[self._file].cast(pl.String).str.strip_chars(), names)
        table = table.drop(self._file).with_columns(found.alias("\x00path"))
        order = pl.DataFrame({"\x00path": names}, schema={"\x00path": pl.String})
        joined = order.join(table, on="\x00path", how="left", maintain_order="left")
        return joined.drop("\x00path")

    def _read(self, taken: set[str]) -> pl.DataFrame:
        table = pl.concat(self._source.batches(), how="vertical_relaxed")
        if self._file not in table.columns:
            raise self._refused(
                f"has no column {self._file!r}, which should name the images",
                f"Say which with `file`. {did_you_mean(self._file, table.columns)}",
            )
        if len(table.columns) < 2:
            raise self._refused("says nothing about the images", "Give it a column of labels.")
        if clash := sorted(taken & set(table.columns) - {self._file}):
            raise self._refused(
                f"has a column {clash[0]!r}, as the images have one of their own",
                "Rename it in the table.",
            )
        return table

    def _paths(self, given: pl.Series, names: Sequence[str]) -> pl.Series:
        """Return the path of the image that each row means."""
        known = set(names)
        bare = Counter(name.rpartition("/")[2] for name in names)
        by_bare = {name.rpartition("/")[2]: name for name in names}
        found: list[str] = []
        strange: list[str | None] = []
        for value in given:
            if value in known:
                found.append(value)
            elif bare.get(value or "", 0) == 1:
                found.append(by_bare[value])
            else:
                strange.append(value)
        if several := [value for value in strange if bare.get(value or "", 0) > 1]:
            raise self._refused(
                f"names {several[0]!r}, and {bare[several[0] or '']} images have that name",
                "Give paths from the folder of the images, with `/`.",
            )
        if strange:
            example = repr(strange[0]) if strange[0] else "an empty name"
            raise self._refused(
                f"has {len(strange):,} rows that name no image, such as {example}",
                did_you_mean(strange[0] or "", [*bare][:_COMPARED_NAMES]),
            )
        if twice := [name for name, n in Counter(found).items() if n > 1]:
            raise self._refused(f"names the image {twice[0]!r} twice", "Keep one of the rows.")
        return pl.Series(found, dtype=pl.String)

    def _refused(self, what: str, hint: str) -> InvalidInputError:
        return InvalidInputError(
            f"The table of labels {self._place!r} {what}.",
            hint=hint,
            field=_FIELD,
            value=self._place,
        )
