"""Signs of personal data: names, addresses, and phone, account, card and identity numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.explore.national import NATIONAL_IDS, is_us_ssn
from loopwright.explore.person import folded, names_people, people_among

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SAMPLE = 1_000
_MOST = 0.5
# one number in ten passes the card checksum by chance
_MOST_CARDS = 0.9
_FEWEST_NUMBERS = 10
_FEWEST_DIGITS = 5
_FEWEST_ACCOUNTS = 20
_MANY_ROWS = 100
_FEW_VALUES = 10
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(r"\+?[\d\s().\-/]{9,22}")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_LETTER = re.compile(r"[^\W\d_]")
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_NAMES = re.compile(
    r"phone(?:number)?|mobile(?:number)?|telephone|ssn|socialsecuritynumber"
    r"|passport(?:number)?|dob|dateofbirth|birth(?:date|day)|(?:home|street|postal|mailing)address"
    r"|address|street|iban|creditcard(?:number)?|cardnumber|birthnumber|nationalid(?:number)?"
    r"|nino|pesel|bsn|dni|rodnecislo|taxid|taxnumber|driverslicen[cs]e|driverlicen[cs]e"
)
_ACCOUNTS = re.compile(
    r"(?:bank)?(?:account|acct)(?:number|num|no|nr|nbr|to|from)?|(?:to|from)(?:account|acct)"
    r"|(?:sender|receiver|beneficiary|counterparty|partner)account|kontonummer|numcuenta"
)
_STREET = re.compile(
    r"\d{1,5}[A-Za-z]?,? (?:[NSEW]{1,2}\.? )?(?:[\w.'’-]+ ){1,4}"
    r"(?:st|street|ave|avenue|rd|road|blvd|boulevard|lane|ln|dr|drive|court|ct|way|place|pl|square"
    r"|sq|terrace|crescent|close|highway|hwy|parkway|pkwy)\b\.?"
    r"|[^\W\d_][\w.'’ -]*(?:str(?:aße|asse|\.)|gasse|weg|platz|allee|straat|laan|gatan|vägen) "
    r"\d{1,4} ?[a-z]?\b"
    r"|(?:\d{1,4},? )?(?:rue|avenue|boulevard|calle|via|ulica|ul\.|place|piazza|plaza) "
    r"(?:[^\W\d_][\w.'’-]* ?){1,5}(?:,? ?\d{1,4})?",
    re.IGNORECASE,
)
_PHONE_INSIDE = re.compile(
    r"(?<![\w+])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){1,3}"
    r"|\(\d{3}\) ?\d{3}[ .-]\d{4}|\d{3}[.-]\d{3}[.-]\d{4}|0\d{9,10})(?!\w)"
)
_SSN_INSIDE = re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])")
_IBAN_INSIDE = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b")
_CARD_INSIDE = re.compile(r"(?<![\d-])\d(?:[ -]?\d){12,18}(?![\d-])")


def is_iban(text: str) -> bool:
    """Tell whether text is an account number with a right checksum (ISO 13616).

    Examples
    --------
    >>> is_iban("GB82 WEST 1234 5698 7654 32"), is_iban("GB82 WEST 1234 5698 7654 33")
    (True, False)
    """
    text = text.replace(" ", "").upper()
    if not text.isascii() or not _IBAN.fullmatch(text):
        return False
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def is_card_number(text: str) -> bool:
    """Tell whether text is 13 to 19 digits with a right checksum (Luhn; ISO/IEC 7812).

    Examples
    --------
    >>> is_card_number("4111 1111 1111 1111"), is_card_number("4111 1111 1111 1112")
    (True, False)
    """
    digits = text.replace(" ", "").replace("-", "")
    if not (13 <= len(digits) <= 19 and digits.isascii() and digits.isdigit()):
        return False
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(int(digit) for digit in digits[::-2])) % 10 == 0


def is_email(text: str) -> bool:
    """Tell whether text is an e-mail address."""
    return bool(_EMAIL.fullmatch(text))


def is_phone_number(text: str) -> bool:
    """Tell whether text is 9 to 15 digits written as phone numbers are, with a plus or separators."""
    n_digits = sum(character.isdigit() for character in text)
    written = text.startswith("+") or len(re.findall(r"[\s().\-/]+", text)) >= 2
    return (
        9 <= n_digits <= 15 and written and bool(_PHONE.fullmatch(text)) and not _IP.fullmatch(text)
    )


def is_ip_address(text: str) -> bool:
    """Tell whether text is an IPv4 address."""
    return bool(_IP.fullmatch(text)) and all(int(part) < 256 for part in text.split("."))


def is_street_address(text: str) -> bool:
    """Tell whether text begins as a street and a house number do, as written in several countries.

    Examples
    --------
    >>> is_street_address("221B Baker Street, London"), is_street_address("Hauptstraße 12")
    (True, True)
    >>> is_street_address("2 bedrooms"), is_street_address("way 2 go")
    (False, False)
    """
    return bool(_STREET.match(text))


def _n_digits(text: str) -> int:
    return sum(character.isdigit() for character in text)


_SIGNS: tuple[tuple[str, Callable[[str], bool], float], ...] = (
    ("e-mail addresses", is_email, _MOST),
    ("bank account numbers (IBAN)", is_iban, _MOST),
    ("card numbers", is_card_number, _MOST_CARDS),
    ("IP addresses", is_ip_address, _MOST),
    ("street addresses", is_street_address, _MOST),
    *((each.name, each.is_one, each.least) for each in NATIONAL_IDS),
    ("phone numbers", is_phone_number, _MOST),
)
_INSIDE: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("e-mail addresses", _EMAIL, is_email),
    ("bank account numbers (IBAN)", _IBAN_INSIDE, is_iban),
    ("US social security numbers", _SSN_INSIDE, is_us_ssn),
    ("card numbers", _CARD_INSIDE, is_card_number),
    ("phone numbers", _PHONE_INSIDE, lambda text: _n_digits(text) >= 9),
)


def personal_data(column: pl.Series) -> str | None:
    """Return what personal data the values or the name of a column look like; None for none.

    Values are judged on a sample of a thousand distinct ones; of text, addresses and numbers are
    found inside longer values too.

    Examples
    --------
    >>> import polars as pl
    >>> personal_data(pl.Series("contact", ["ann@example.com", "bob@example.com"]))
    'e-mail addresses in 100% of the values'
    """
    if column.dtype == pl.Boolean:  # whether there is a phone is not its number
        return None
    return personal_values(
        column.name,
        sample_values(column),
        n_rows=column.len(),
        is_text=column.dtype == pl.String,
    )


def sample_values(column: pl.Series) -> list[str]:
    """Return up to a thousand distinct texts or whole numbers of a column, from its first rows.

    Numbers count only where all of them are whole, however they are stored; of all else there are
    none.
    """
    dtype = column.dtype
    if dtype != pl.String and not dtype.is_numeric():
        return []
    values = column.drop_nulls().head(20 * _SAMPLE)
    if dtype.is_float():
        values = values.filter(values.is_finite())
    values = values.unique(maintain_order=True).head(_SAMPLE)
    if dtype == pl.String or dtype.is_integer():
        return [str(value).strip() for value in values]
    numbers = values.to_list()
    return [f"{value:.0f}" for value in numbers] if all(n % 1 == 0 for n in numbers) else []


def personal_values(name: str, texts: list[str], *, n_rows: int, is_text: bool) -> str | None:
    """Return what personal data a column looks like, from a sample of its values as text."""
    if not texts:
        return _by_name(name)
    found = _by_whole_value(texts) if is_text else _by_whole_number(texts)
    # a `street` that is either paved or not tells nobody where anyone lives
    says_little = n_rows >= _MANY_ROWS and len(texts) <= _FEW_VALUES
    return (
        found
        or (None if says_little else _by_name(name))
        or (people_among(name, texts) if is_text and not says_little else None)
        or _by_account(name, texts)
        or (_inside(texts) if is_text else None)
    )


def _by_whole_value(texts: list[str]) -> str | None:
    # most columns of words are told from the others by having neither digits nor an at sign
    telling = [text for text in texts if "@" in text or _n_digits(text)]
    if len(telling) < _MOST * len(texts):
        return None
    for what, test, least in _SIGNS:
        share = _share(test, telling, of=len(texts), least=least)
        # the digits of a number that is nothing but digits may pass a checksum by chance
        if share >= least and (least == _MOST or "card" in what or len(texts) >= _FEWEST_NUMBERS):
            return f"{what} in {share:.0%} of the values"
    return None


def _by_whole_number(texts: list[str]) -> str | None:
    for national in NATIONAL_IDS:
        n = national.n_digits
        if n and len(texts) >= _FEWEST_NUMBERS and max(map(len, texts)) == n:
            least = max(national.least, _MOST_CARDS)
            padded = [text.zfill(n) for text in texts]
            share = _share(national.is_one, padded, of=len(texts), least=least)
            if share >= least:
                return f"{national.name} in {share:.0%} of the values"
    share = _share(is_card_number, texts, of=len(texts), least=_MOST_CARDS)
    return f"card numbers in {share:.0%} of the values" if share >= _MOST_CARDS else None


def _share(test: Callable[[str], bool], texts: Sequence[str], *, of: int, least: float) -> float:
    """Return the share of `of` values that pass; 0 as soon as it cannot reach `least` any more."""
    n_passed = 0
    for place, text in enumerate(texts):
        n_passed += test(text)
        if n_passed + len(texts) - place - 1 < least * of:
            return 0.0
    return n_passed / of


def _inside(texts: list[str]) -> str | None:
    """Return what stands inside longer text, the surest first."""
    # a column of plain numbers has been judged whole: one in ten passes a checksum by chance
    longer = [text for text in texts if "@" in text or (" " in text and _LETTER.search(text))]
    for what, pattern, test in _INSIDE:
        n_inside = sum(
            1 for text in longer if any(test(match[0]) for match in pattern.finditer(text))
        )
        if n_inside:
            return f"{what} inside {n_inside:,} of {len(texts):,} values looked at"
    return None


def _by_name(name: str) -> str | None:
    says = names_people(name) or _NAMES.fullmatch(folded(name))
    return f"personal data by its name, {name!r}" if says else None


def _by_account(name: str, texts: list[str]) -> str | None:
    """Return a sign if the name speaks of accounts and the values are long whole numbers."""
    if len(texts) < _FEWEST_ACCOUNTS or not _ACCOUNTS.fullmatch(folded(name)):
        return None
    long = [text for text in texts if len(text) >= _FEWEST_DIGITS and _is_number(text)]
    if len(long) < _MOST * len(texts):
        return None
    return f"bank account numbers by its name, {name!r}, and its long whole numbers"


def _is_number(text: str) -> bool:
    return text.replace("-", "").replace("/", "").replace(" ", "").isdigit()
