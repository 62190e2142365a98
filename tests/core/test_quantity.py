from __future__ import annotations

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import mebibytes, seconds


@pytest.mark.parametrize(
    ("text", "expected"), [("4 GiB", 4096), ("500 MB", 477), ("1tib", 1 << 20), ("1 KB", 1)]
)
def test_memory_is_read_as_people_write_it(text: str, expected: int) -> None:
    assert mebibytes(text, field="memory") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1 day", 86_400), ("30 minutes", 1_800), ("2 h", 7_200), ("5s", 5), ("1.5 hours", 5_400)],
)
def test_durations_are_read_as_people_write_them(text: str, expected: float) -> None:
    assert seconds(text, field="every") == expected


@pytest.mark.parametrize("text", ["", "4", "4 parsecs", "-1 day", "day", "1 day 2 hours"])
def test_what_is_no_amount_is_refused_with_the_field_named(text: str) -> None:
    with pytest.raises(InvalidInputError, match="every is"):
        seconds(text, field="every")
    with pytest.raises(InvalidInputError, match="memory is"):
        mebibytes(text, field="memory")
