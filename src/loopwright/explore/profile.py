"""What a table looks like: every column, how it goes with the target, and what to look out for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.explore.association import associations, cells_of, near_duplicates, sample_of
from loopwright.explore.column import ColumnProfile, profile_columns
from loopwright.explore.finding import Facts, Finding, findings
from loopwright.explore.personal import personal_data

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_VERSION = 1
_MAX_CLASSES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A table described: its columns in order and its findings, the most serious first.

    `n_sampled` rows, evenly spaced, were used for associations and near duplicates; everything
    else counts all rows.
    """

    n_rows: int
    n_duplicate_rows: int
    n_sampled: int
    target: str | None
    task: str | None
    columns: tuple[ColumnProfile, ...]
    findings: tuple[Finding, ...]

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
        if value.get("version") != _VERSION:
            raise InvalidInputError(
                f"The profile has version {value.get('version')}; this release reads {_VERSION}.",
                hint="Use the release that wrote it, or profile the data again.",
                field="version",
                value=value.get("version"),
            )
        return msgspec.convert({k: v for k, v in value.items() if k != "version"}, cls)


def profile(
    frame: pl.DataFrame,
    *,
    target: str | None = None,
    task: str | None = None,
    notes: Mapping[str, str] | None = None,
) -> Profile:
    """Describe a table before anything is learned from it.

    Use it on the training part, so that nothing about the test rows is looked at.

    Parameters
    ----------
    frame
        The rows, shape (n_rows, n_columns), in the plain types of a snapshot.
    target
        The column to predict, if there is one yet.
    task
        `regression`, `binary` or `multiclass`; inferred from the target when absent: numbers with
        more than 20 values are a regression.
    notes
        What people know about columns, shown beside them, by column name.

    Raises
    ------
    InvalidInputError
        If there are no rows, or `target` or a key of `notes` is not a column.
    """
    _check(frame, target, notes or {})
    columns = profile_columns(frame, notes)
    sample = sample_of(frame)
    cells = cells_of(sample, columns)
    if target is not None:
        of_target = next(column for column in columns if column.name == target)
        task = task or _task_of(of_target)
        strength = associations(cells, columns, target=target, task=task)
        columns = tuple(
            replace(column, association=strength.get(column.name)) for column in columns
        )
    flat = frame.select(column.name for column in columns if column.kind != "other")
    n_distinct_rows = flat.hash_rows(seed=0).n_unique() if flat.width else frame.height
    personal = {
        column.name: what
        for column in frame.iter_columns()
        if (what := personal_data(column)) is not None
    }
    facts = Facts(
        n_rows=frame.height,
        n_duplicate_rows=frame.height - n_distinct_rows,
        columns=columns,
        target=target,
        classes=_classes(frame, target) if task in ("binary", "multiclass") and target else {},
        pairs=near_duplicates(cells, columns, without=target),
        personal=personal,
    )
    return Profile(
        n_rows=frame.height,
        n_duplicate_rows=facts.n_duplicate_rows,
        n_sampled=sample.height,
        target=target,
        task=task if target is not None else None,
        columns=columns,
        findings=findings(facts),
    )


def _check(frame: pl.DataFrame, target: str | None, notes: Mapping[str, str]) -> None:
    if not frame.height:
        raise InvalidInputError(
            "There are no rows to describe.", hint="Choose a table with rows.", field="frame"
        )
    for name, what in [(target, "target"), *((note, "note") for note in notes)]:
        if name is not None and name not in frame.columns:
            raise _no_column(name, frame.columns, what)


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


def _classes(frame: pl.DataFrame, target: str) -> dict[str, int]:
    counts = frame[target].drop_nulls().cast(pl.String).value_counts(name="n").sort(target)
    return dict(counts.iter_rows())
