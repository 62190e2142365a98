"""A table of ground truth: its columns are found or named in the error, its times are read."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from loopwright.core.errors import InvalidInputError
from loopwright.notebook.label_rows import label_pairs

NOW = datetime(2026, 5, 2, 12, tzinfo=UTC)


def test_a_table_without_times_was_known_now() -> None:
    found = label_pairs([{"inference_id": "a", "label": "yes"}], key="inference_id", now=NOW)

    assert found == ([("a", "yes")], False, [NOW])


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ("2026-05-01T10:00:00Z", datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("2026-05-01 12:00+02:00", datetime(2026, 5, 1, 10, tzinfo=UTC)),
        ("2026-05-01", datetime(2026, 5, 1, tzinfo=UTC)),
        (date(2026, 5, 1), datetime(2026, 5, 1, tzinfo=UTC)),
        (datetime(2026, 5, 1, 10), datetime(2026, 5, 1, 10, tzinfo=UTC)),  # noqa: DTZ001
        (NOW + timedelta(days=900), NOW),
        (None, NOW),
        ("", NOW),
    ],
)
def test_a_label_counts_from_when_it_became_known_and_never_from_the_future(
    said: object, moment: datetime
) -> None:
    rows = [{"customer": 7, "label": 1.0, "at": said}]

    assert label_pairs(rows, key="customer", now=NOW) == ([(7, 1.0)], True, [moment])


def test_columns_that_are_missing_are_named_beside_those_there_are() -> None:
    with pytest.raises(InvalidInputError) as error:
        label_pairs([{"id": "a", "what": "yes"}], key="customer", now=NOW)

    assert "'inference_id'; they have id, what" in error.value.message
    assert "(or customer)" in error.value.hint


@pytest.mark.parametrize("said", ["yesterday", 5, "2026-13-01"])
def test_a_time_that_is_none_is_refused_with_its_row(said: object) -> None:
    rows = [{"inference_id": "a", "label": 1}, {"inference_id": "b", "label": 1, "at": said}]

    with pytest.raises(InvalidInputError, match="'at' of label 1") as error:
        label_pairs(rows, key="inference_id", now=NOW)

    assert error.value.facts["row"] == 1
