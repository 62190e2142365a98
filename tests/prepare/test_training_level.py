"""Categories that training never saw, refused by name."""

from __future__ import annotations

import json
import time

import polars as pl
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import Signature
from loopwright.prepare.training_level import training_levels

FRAME = pl.DataFrame(
    {
        "town": ["Ulm", "Bonn", None, "Köln"] * 30,
        "note": [f"note {i}" for i in range(120)],
        "size": [1.0, 2.0, 3.0, 4.0] * 30,
    }
)
ROW = {"town": "Ulm", "note": "anything", "size": 1.0}


@pytest.fixture
def signature() -> Signature:
    return Signature.from_frame(FRAME).refusing_unseen()


def test_a_category_keeps_all_its_levels_and_free_text_none() -> None:
    fields = {field.name: field.levels for field in Signature.from_frame(FRAME).fields}

    assert fields == {"town": ("Bonn", "Köln", "Ulm"), "note": None, "size": None}


def test_unseen_categories_are_allowed_unless_it_is_asked_otherwise() -> None:
    row = ROW | {"town": "Rom"}

    assert Signature.from_frame(FRAME).check_row(row) == row


@pytest.mark.parametrize("town", ["Ulm", " Köln ", None, "", "  "])
def test_what_training_saw_is_read_as_before(signature: Signature, town: str | None) -> None:
    row = ROW | {"town": town}

    assert signature.check_row(row) == Signature.from_frame(FRAME).check_row(row)


def test_an_unseen_category_is_refused_with_the_nearest_level(signature: Signature) -> None:
    with pytest.raises(InvalidInputError, match="'town' of row 3 is 'Koln', which") as caught:
        signature.check_row(ROW | {"town": " Koln"}, index=3)

    assert caught.value.hint == "Did you mean 'Köln'?"
    assert caught.value.facts == {
        "row": 3,
        "field": "town",
        "value": " Koln",
        "nearest": "Köln",
        "expected": "one of the 3 values of training",
    }


def test_what_is_no_text_is_refused_as_such(signature: Signature) -> None:
    with pytest.raises(InvalidInputError, match="'town' of row 0 is 7; expected text or null"):
        signature.check_row(ROW | {"town": 7})


def test_the_policy_and_the_levels_survive_storing(signature: Signature) -> None:
    assert Signature.from_json(signature.to_json()) == signature


def test_a_signature_without_levels_is_read_and_says_that_it_cannot_refuse() -> None:
    stored = json.loads(Signature.from_frame(FRAME).to_json())
    del stored["unseen"]
    for field in stored["fields"]:
        del field["levels"]

    old = Signature.from_json(json.dumps(stored))

    assert old.check_row(ROW | {"town": "Rom"})["town"] == "Rom"
    with pytest.raises(InvalidInputError, match="does not say which values of 'town'"):
        old.refusing_unseen()


@pytest.mark.parametrize("levels", [7, [["a"]], [{}]])
def test_levels_that_are_no_texts_are_no_signature(levels: object) -> None:
    stored = json.loads(Signature.from_frame(FRAME).refusing_unseen().to_json())
    stored["fields"][0]["levels"] = levels

    with pytest.raises(InvalidInputError, match="not a stored signature"):
        Signature.from_json(json.dumps(stored))


def test_the_schema_lists_the_values_only_where_no_other_may_come(signature: Signature) -> None:
    town = signature.json_schema()["properties"]["town"]

    assert town["enum"] == ["Bonn", "Köln", "Ulm", None]
    assert "enum" not in Signature.from_frame(FRAME).json_schema()["properties"]["town"]


@pytest.mark.parametrize(
    "values", [[f"level {i}" for i in range(1_001)], ["x" * 60_000, "y" * 60_000]]
)
def test_too_many_or_too_long_levels_are_not_kept(values: list[str]) -> None:
    assert training_levels(pl.Series(values)) is None


def test_a_thousand_levels_and_long_values_are_compared_in_a_millisecond_or_so() -> None:
    levels = [f"level {i} of the thousand that there are" for i in range(1_000)] * 3
    signature = Signature.from_frame(pl.DataFrame({"kind": levels})).refusing_unseen()
    began_at = time.process_time()

    for at in range(20):
        with pytest.raises(InvalidInputError, match="never saw"):
            signature.check_row({"kind": f"level {at} of the thousands" + "!" * 1_000_000})

    assert time.process_time() - began_at < 20 * 0.05
