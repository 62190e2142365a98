from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.explore.national import (
    NATIONAL_IDS,
    is_czech_birth_number,
    is_dutch_bsn,
    is_polish_pesel,
    is_spanish_dni,
    is_uk_nino,
    is_us_ssn,
)
from loopwright.explore.personal import personal_data

births = st.dates(date(1955, 1, 1), date(1999, 12, 31))


def pesel(born: date, number: int) -> str:
    stem = f"{born:%y%m%d}{number:04}"
    total = sum(w * int(d) for w, d in zip((1, 3, 7, 9, 1, 3, 7, 9, 1, 3), stem, strict=True))
    return f"{stem}{-total % 10}"


def birth_number(born: date, number: int, *, woman: bool) -> str:
    stem = f"{born:%y}{born.month + 50 * woman:02}{born.day:02}{number:03}"
    return stem + str(int(stem) % 11 % 10)


@given(births, st.integers(0, 9_999))
def test_a_right_pesel_is_one_and_another_last_digit_makes_it_wrong(born: date, number: int):
    right = pesel(born, number)

    assert is_polish_pesel(right)
    assert not is_polish_pesel(right[:-1] + str((int(right[-1]) + 1) % 10))


@given(births, st.integers(0, 999), st.booleans())
def test_a_right_birth_number_is_one_with_or_without_its_slash(born: date, n: int, woman: bool):
    right = birth_number(born, n, woman=woman)

    assert is_czech_birth_number(right)
    assert is_czech_birth_number(f"{right[:6]}/{right[6:]}")
    assert not is_czech_birth_number(right[:2] + "99" + right[4:])


@given(st.integers(0, 99_999_999))
def test_one_letter_in_23_fits_a_dni(number: int):
    fits = [
        letter for letter in "TRWAGMYFPDXBNJZSQVHLCKE" if is_spanish_dni(f"{number:08}{letter}")
    ]

    assert len(fits) == 1


@given(st.integers(10_000_00, 99_999_999))
def test_at_most_one_last_digit_fits_a_bsn(number: int):
    assert sum(is_dutch_bsn(f"{number:08}{digit}") for digit in range(10)) <= 1


@pytest.mark.parametrize(
    ("is_one", "wrong"),
    [
        (is_us_ssn, ["000-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "123-456789"]),
        (is_uk_nino, ["DA123456A", "BG123456A", "AB123456E", "AB12345C", "AO123456C"]),
        (is_spanish_dni, ["12345678", "W1234567L", "12345678I", ""]),
        (is_polish_pesel, ["44951401359", "44053201359", "4405140135", "４４０５１４０１３５９"]),
        (is_dutch_bsn, ["11122233", "001112223", "1112223334"]),
        (is_czech_birth_number, ["7360285163x", "736028-5163", "541231/123", "531231123"]),
    ],
)
def test_numbers_of_the_wrong_form_are_refused(is_one, wrong: list[str]):
    assert [text for text in wrong if is_one(text)] == []


def test_numbers_stored_whole_are_found_without_their_leading_zeros():
    born = [date(1970 + n % 29, 1 + n % 12, 1 + n % 28) for n in range(60)]
    columns = {
        "Polish": [int(pesel(each, 37 * n)) for n, each in enumerate(born)],
        "Czech": [int(birth_number(each, 7 * n, woman=n % 2 == 1)) for n, each in enumerate(born)],
        "Dutch": [n for n in range(90_000_000, 200_000_000, 123_457) if is_dutch_bsn(f"{n:09}")],
    }

    for what, numbers in columns.items():
        for values in (pl.Series("x", numbers), pl.Series("x", numbers).cast(pl.String)):
            padded = values.cast(pl.String).str.zfill({"Polish": 11, "Czech": 10, "Dutch": 9}[what])
            assert what in (personal_data(padded) or ""), what
        assert what in (personal_data(pl.Series("x", numbers)) or ""), what


def test_every_kind_states_how_many_have_to_fit():
    assert all(0 < each.least <= 1 for each in NATIONAL_IDS)
