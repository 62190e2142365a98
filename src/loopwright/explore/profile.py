"""What a table looks like: every column, how it goes with the target, and what to look out for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.explore.association import associations, cells_of, near_duplicates, sample_places
from loopwright.explore.column import ColumnProfile, Detail, is_code_name, profile_swept
from loopwright.explore.finding import Facts, Finding
from loopwright.explore.mask import masked
from loopwright.explore.missing import MissingCounter, MissingPattern
from loopwright.explore.mixture import Mixture, find_mixture
from loopwright.explore.note import ColumnNote, checked_note
from loopwright.explore.personal import personal_values, sample_values
from loopwright.explore.related import related
from loopwright.explore.review import findings
from loopwright.explore.sweep import Sweep, Swept
from loopwright.explore.table import Table, is_flat, table_of
from loopwright.explore.trend import Trend, find_trend

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_VERSION = 2
_MAX_CLASSES = 20
_MOST_DATES = 5
_SHOWN_LINES = 8
# of more columns than this less is kept for each, so that the record stays readable
_WIDE = 500
_BRIEF = Detail(n_bins=10, n_top=3)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Profile:
    """A table described: its columns in order and its findings, the most serious first.

    `n_sampled` rows, evenly spaced, were used for associations and near duplicates; everything
    else counts all rows. `missing` holds the most frequent patterns of missing values, empty when
    nothing is missing; `trends` how the target moves over each date column; `n_paired`
    says among how many columns correlations were looked for (at most 100), near duplicates among all.

    A notebook shows it as a page, a terminal as its first findings. Of columns that seem to hold
    personal data the values are masked.
    """

    n_rows: int
    n_duplicate_rows: int
    n_sampled: int
    target: str | None
    task: str | None
    columns: tuple[ColumnProfile, ...]
    findings: tuple[Finding, ...]
    missing: tuple[MissingPattern, ...] = ()
    trends: tuple[Trend, ...] = ()
    n_paired: int = 0

    def column(self, name: str) -> ColumnProfile:
        """Return the profile of one column.

        Raises
        ------
        InvalidInputError
            If there is no such column.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise _no_column(name, [column.name for column in self.columns], "column")

    def __repr__(self) -> str:
        from loopwright.explore.page import profile_summary

        lines = profile_summary(self)
        more = (
            [f"   and {len(lines) - _SHOWN_LINES} more lines"] if len(lines) > _SHOWN_LINES else []
        )
        return "\n".join([*lines[:_SHOWN_LINES], *more])

    def _repr_html_(self) -> str:
        from loopwright.explore.page import profile_frame

        return profile_frame(self)

    def to_json(self) -> dict[str, Any]:
        """Return the profile as JSON types; nothing in it is NaN or infinite."""
        value: dict[str, Any] = msgspec.to_builtins(self)
        return {"version": _VERSION, **value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Profile:
        """Return the profile that `to_json` wrote.

        Raises
        ------
        InvalidInputError
            If it was written by a later release.
        """
        if value.get("version") == 1:
            value = _from_version_1(value)
        if value.get("version") != _VERSION:
            raise InvalidInputError(
                f"The profile has version {value.get('version')}; this release reads {_VERSION}.",
                hint="Use the release that wrote it, or profile the data again.",
                field="version",
                value=value.get("version"),
            )
        return msgspec.convert({k: v for k, v in value.items() if k != "version"}, cls)


def profile(
    frame: pl.DataFrame | pl.LazyFrame | pd.DataFrame,
    *,
    target: str | None = None,
    task: str | None = None,
    notes: Mapping[str, ColumnNote | str] | None = None,
) -> Profile:
    """Describe a table before anything is learned from it.

    Use it on the training part, so that nothing about the test rows is looked at.

    Parameters
    ----------
    frame
        The rows, shape (n_rows, n_columns), in the plain types of a snapshot; a pandas table is
        converted. A lazy frame over
        files, such as `pl.scan_parquet(path)`, is read a column at a time, in pieces: the same
        profile, and memory holds some 32 bytes a row, however many columns there are.
    target
        The column to predict, if there is one yet.
    task
        `regression`, `binary` or `multiclass`; inferred from the target when absent: numbers with
        more than 20 values are a regression.
    notes
        What people know about columns, by column name: shown beside them, and values outside a
        range they allow are a finding. Plain text will do.

    Raises
    ------
    InvalidInputError
        If `frame` is no table or has no rows, `target` or a key of `notes` is not a column, the
        target holds lists or the like, or a note cannot be used.
    """
    known = notes_by_column(notes or {})
    table = table_of(frame)
    _check(table, target, known)
    swept = _swept(table, known)
    columns, cells = swept.columns, cells_of(swept.sample, swept.columns)
    classes: dict[str, int] = {}
    if target is not None:
        of_target = next(column for column in columns if column.name == target)
        task = task or _task_of(of_target)
        strength = associations(cells, columns, target=target, task=task)
        columns = tuple(
            replace(column, association=strength.get(column.name)) for column in columns
        )
        classes = _classes(table, target) if task in ("binary", "multiclass") else {}
    trends = _trends(table, columns, target=target, task=task, classes=classes)
    pairs = near_duplicates(cells, columns, without=target)
    copies = {pair.second for pair in pairs}
    paired = related(cells, columns, copies=copies, without=target)
    facts = Facts(
        n_rows=table.n_rows,
        n_duplicate_rows=swept.n_duplicate_rows,
        columns=columns,
        target=target,
        classes=classes,
        pairs=pairs,
        personal=swept.personal,
        outside=swept.outside,
        together=swept.missing.together(),
        trends=trends,
        related=paired.pairs,
        mixed=swept.mixed,
    )
    return Profile(
        n_rows=table.n_rows,
        n_duplicate_rows=swept.n_duplicate_rows,
        n_sampled=swept.n_sampled,
        target=target,
        task=task if target is not None else None,
        columns=columns,
        findings=findings(facts),
        missing=swept.missing.patterns(),
        trends=trends,
        n_paired=paired.n_paired,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Swept:
    """What one reading of all columns gives.

    `personal` says what personal data a column holds, `outside` how many values lie out of the range
    that its note allows, `mixed` what text is a mixture of.
    """

    columns: tuple[ColumnProfile, ...]
    sample: dict[str, pl.Series]
    n_sampled: int
    n_duplicate_rows: int
    missing: MissingCounter
    personal: dict[str, str]
    mixed: dict[str, Mixture]
    outside: dict[str, int]


def _swept(table: Table, notes: Mapping[str, ColumnNote]) -> _Swept:
    places = sample_places(table.n_rows, len(table.dtypes))
    sweep = Sweep(table, places)
    detail = Detail() if len(table.dtypes) <= _WIDE else _BRIEF
    columns: list[ColumnProfile] = []
    sample: dict[str, pl.Series] = {}
    personal: dict[str, str] = {}
    mixed: dict[str, Mixture] = {}
    outside: dict[str, int] = {}
    for name in table.dtypes:
        # one column at a time, so that no more than one of a scanned table is held
        swept = sweep.read(name)
        note = notes.get(name)
        column = profile_swept(swept, sweep, note=note, detail=detail)
        sample[name] = swept.sample
        is_text = swept.form == "text"
        texts = sample_values(swept.head)
        what = None
        if swept.form != "boolean":
            what = personal_values(name, texts, n_rows=table.n_rows, is_text=is_text)
        if what is not None:
            personal[name] = what
        elif is_text and (mixture := find_mixture(texts)) is not None:
            column = _in_accord(column, mixture)
            # digits that name rows are names, and no numbers
            if column.kind != "identifier":
                mixed[name] = mixture
        # a page or a record that warns of personal data is no place to show it
        columns.append(column if what is None else masked(column))
        if note is not None and (n_outside := _n_outside(swept, note)):
            outside[name] = n_outside
    return _Swept(
        columns=tuple(columns),
        sample=sample,
        n_sampled=places.size,
        n_duplicate_rows=sweep.n_duplicate_rows(),
        missing=sweep.missing,
        personal=personal,
        mixed=mixed,
        outside=outside,
    )


def _in_accord(column: ColumnProfile, mixture: Mixture) -> ColumnProfile:
    """Return a profile whose kind agrees with what its text is made of.

    Numbers and dates differ from row to row by nature, so that as text they look like identifiers.
    They are, where they are nothing but digits or the name of the column says so.
    """
    if column.kind != "identifier" or mixture.are_digits or is_code_name(column.name):
        return column
    return replace(column, kind="text")


def _trends(
    table: Table,
    columns: Sequence[ColumnProfile],
    *,
    target: str | None,
    task: str | None,
    classes: Mapping[str, int],
) -> tuple[Trend, ...]:
    """Return how the target moves over each date column, the first few; not for many classes."""
    if target is None or task not in ("regression", "binary"):
        return ()
    of_target = next(column for column in columns if column.name == target)
    if task == "regression" and of_target.number is None:
        return ()
    positive = max(classes) if classes else None
    found = [
        find_trend(
            zip(table.pieces(column.name), table.pieces(target), strict=True),
            column=column.name,
            target=target,
            positive=positive,
            n_days=column.date.n_days,
        )
        for column in [c for c in columns if c.date is not None][:_MOST_DATES]
        if column.date is not None and column.name != target
    ]
    return tuple(trend for trend in found if trend is not None)


def notes_by_column(notes: Mapping[str, ColumnNote | str]) -> dict[str, ColumnNote]:
    """Return checked notes by column, plain text as notes with that text."""
    return {
        name: checked_note(ColumnNote(column=name, text=note) if isinstance(note, str) else note)
        for name, note in notes.items()
    }


def _n_outside(swept: Swept, note: ColumnNote) -> int:
    """Count the values outside what a note allows; only numbers can be."""
    if note.allowed_range is None or swept.form != "number":
        return 0
    low, high = note.allowed_range
    n_below = 0 if low is None else int(np.searchsorted(swept.ordered, low, side="left"))
    n_within = (
        swept.ordered.size
        if high is None
        else int(np.searchsorted(swept.ordered, high, side="right"))
    )
    return n_below + swept.ordered.size - n_within


def _from_version_1(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a profile of version 1, whose notes were plain text, as one of version 2."""
    columns = [
        {**column, "note": {"column": column["name"], "text": column["note"]}}
        if column.get("note")
        else column
        for column in value["columns"]
    ]
    return {**value, "version": 2, "columns": columns}


def _check(table: Table, target: str | None, notes: Mapping[str, ColumnNote]) -> None:
    if not table.n_rows:
        raise InvalidInputError(
            "There are no rows to describe.", hint="Choose a table with rows.", field="frame"
        )
    for name, what in [(target, "target"), *((note, "note") for note in notes)]:
        if name is not None and name not in table.dtypes:
            raise _no_column(name, list(table.dtypes), what)
    if target is not None and not is_flat(table.dtypes[target]):
        raise InvalidInputError(
            f"The target {target!r} holds {table.dtypes[target]} values, which nothing can predict.",
            hint="Choose a column with one number, truth value or text a row, or unnest it first.",
            field="target",
            value=target,
        )


def _no_column(name: str, known: list[str], what: str) -> InvalidInputError:
    return InvalidInputError(
        f"The {what} {name!r} is not a column of the table.",
        hint=did_you_mean(name, known),
        field=what,
        value=name,
    )


def _task_of(target: ColumnProfile) -> str:
    numeric = target.number is not None and target.kind != "boolean"
    if numeric and target.n_distinct > _MAX_CLASSES:
        return "regression"
    return "binary" if target.n_distinct <= 2 else "multiclass"


def _classes(table: Table, target: str) -> dict[str, int]:
    """Return how many rows each class has, in the order of their names."""
    found: Counter[str] = Counter()
    for piece in table.pieces(target):
        values = piece.drop_nulls().cast(pl.String).alias("value")
        for value, n in values.value_counts(name="n").iter_rows():
            found[value] += n
    return dict(sorted(found.items()))
