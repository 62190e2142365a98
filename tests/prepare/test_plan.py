from __future__ import annotations

from typing import Any

import msgspec
import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.prepare import PreparePlan, checked_prepare

COLUMNS = ["size", "rooms", "opened", "colour"]
TYPES: Any = {"size": "number", "rooms": "number", "opened": "date", "colour": "text"}


def test_a_plan_that_fits_the_columns_is_returned() -> None:
    plan = PreparePlan(
        drop=("colour",),
        keep=("opened",),
        derive={"age": "days_between(opened, today())", "per_age": "size / age"},
    )

    assert checked_prepare(plan, COLUMNS) is plan
    assert checked_prepare(plan, TYPES) is plan


@pytest.mark.parametrize(
    ("plan", "field", "message"),
    [
        (PreparePlan(drop=("siz",)), "prepare.drop", "Did you mean 'size'"),
        (PreparePlan(keep=("rooom",)), "prepare.keep", "Did you mean 'rooms'"),
        (PreparePlan(drop=("size",), keep=("size",)), "prepare.keep", "both name 'size'"),
        (PreparePlan(derive={"size": "rooms"}), "prepare.derive.size", "replace the column"),
        (PreparePlan(derive={"": "rooms"}), "prepare.derive.", "replace the column"),
        (PreparePlan(derive={"a": "sizes * 2"}), "prepare.derive.a", "Did you mean 'size'"),
        (PreparePlan(derive={"a": "sizee("}), "prepare.derive.a", "cannot be read"),
        (PreparePlan(derive={"a": "b", "b": "size"}), "prepare.derive.a", "no column 'b'"),
    ],
)
def test_what_does_not_fit_is_named_with_the_remedy(
    plan: PreparePlan, field: str, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message) as caught:
        checked_prepare(plan, COLUMNS)

    assert caught.value.facts["field"] == field


def test_types_are_checked_where_they_are_known() -> None:
    plan = PreparePlan(derive={"a": "log(colour)"})

    checked_prepare(plan, COLUMNS)
    with pytest.raises(InvalidInputError, match="needs a number, not a text"):
        checked_prepare(plan, TYPES)


def test_a_wrong_key_of_the_block_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="dropped"):
        msgspec.convert({"dropped": ["a"]}, type=PreparePlan)
