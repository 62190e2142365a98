from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.explore.personal import is_card_number, is_iban, is_phone_number, personal_data

FOUND = {
    "e-mail addresses in 100%": ["ann@example.com", "bob.b+x@mail.example.org"] * 5,
    "IBAN": ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000"] * 5,
    "card numbers": ["4111 1111 1111 1111", "5500-0000-0000-0004"] * 5,
    "IP addresses": ["192.168.0.1", "10.0.0.255"] * 5,
    "phone numbers": ["+1 206 555 0100", "(206) 555-0100", "+4930123456"] * 5,
    "inside": ["call me", "write to ann@example.com please", "no", "why"] * 5,
}
NOT_FOUND = {
    "dates": ["2014-10-13", "2015-01-02"] * 5,
    "moments": ["2014-10-13 09:08:07"] * 5,
    "wrong checksums": ["GB82WEST12345698765431", "4111111111111112"] * 5,
    "plain digits": ["2065550100", "2065550101"] * 5,
    "handles": ["@ann", "@bob"] * 5,
    "versions": ["1.2.3", "1.2.4"] * 5,
}


@pytest.mark.parametrize("what", FOUND)
def test_personal_data_is_told_by_its_values(what: str):
    found = personal_data(pl.Series("x", FOUND[what]))

    assert found is not None
    assert what in found


@pytest.mark.parametrize("what", NOT_FOUND)
def test_other_values_are_not_taken_for_personal_data(what: str):
    assert personal_data(pl.Series("x", NOT_FOUND[what])) is None


def test_card_numbers_held_as_whole_numbers_are_found():
    assert "card numbers" in (personal_data(pl.Series("n", [4111111111111111] * 3)) or "")
    assert personal_data(pl.Series("n", [1234567890123456, 1234567890123457])) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("first_name", True),
        ("LastName", True),
        ("date of birth", True),
        ("E-Mail", True),
        ("street", True),
        ("product_name", False),
        ("street_width", False),
        ("price", False),
    ],
)
def test_personal_data_is_told_by_the_name_of_a_column(name: str, expected: bool):
    assert (personal_data(pl.Series(name, ["x", "y"])) is not None) == expected


@given(st.integers(10**11, 10**18 - 1))
def test_one_last_digit_makes_any_number_a_card_number(stem: int):
    valid = [f"{stem}{digit}" for digit in range(10) if is_card_number(f"{stem}{digit}")]

    assert len(valid) == 1


@given(st.from_regex(r"[A-Z0-9]{11,20}", fullmatch=True))
def test_changing_one_digit_breaks_an_account_number(account: str):
    stem = "".join(str(int(c, 36)) for c in account + "GB00")
    iban = f"GB{98 - int(stem) % 97:02}{account}"

    assert is_iban(iban)
    assert not is_iban(f"GB{iban[3]}{iban[2]}{account}") or iban[2] == iban[3]


def test_a_phone_number_is_not_an_address_of_the_internet():
    assert is_phone_number("206.555.0100")
    assert not is_phone_number("192.168.100.200")
