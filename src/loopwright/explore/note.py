"""What people who know the business say about a column, and what follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loopwright.core.errors import InvalidInputError

if TYPE_CHECKING:
    from loopwright.store import MetadataStore

Decision = Literal["keep", "drop"]
Range = tuple[float | None, float | None]

_LONGEST_TEXT = 2_000
_KIND = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnNote:
    """What a person says about one column.

    Parameters
    ----------
    column
        The column it is about.
    text
        What to know about it; with a decision, why. At most 2,000 characters.
    decision
        `drop`: no model may see it. `keep`: no suggestion may drop it. None leaves it open.
    unit
        What its numbers count, such as `square feet`.
    allowed_range
        The least and the greatest value that can be right, both included; None is no bound.
    by, at
        Who said so, and when (UTC).
    """

    column: str
    text: str = ""
    decision: Decision | None = None
    unit: str = ""
    allowed_range: Range | None = None
    by: str = ""
    at: datetime | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the note as JSON types."""
        value: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ColumnNote:
        """Return the note that `to_json` wrote."""
        return msgspec.convert(value, cls)

    @property
    def content(self) -> dict[str, Any]:
        """What it says, as JSON types, without when: saying the same again changes nothing."""
        return {key: value for key, value in self.to_json().items() if key != "at"}

    @property
    def reason(self) -> str:
        """Why the column is dropped or kept, and who decided it; empty without a decision.

        Examples
        --------
        >>> ColumnNote(column="id", decision="drop", text="It counts rows.", by="ann").reason
        'irrelevant because it counts rows (by ann)'
        """
        if self.decision is None:
            return ""
        what = "irrelevant" if self.decision == "drop" else "kept"
        why = f" because {_as_clause(self.text)}" if self.text else ""
        return f"{what}{why}{self.signed}"

    @property
    def signed(self) -> str:
        """Who says so, as ` (by NAME)`; empty when unknown."""
        return f" (by {self.by})" if self.by else ""

    @property
    def bounds(self) -> str:
        """The allowed range in words, with its unit; empty without one.

        Examples
        --------
        >>> ColumnNote(column="age", allowed_range=(0, 120), unit="years").bounds
        '0 to 120 years'
        """
        if self.allowed_range is None:
            return ""
        low, high = self.allowed_range
        unit = f" {self.unit}" if self.unit else ""
        if low is None or high is None:
            side, bound = ("at most", high) if low is None else ("at least", low)
            return f"{side} {bound:,.12g}{unit}"
        return f"{low:,.12g} to {high:,.12g}{unit}"

    @property
    def line(self) -> str:
        """The whole note in one line."""
        told = " ".join(self.text.split()).removesuffix(".")
        parts = [self.reason.removesuffix(self.signed) if self.decision else told]
        parts += [f"unit: {self.unit}"] if self.unit else []
        parts += [f"allowed: {self.bounds}"] if self.allowed_range else []
        return "; ".join(part for part in parts if part) + self.signed


def _as_clause(text: str) -> str:
    """Return a sentence as the end of another one."""
    plain = " ".join(text.split()).removeprefix("because ").rstrip(".")
    # a word such as ZIP or I keeps its capital
    small = len(plain) > 1 and plain[0].isupper() and plain[1].islower()
    return plain[0].lower() + plain[1:] if small else plain


def checked_note(note: ColumnNote) -> ColumnNote:
    """Return a note that can be used, its range as floats.

    Raises
    ------
    InvalidInputError
        If it says nothing, is too long, decides neither `keep` nor `drop`, or its range is empty
        or no pair of finite numbers.
    """
    if not (note.text or note.decision or note.unit or note.allowed_range):
        raise _refused("text", "", "says nothing", "Give a text, a decision, a unit or a range.")
    for field, text in (("text", note.text), ("unit", note.unit)):
        if len(text) > _LONGEST_TEXT:
            raise _refused(
                field,
                text[:80],
                f"has a {field} of {len(text):,} characters",
                f"At most {_LONGEST_TEXT:,} are kept; say it shorter or link to the rest.",
            )
    if note.decision not in (None, "keep", "drop"):
        raise _refused(
            "decision", note.decision, f"decides {note.decision!r}", "Decide 'keep' or 'drop'."
        )
    if note.allowed_range is not None:
        note = replace(note, allowed_range=_checked_range(note.allowed_range))
    return note


def _checked_range(given: Any) -> Range:
    hint = "Give the least and the greatest value that can be right, such as (0, 120)."
    bounds = list(given) if isinstance(given, (tuple, list)) else []
    numbers = [bound for bound in bounds if bound is not None]
    is_pair = len(bounds) == 2 and len(numbers) > 0
    if not is_pair or any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise _refused("allowed_range", str(given), f"allows the range {given!r}", hint)
    low, high = (None if bound is None else float(bound) for bound in bounds)
    if any(not math.isfinite(bound) for bound in (low, high) if bound is not None):
        raise _refused("allowed_range", str(given), f"allows the range {given!r}", hint)
    if low is not None and high is not None and low > high:
        raise _refused("allowed_range", str(given), f"allows {low:g} to {high:g}: nothing", hint)
    return low, high


def _refused(field: str, value: Any, what: str, hint: str) -> InvalidInputError:
    return InvalidInputError(f"The note {what}.", hint=hint, field=field, value=value)


def list_notes(metadata: MetadataStore, loop: str) -> tuple[ColumnNote, ...]:
    """Return the notes on the columns of a loop, in the order of the columns' names."""
    notes: list[ColumnNote] = []
    after = ""
    while page := metadata.list_(_KIND, prefix=f"{loop}/", after=after):
        notes += [ColumnNote.from_json(record.body) for record in page]
        after = page[-1].key
    return tuple(notes)


def save_note(metadata: MetadataStore, loop: str, note: ColumnNote) -> ColumnNote:
    """Keep a note and return what now stands; it joins what was said of the column before.

    What the new note leaves open stays as it was. Who said what remains in the loop's history.

    Raises
    ------
    InvalidInputError
        If the note cannot be used; nothing was changed.
    """
    checked = checked_note(note)
    with metadata.transaction():
        key = f"{loop}/{note.column}"
        record = metadata.find(_KIND, key)
        before = ColumnNote.from_json(record.body) if record else None
        joined = _joined(before, checked) if before else checked
        if before is None or joined.content != before.content:
            metadata.put(_KIND, key, joined.to_json())
            told = f"{note.column}: {checked.line.removesuffix(checked.signed)}"
            metadata.append(f"loop/{loop}", _KIND, {**checked.content, "summary": told})
    return joined


def _joined(before: ColumnNote, new: ColumnNote) -> ColumnNote:
    return replace(
        new,
        text=new.text or before.text,
        decision=new.decision or before.decision,
        unit=new.unit or before.unit,
        allowed_range=new.allowed_range or before.allowed_range,
    )


def remove_note(metadata: MetadataStore, loop: str, column: str, *, by: str = "") -> None:
    """Take a note back.

    Raises
    ------
    NotFoundError
        If there is none on that column.
    """
    with metadata.transaction():
        metadata.delete(_KIND, metadata.get(_KIND, f"{loop}/{column}").key)
        metadata.append(f"loop/{loop}", "note removed", {"summary": column, "by": by})
