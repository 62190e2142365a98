"""Signs of personal data: values that are e-mail addresses, phone, account or card numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SAMPLE = 1_000
_MOST = 0.5
# one number in ten passes the card checksum by chance
_MOST_CARDS = 0.9
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_PHONE = re.compile(r"\+?[\d\s().\-/]{9,22}")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
_NAMES = re.compile(
    r"(?:first|last|middle|full|given|family|maiden|sur|customer|patient)names?|surname|forename"
    r"|emails?|emailaddress|phone(?:number)?|mobile(?:number)?|telephone|ssn|socialsecuritynumber"
    r"|passport(?:number)?|dob|dateofbirth|birth(?:date|day)|(?:home|street|postal|mailing)address"
    r"|address|street|iban|creditcard(?:number)?|cardnumber"
)


def is_iban(text: str) -> bool:
    """Tell whether text is an account number with a right checksum (ISO 13616).

    Examples
    --------
    >>> is_iban("GB82 WEST 1234 5698 7654 32"), is_iban("GB82 WEST 1234 5698 7654 33")
    (True, False)
    """
    text = text.replace(" ", "").upper()
    if not _IBAN.fullmatch(text):
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


_SIGNS: tuple[tuple[str, Callable[[str], bool], float], ...] = (
    ("e-mail addresses", is_email, _MOST),
    ("bank account numbers (IBAN)", is_iban, _MOST),
    ("card numbers", is_card_number, _MOST_CARDS),
    ("IP addresses", is_ip_address, _MOST),
    ("phone numbers", is_phone_number, _MOST),
)


def personal_data(column: pl.Series) -> str | None:
    """Return what personal data the values or the name of a column look like; None for none.

    Values are judged on a sample of a thousand distinct ones; of text, e-mail addresses are found
    inside longer values too.

    Examples
    --------
    >>> import polars as pl
    >>> personal_data(pl.Series("contact", ["ann@example.com", "bob@example.com"]))
    'e-mail addresses in 100% of the values'
    """
    if column.dtype == pl.String or column.dtype.is_integer():
        if column.dtype.is_integer() and (column.len() == 0 or (column.max() or 0) < 10**12):  # type: ignore[operator]
            return _by_name(column.name)
        values = column.drop_nulls().head(20 * _SAMPLE).unique(maintain_order=True).head(_SAMPLE)
        texts = [str(value).strip() for value in values]
        for what, test, least in _SIGNS if texts else ():
            share = sum(map(test, texts)) / len(texts)
            if share >= least:
                return f"{what} in {share:.0%} of the values"
        n_inside = sum(1 for text in texts if "@" in text and _EMAIL.search(text))
        if n_inside:
            return f"e-mail addresses inside {n_inside:,} of {len(texts):,} values looked at"
    return _by_name(column.name)


def _by_name(name: str) -> str | None:
    plain = re.sub(r"[^a-z]", "", name.lower())
    return f"personal data by its name, {name!r}" if _NAMES.fullmatch(plain) else None
