from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.data.conversion import convert
from loopwright.data.decision import decide_conversions
from loopwright.prepare.signature import Field, Signature

FRAME = pl.DataFrame(
    {
        "size": [10, 20, 30],
        "rate": [0.5, None, 1.5],
        "colour": ["red", "blue", "red"],
        "new": [True, False, True],
        "sold": [date(2024, 1, 1), date(2024, 1, 2), date(2024, 1, 3)],
        "seen": [datetime.fromisoformat("2024-01-01T05:00")] * 3,
        "price": [1.0, 2.0, 3.0],
    }
)
GOOD: dict[str, Any] = {
    "size": 12,
    "rate": None,
    "colour": " red ",
    "new": True,
    "sold": "2024-02-01",
    "seen": "2024-02-01T10:00:00+02:00",
}


@pytest.fixture
def signature() -> Signature:
    return Signature.from_frame(FRAME, target="price")


def test_fields_say_kind_missing_and_a_typical_value(signature: Signature) -> None:
    found = {field.name: (field.kind, field.nullable, field.example) for field in signature.fields}

    assert found == {
        "size": ("number", False, 20),
        "rate": ("number", True, 1.5),
        "colour": ("category", False, "red"),
        "new": ("boolean", False, True),
        "sold": ("date", False, "2024-01-02"),
        "seen": ("date", False, "2024-01-01T05:00:00"),
    }


def test_values_come_as_the_model_reads_them(signature: Signature) -> None:
    found = signature.check_row(GOOD)

    assert found == {
        "size": 12.0,
        "rate": None,
        "colour": "red",
        "new": True,
        "sold": date(2024, 2, 1),
        "seen": datetime.fromisoformat("2024-02-01T08:00"),
    }
    assert type(found["size"]) is float
    assert type(found["sold"]) is date


def test_what_may_be_missing_may_be_left_out(signature: Signature) -> None:
    row = {name: value for name, value in GOOD.items() if name != "rate"}

    found = signature.check_row(row)

    assert found["rate"] is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("size", "1200", "a number"),
        ("size", True, "a number"),
        ("size", float("nan"), "a number"),
        ("size", float("inf"), "a number"),
        ("size", 10**400, "a number"),
        ("size", None, "a number"),
        ("size", [1], "a number"),
        ("rate", "?", "a number or null"),
        ("rate", float("nan"), "a number or null"),
        ("colour", 5, "text"),
        ("colour", "  ", "text"),
        ("new", 1, "true or false"),
        ("new", "true", "true or false"),
        ("sold", "1/2/2024", "a date such as 2026-01-31"),
        ("sold", 20240101, "a date such as 2026-01-31"),
        ("seen", "noon", "a time such as 2026-01-31T12:00:00"),
    ],
)
def test_a_wrong_value_is_named_with_its_row_and_what_was_expected(
    signature: Signature, name: str, value: Any, expected: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        signature.check_row({**GOOD, name: value}, index=3)

    facts = caught.value.facts
    assert (facts["row"], facts["field"], facts["expected"]) == (3, name, expected)
    assert facts["value"] is value
    assert "row 3" in str(caught.value)
    assert name in str(caught.value)


def test_a_column_that_was_never_missing_must_be_there(signature: Signature) -> None:
    row = {name: value for name, value in GOOD.items() if name != "size"}

    with pytest.raises(InvalidInputError, match="'size' of row 0 is not there"):
        signature.check_row(row)


@pytest.mark.parametrize("row", [[1, 2], "x", None, 5])
def test_a_row_is_an_object(signature: Signature, row: Any) -> None:
    with pytest.raises(InvalidInputError, match="expected an object"):
        signature.check_row(row)


def test_other_columns_are_ignored_and_the_target_too(signature: Signature) -> None:
    found = signature.check_row({**GOOD, "price": "secret", "other": [1]})

    assert list(found) == [field.name for field in signature.fields]


def test_other_columns_can_be_refused_but_not_the_target() -> None:
    signature = Signature.from_frame(FRAME, target="price", unknown="refuse")

    signature.check_row({**GOOD, "price": 5})
    with pytest.raises(InvalidInputError, match="Did you mean 'colour'") as caught:
        signature.check_row({**GOOD, "color": "red"})

    assert caught.value.facts["field"] == "color"


def test_text_that_the_source_held_is_read_as_the_source_was() -> None:
    raw = pl.DataFrame(
        {"basement": ["0.0", "?", "600.0"], "date": ["10/13/2014", "2/25/2015", "12/9/2014"]}
    ).lazy()
    conversions = decide_conversions(raw)
    frame = convert(raw, conversions).collect()
    signature = Signature.from_frame(frame, conversions=conversions)

    found = [signature.check_row(row) for row in raw.collect().to_dicts()]

    assert found == frame.to_dicts()
    assert signature.check_row({"basement": 5, "date": "2014-10-13"}) == {
        "basement": 5.0,
        "date": date(2014, 10, 13),
    }
    with pytest.raises(InvalidInputError, match="'many'"):
        signature.check_row({"basement": "many", "date": "2014-10-13"})


def test_a_number_too_long_for_a_column_of_numbers_may_be_given_as_one_or_as_text() -> None:
    raw = pl.DataFrame({"card": [2**63, 7]}, schema={"card": pl.UInt64}).lazy()
    conversions = decide_conversions(raw)
    frame = convert(raw, conversions).collect()
    signature = Signature.from_frame(frame, conversions=conversions)

    assert signature.check_row({"card": 2**63}) == {"card": "9223372036854775808"}
    assert signature.check_row({"card": " 7 "}) == {"card": "7"}
    with pytest.raises(InvalidInputError, match="True"):
        signature.check_row({"card": True})


def test_text_is_trimmed_of_what_the_table_is_trimmed_of() -> None:
    cells = ["a\x1c", "b\u2003", " c"]
    frame = convert(pl.LazyFrame({"x": cells}), []).collect()
    signature = Signature.from_frame(frame)

    assert [signature.check_row({"x": cell})["x"] for cell in cells] == frame["x"].to_list()


def test_values_of_python_and_numpy_are_read(signature: Signature) -> None:
    moment = datetime(2024, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    row = {**GOOD, "size": np.int64(5), "rate": np.float64(2.5), "seen": moment}

    found = signature.check_row(row)

    assert (found["size"], found["rate"], found["seen"]) == (
        5.0,
        2.5,
        datetime.fromisoformat("2024-01-01T10:00"),
    )
    assert signature.check_row({**GOOD, "sold": datetime(2024, 1, 1, 23, tzinfo=UTC)})[
        "sold"
    ] == date(2024, 1, 1)


def test_the_rows_of_the_training_table_pass(signature: Signature) -> None:
    rows = FRAME.drop("price").to_dicts()

    found = [signature.check_row(row) for row in rows]

    assert found == rows


def test_it_reads_back_from_json(signature: Signature) -> None:
    found = Signature.from_json(signature.to_json())

    assert found == signature
    assert found.check_row(GOOD) == signature.check_row(GOOD)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": "loopwright.signature/2", "fields": []}',
        '{"format": "loopwright.signature/1", "fields": [{"name": "a", "kind": "lambda"}]}',
        '{"format": "loopwright.signature/1", "fields": 5, "target": null, "unknown": "ignore"}',
        "[" * 100_000,
    ],
)
def test_json_that_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        Signature.from_json(text)


def test_the_schema_describes_a_row_that_passes(signature: Signature) -> None:
    schema = json.loads(json.dumps(signature.json_schema()))

    assert schema["required"] == ["size", "colour", "new", "sold", "seen"]
    assert schema["properties"]["rate"]["type"] == ["number", "null"]
    assert schema["properties"]["sold"]["format"] == "date"
    assert signature.check_row(schema["example"])


def test_free_text_of_training_is_not_shown_as_an_example() -> None:
    frame = pl.DataFrame({"note": [f"patient {i} wrote this" for i in range(50)]})

    found = Signature.from_frame(frame).fields[0]

    assert found == Field(name="note", kind="text", example="text")


def test_a_column_of_lists_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="'tags'"):
        Signature.from_frame(pl.DataFrame({"tags": [[1], [2]]}))
