from __future__ import annotations

import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.explore import profile, profile_page, profile_summary
from loopwright.explore.mask import masked_value

N = 120
CARDS = [4111111111111111, 5500000000000004, 4012888888881881] * (N // 3)
MAILS = [f"ann{n}@example.org" for n in range(N)]
IBANS = ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000"] * (N // 2)
PEOPLE = [
    f"{first} {last}"
    for first in ("Anna", "Peter", "Maria", "Hans")
    for last in ("Smith", "Jones", "Novak")
] * (N // 12)


@pytest.mark.parametrize(
    ("values", "secrets"),
    [
        (CARDS, CARDS[:3]),
        ([float(card) for card in CARDS], CARDS[:3]),
        (list(map(str, CARDS)), CARDS[:3]),
        (MAILS, MAILS[:3]),
        (IBANS, IBANS[:2]),
        (PEOPLE, ["Smith", "Anna"]),
    ],
)
def test_no_profile_shows_the_personal_data_that_it_warns_of(
    values: list[object], secrets: list[object]
):
    found = profile(pl.DataFrame({"x": values, "y": [n % 2 for n in range(N)]}), target="y")

    said = [profile_page(found), json.dumps(found.to_json()), *profile_summary(found)]

    assert "personal_data" in {finding.kind for finding in found.findings}
    assert not [secret for secret in secrets if any(str(secret) in text for text in said)]


def test_dates_of_birth_are_told_by_their_years():
    born = pl.Series("geburtsdatum", [f"19{n % 90 + 10}-05-17" for n in range(N)]).str.to_date()

    date = profile(born.to_frame()).columns[0].date

    assert date is not None
    assert (date.first, date.last) == ("1910", "1999")


def test_values_that_are_not_personal_are_shown_in_full():
    found = profile(pl.DataFrame({"town": ["Springfield", "Shelbyville"] * 9}))

    assert {each.value for each in found.columns[0].top} == {"Springfield", "Shelbyville"}


@given(st.text(min_size=6, max_size=60).filter(lambda text: "@" not in text))
def test_a_masked_value_holds_six_characters_at_most_of_any_other(text: str):
    shown = masked_value(text)

    assert shown == f"({len(text.strip())} characters)" or len(shown) <= 7
