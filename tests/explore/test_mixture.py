from __future__ import annotations

import polars as pl
import pytest

from loopwright.explore import Finding, profile
from loopwright.explore.mixture import find_mixture


def mixed(values: list[str | None]) -> Finding | None:
    frame = pl.DataFrame({"x": values * 40, "y": range(40 * len(values))})
    found = [f for f in profile(frame, target="y").findings if f.kind == "mixed"]
    return found[0] if found else None


def test_dates_in_three_formats_are_a_warning_that_shows_each():
    finding = mixed(["2020-01-31", "31/01/2020", "Jan 31, 2020", None])

    assert finding is not None
    assert finding.severity == "warning"
    assert (
        finding.evidence
        == "It holds dates written in 3 ways, such as '2020-01-31', '31/01/2020', 'Jan 31, 2020'."
    )


def test_numbers_with_a_few_words_among_them_are_a_warning_that_shows_the_words():
    finding = mixed(["1.5", "2", "-3e5", "n/a"])

    assert finding is not None
    assert finding.severity == "warning"
    assert "3 of the 4 values looked at are numbers" in finding.evidence
    assert "'n/a'" in finding.evidence


@pytest.mark.parametrize(
    "values", [["1", "2", "3"], ["2020-01-31 10:00:00", "2020-02-01", "2021-1-1"]]
)
def test_plain_numbers_and_dates_as_text_are_told_without_alarm(values: list[str]):
    finding = mixed(list(values))

    assert finding is not None
    assert finding.severity == "info"


@pytest.mark.parametrize(
    "values",
    [
        ["Kent", "Renton", "Ballard"],
        ["A12", "B7", "C99"],
        ["250.1", "V45", "E11", "F32"],
        ["12 Main Street", "7 Oak Road", "1 Elm Way"],
        ["3", "4"],
        ["", " ", "?"],
    ],
)
def test_words_codes_and_addresses_are_no_mixture(values: list[str]):
    assert find_mixture(values) is None


def kinds_and_findings(name: str, values: list[str]) -> tuple[str, set[str]]:
    frame = pl.DataFrame({name: values, "y": range(len(values))})
    found = profile(frame, target="y")
    return (
        next(column.kind for column in found.columns if column.name == name),
        {finding.kind for finding in found.findings if finding.column == name},
    )


def test_numbers_written_as_text_are_no_identifier_unless_they_are_nothing_but_digits():
    prices = [f"{n / 7:.3f}" for n in range(300)]
    moments = [f"{n % 28 + 1}/03/2024 {n % 24}:{n % 60:02}" for n in range(300)]
    numbers = [str(70_000 + 13 * n) for n in range(300)]

    assert kinds_and_findings("price", prices) == ("text", {"mixed"})
    assert kinds_and_findings("seen", moments) == ("text", {"mixed"})
    assert kinds_and_findings("order_id", prices)[1] == {"identifier"}
    assert kinds_and_findings("ref", numbers) == ("identifier", {"identifier"})


def test_a_missing_identifier_is_not_to_be_filled():
    frame = pl.DataFrame({"ref": [None, *(f"c-{n}" for n in range(299))], "y": range(300)})

    finding = next(f for f in profile(frame, target="y").findings if f.kind == "missing")

    assert "Fill it" not in finding.recommendation
    assert "find out" in finding.recommendation
