"""Lists of many records: the same pages as before, and no more looks at jobs than a page needs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given as cases
from hypothesis import settings
from hypothesis import strategies as st

from loopwright.sagemaker.shelf import page_of, page_of_jobs
from loopwright.store import Record

START = datetime(2026, 1, 1, tzinfo=UTC)
LOOKED: list[str] = []


def record(name: str, minute: int, status: str) -> Record:
    at = START + timedelta(minutes=minute)
    body = {"name": name, "status": status}
    return Record(kind="k", key=name, version=1, body=body, created_at=at, updated_at=at)


def summary(found: Record) -> dict[str, Any]:
    LOOKED.append(found.key)
    return {
        "JobName": found.body["name"],
        "JobStatus": found.body["status"],
        "CreationTime": found.created_at,
        "LastModifiedTime": found.created_at + timedelta(minutes=1),
    }


def pages(list_: Any, records: list[Record], given: dict[str, Any]) -> list[list[str]]:
    found, token = [], None
    while True:
        asked = {**given, **({"NextToken": token} if token else {})}
        page, token = list_(records, asked, summary=summary, name="JobName", status="JobStatus")
        found.append([each["JobName"] for each in page])
        if token is None:
            return found


@cases(
    st.lists(
        st.tuples(st.text("abC", min_size=1, max_size=3), st.integers(0, 4), st.sampled_from("xy")),
        unique_by=lambda each: each[0],
        max_size=12,
    ),
    st.fixed_dictionaries(
        {"MaxResults": st.integers(1, 5)},
        optional={
            "SortBy": st.sampled_from(["Name", "CreationTime", "Status"]),
            "SortOrder": st.sampled_from(["Ascending", "Descending"]),
            "NameContains": st.sampled_from(["a", "c", "ab"]),
            "StatusEquals": st.sampled_from(["x", "y"]),
            "CreationTimeAfter": st.just(START + timedelta(minutes=1)),
            "LastModifiedTimeBefore": st.just(START + timedelta(minutes=4)),
        },
    ),
)
@settings(max_examples=200, deadline=None)
def test_pages_are_those_of_a_list_of_all_summaries(
    rows: list[tuple[str, int, str]], given: dict[str, Any]
) -> None:
    records = [record(*each) for each in rows]

    found, wanted = pages(page_of_jobs, records, given), pages(page_of, records, given)

    # a last page that is empty tells no more than none
    assert [each for each in found if each] == [each for each in wanted if each]


@pytest.mark.parametrize("given", [{}, {"StatusEquals": "x"}, {"NameContains": "job"}])
def test_a_page_looks_at_its_own_jobs_alone(given: dict[str, Any]) -> None:
    records = [record(f"job-{n:04d}", n, "x") for n in range(1000)]
    LOOKED.clear()

    page, token = page_of_jobs(
        records, {"MaxResults": 20, **given}, summary=summary, name="JobName", status="JobStatus"
    )

    assert (len(page), token is not None) == (20, True)
    assert len(LOOKED) <= 21
