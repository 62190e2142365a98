"""A table of ground truth as a person hands it over: its columns found, its times read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from loopwright.core.errors import InvalidInputError


def label_pairs(
    rows: Sequence[Mapping[str, Any]], *, key: str, now: datetime
) -> tuple[list[tuple[Any, Any]], bool, list[datetime]]:
    """Return ids with labels, whether the ids are business keys, and when each label became known.

    Parameters
    ----------
    rows
        With `inference_id`, or the column of the business key in its place, `label`, and perhaps
        `at`: a time, or text in ISO 8601, in UTC where it names no zone.
    key
        The column of the business key; `inference_id` where there is none.
    now
        When they came; no label is known later.

    Raises
    ------
    InvalidInputError
        If a column is missing, or a time cannot be read; the facts say which.
    """
    if not rows:
        return [], False, []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    by_key = "inference_id" not in columns and key in columns
    wanted = (key if by_key else "inference_id", "label")
    missing = [name for name in wanted if name not in columns]
    if missing:
        instead = f" (or {key})" if key != "inference_id" else ""
        raise InvalidInputError(
            f"The labels have no column {missing[0]!r}; they have {', '.join(columns)}.",
            hint=f"Name the columns inference_id{instead} and label; at, a time, may be beside them.",
            field=missing[0],
            value=columns,
        )
    pairs = [(row.get(wanted[0]), row.get("label")) for row in rows]
    at = [_moment(row.get("at"), index, now) for index, row in enumerate(rows)]
    return pairs, by_key, at


def _moment(value: Any, index: int, now: datetime) -> datetime:
    """Return when a label became known; now where nothing says it, or it lies in the future."""
    if value is None or value == "":
        return now
    found: Any = value
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value.strip())
        except ValueError:
            found = None
    if isinstance(found, date) and not isinstance(found, datetime):
        found = datetime(found.year, found.month, found.day, tzinfo=UTC)
    if not isinstance(found, datetime):
        raise InvalidInputError(
            f"'at' of label {index} is {str(value)[:80]!r}, which is no time.",
            hint="Write it as 2026-03-31T18:30:00Z, or leave the column out: then it is now.",
            field="at",
            value=str(value)[:80],
            row=index,
        )
    aware = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return min(aware, now)
