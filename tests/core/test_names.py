from __future__ import annotations

import re
import time

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import checked_name, did_you_mean, nearest, new_id


@pytest.mark.parametrize(
    "name",
    ["", "..", "a/b", "a\\b", "A", "-a", "a-", "a" * 64, "a\x00b", "a b", "\u202eabc", "a.", "é"],
)
def test_names_that_could_leave_their_folder_are_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot name a loop"):
        checked_name(name, what="loop")


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    assert nearest("chrun", ["churn", "houses"]) == "churn"
    assert did_you_mean("chrun", ["churn", "houses"]) == "Did you mean 'churn'?"
    assert did_you_mean("xyz", []) == "There are none yet."


def test_ids_sort_by_the_time_they_were_made() -> None:
    first = new_id()
    time.sleep(0.002)
    second = new_id()

    assert first < second
    assert re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}", first)
