from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.core.clock import FixedClock
from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.explore import (
    ColumnNote,
    Profile,
    checked_note,
    list_notes,
    profile,
    profile_page,
    profile_summary,
    remove_note,
    save_note,
)
from loopwright.store.memory import MemoryMetadataStore

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def metadata() -> MemoryMetadataStore:
    return MemoryMetadataStore(FixedClock(AT))


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, "text"),
        ({"text": "x" * 2_001}, "text"),
        ({"decision": "dorp"}, "decision"),
        ({"allowed_range": (5, 1)}, "allowed_range"),
        ({"allowed_range": (None, None)}, "allowed_range"),
        ({"allowed_range": (0, float("nan"))}, "allowed_range"),
        ({"allowed_range": ("0", 1)}, "allowed_range"),
        ({"allowed_range": (1,)}, "allowed_range"),
    ],
)
def test_a_note_that_cannot_be_used_is_refused(given: dict[str, Any], field: str):
    with pytest.raises(InvalidInputError) as caught:
        checked_note(ColumnNote(column="age", **given))

    assert caught.value.facts["field"] == field
    assert caught.value.hint


def test_a_later_note_joins_what_was_said_before(metadata: MemoryMetadataStore):
    save_note(metadata, "houses", ColumnNote(column="area", text="measured by hand", by="ann"))
    save_note(metadata, "houses", ColumnNote(column="area", unit="ft²", by="bob"))
    save_note(metadata, "other", ColumnNote(column="area", text="no matter here"))

    found = list_notes(metadata, "houses")

    assert found == (ColumnNote(column="area", text="measured by hand", unit="ft²", by="bob"),)
    assert [event.kind for event in metadata.list_events("loop/houses")] == ["note", "note"]


def test_saying_the_same_again_changes_nothing(metadata: MemoryMetadataStore):
    note = ColumnNote(column="age", allowed_range=(0, 120), by="ann", at=AT)

    save_note(metadata, "houses", note)
    save_note(metadata, "houses", note)

    assert len(metadata.list_events("loop/houses")) == 1


def test_a_note_can_be_taken_back(metadata: MemoryMetadataStore):
    save_note(metadata, "houses", ColumnNote(column="a/b'; DROP TABLE 🏠", decision="drop"))

    remove_note(metadata, "houses", "a/b'; DROP TABLE 🏠", by="ann")

    assert list_notes(metadata, "houses") == ()
    with pytest.raises(NotFoundError):
        remove_note(metadata, "houses", "a/b'; DROP TABLE 🏠")


@settings(max_examples=40, deadline=None)
@given(
    text=st.text(max_size=50),
    decision=st.sampled_from([None, "keep", "drop"]),
    bounds=st.one_of(
        st.none(), st.tuples(st.floats(-1e9, 0), st.one_of(st.none(), st.floats(0, 1e9)))
    ),
)
def test_a_note_survives_its_record(text: str, decision: Any, bounds: Any):
    note = ColumnNote(
        column="x", text=text, decision=decision, allowed_range=bounds, by="ann", at=AT
    )

    assert ColumnNote.from_json(note.to_json()) == note
    assert "at" not in note.content


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("It counts rows.", "irrelevant because it counts rows (by ann)"),
        ("because ZIP is enough", "irrelevant because ZIP is enough (by ann)"),
        ("", "irrelevant (by ann)"),
    ],
)
def test_a_decision_reads_as_a_reason(text: str, reason: str):
    assert ColumnNote(column="x", text=text, decision="drop", by="ann").reason == reason


def test_values_outside_the_allowed_range_are_a_finding():
    frame = pl.DataFrame({"age": [30, 40, None, 130, -1, 120, 0], "town": list("abcdefg")})
    note = ColumnNote(column="age", allowed_range=(0, 120), unit="years", by="ann")

    result = profile(frame, notes={"age": note, "town": ColumnNote(column="town", text="<b>x</b>")})

    found = [finding for finding in result.findings if finding.kind == "out_of_range"]
    assert [finding.column for finding in found] == ["age"]
    assert "2 values lie outside the allowed range 0 to 120 years (by ann)" in found[0].evidence
    assert "-1 and 130" in found[0].evidence
    page = profile_page(result)
    assert "allowed: 0 to 120 years" in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "note on age: unit: years; allowed: 0 to 120 years (by ann)" in profile_summary(result)


@pytest.mark.parametrize(
    ("bounds", "n"), [((None, 5), 1), ((3, None), 2), ((1, 6), 0), ((1.5, 5.5), 2)]
)
def test_a_bound_may_be_open(bounds: Any, n: int):
    result = profile(
        pl.DataFrame({"x": [1, 2, 5, 6]}),
        notes={"x": ColumnNote(column="x", allowed_range=bounds)},
    )

    told = [f.evidence for f in result.findings if f.kind == "out_of_range"]
    assert [text.split()[0] for text in told] == ([str(n)] if n else [])


def test_a_profile_of_version_1_is_read_with_its_notes():
    frame = pl.DataFrame({"x": [1, 2]})
    old = profile(frame).to_json() | {"version": 1}
    old["columns"][0]["note"] = "by hand"

    read = Profile.from_json(old)

    assert read.column("x").note == ColumnNote(column="x", text="by hand")
