from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopwright.data import convert
from loopwright.data.decision import decide_conversions
from loopwright.explore import profile
from loopwright.explore.personal import is_card_number, is_iban, is_phone_number, personal_data

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"

FOUND = {
    "e-mail addresses in 100%": ["ann@example.com", "bob.b+x@mail.example.org"] * 5,
    "IBAN": ["GB82 WEST 1234 5698 7654 32", "DE89370400440532013000"] * 5,
    "card numbers": ["4111 1111 1111 1111", "5500-0000-0000-0004"] * 5,
    "IP addresses": ["192.168.0.1", "10.0.0.255"] * 5,
    "phone numbers": ["+1 206 555 0100", "(206) 555-0100", "+4930123456"] * 5,
    "street addresses": ["12 Main St", "7B Old Mill Road, Kent", "Hauptstraße 12", "4 Elm Ave."]
    * 5,
    "US social security": [f"{100 + n}-{10 + n}-{1000 + n}" for n in range(12)],
    "UK national insurance": ["AB123456C", "JG 10 37 59 A"] * 5,
    "DNI": ["12345678Z", "X1234567L", "00000000T"] * 5,
    "inside": ["call me", "write to ann@example.com please", "no", "why"] * 5,
}
INSIDE = {
    "e-mail addresses": "write to ann@example.com please",
    "bank account numbers (IBAN)": "pay to DE89 3704 0044 0532 0130 00 today",
    "US social security numbers": "her number is 123-45-6789, she says",
    "card numbers": "charged 4111 1111 1111 1111 twice",
    "phone numbers": "call +44 20 7946 0958 or (206) 555-0100",
}
NOT_FOUND = {
    "sizes": ["3 bedrooms", "12 sq ft", "2 way stop"] * 5,
    "orders": ["order 4111 1111 1111 1112 is late", "item 123-45-67890", "AB12 CD34"] * 5,
    "years": ["in 1999-2004 we had 12-31-2004", "from 2001 to 2002"] * 5,
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


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.Decimal(20, 0), pl.Decimal(20, 2)])
def test_card_numbers_are_found_however_numbers_are_stored(dtype: pl.DataType):
    column = pl.Series("pan", [4111111111111111, 5500000000000004, None]).cast(dtype)

    found = personal_data(column)

    assert found == "card numbers in 100% of the values"


def test_a_missing_float_does_not_hide_card_numbers():
    column = pl.Series("pan", [4111111111111111.0, float("nan"), 5500000000000004.0])

    assert personal_data(column) == "card numbers in 100% of the values"


def test_numbers_with_a_fraction_are_no_card_numbers():
    column = pl.Series("x", [411111111111111.5, 550000000000000.25])

    assert personal_data(column) is None


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


@pytest.mark.parametrize("what", INSIDE)
def test_personal_data_is_found_inside_free_text(what: str):
    values = [f"a plain remark on case {n}" for n in range(40)] + [INSIDE[what]]

    assert personal_data(pl.Series("remark", values)) == f"{what} inside 1 of 41 values looked at"


@pytest.mark.parametrize("name", ["account_to", "account", "AccountNumber", "acct no"])
def test_account_numbers_are_told_by_their_name_and_their_digits(name: str):
    numbers = pl.Series(name, [87_144_583 + 977 * n for n in range(50)])

    assert "bank account numbers" in (personal_data(numbers) or "")
    assert "bank account numbers" in (personal_data(numbers.cast(pl.String)) or "")
    assert personal_data(numbers % 7) is None
    assert personal_data(numbers.alias("area_to")) is None


def test_whether_there_is_a_phone_is_nothing_personal():
    column = pl.Series("phone", [True, False])

    assert personal_data(column) is None
    assert not profile(column.to_frame()).findings


def test_a_name_says_nothing_about_a_handful_of_categories():
    assert personal_data(pl.Series("street", ["paved", "gravel"] * 100)) is None


@pytest.mark.parametrize("n_digits", [6, 8, 9, 10, 11, 12, 13, 16])
def test_random_numbers_are_not_taken_for_personal_data(n_digits: int):
    rng = np.random.default_rng(n_digits)

    for _ in range(20):
        numbers = pl.Series("x", rng.integers(10 ** (n_digits - 1), 10**n_digits, 200))
        assert personal_data(numbers) is None
        assert personal_data(numbers.cast(pl.String)) is None


@pytest.mark.skipif(not DATASETS.exists(), reason="the shared data sets are not here")
def test_what_is_found_in_388_real_columns_is_personal():
    found = set()
    for path in DATASETS.glob("*.parquet"):
        raw = pl.scan_parquet(path).head(20_000)
        if raw.collect_schema().names()[0] == "image":
            continue
        frame = convert(raw, decide_conversions(raw)).collect()
        found |= {f"{path.stem}.{c.name}" for c in frame.iter_columns() if personal_data(c)}

    assert found == {
        "berka_client.birth_number",
        "berka_order.account_to",
        "berka_trans.account",
        "sms_spam.text",
    }
