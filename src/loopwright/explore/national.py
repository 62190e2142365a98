"""Numbers that states give to people, told by their form and, where they have one, their checksum."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

_SSN = re.compile(r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}")
_NINO = re.compile(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]")
_DNI = re.compile(r"[XYZ\d]\d{7}[A-Z]")
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_BIRTH_NUMBER = re.compile(r"\d{6}/?\d{3,4}")
_PESEL_WEIGHTS = (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)
_BSN_WEIGHTS = (9, 8, 7, 6, 5, 4, 3, 2, -1)
# women have 50 added to their month, and both 20 once the numbers of a day were used up (2004)
_MONTHS_ADDED = (0, 50, 20, 70)


@dataclass(frozen=True, slots=True, kw_only=True)
class NationalId:
    """A kind of number for people.

    Parameters
    ----------
    is_one
        Tells whether a text, trimmed, is one.
    least
        Share of the values that have to be, because some are by chance.
    n_digits
        Digits it has when it is stored as a whole number, which loses leading zeros; 0 for one that
        is never all digits, or says nothing without its separators.
    """

    name: str
    is_one: Callable[[str], bool]
    least: float
    n_digits: int = 0


def is_us_ssn(text: str) -> bool:
    """Tell whether text is written as a US social security number; it has no checksum.

    Examples
    --------
    >>> is_us_ssn("123-45-6789"), is_us_ssn("666-45-6789"), is_us_ssn("123456789")
    (True, False, False)
    """
    return bool(_SSN.fullmatch(text))


def is_uk_nino(text: str) -> bool:
    """Tell whether text is written as a UK national insurance number; it has no checksum.

    Examples
    --------
    >>> is_uk_nino("AB 12 34 56 C"), is_uk_nino("QQ123456C")
    (True, False)
    """
    return bool(_NINO.fullmatch(text.replace(" ", "").upper()))


def is_spanish_dni(text: str) -> bool:
    """Tell whether text is a Spanish DNI or NIE with its right letter (number modulo 23).

    Examples
    --------
    >>> is_spanish_dni("12345678Z"), is_spanish_dni("X1234567L"), is_spanish_dni("12345678A")
    (True, True, False)
    """
    plain = text.replace("-", "").replace(" ", "").upper()
    if not (plain.isascii() and _DNI.fullmatch(plain)):
        return False
    first = str("XYZ".find(plain[0])) if plain[0] in "XYZ" else plain[0]
    return _DNI_LETTERS[int(first + plain[1:8]) % 23] == plain[8]


def is_polish_pesel(text: str) -> bool:
    """Tell whether text is a Polish PESEL: a date of birth, a number, a checksum.

    Examples
    --------
    >>> is_polish_pesel("44051401359"), is_polish_pesel("44051401358")
    (True, False)
    """
    if not _are_digits(text, 11):
        return False
    digits = [int(digit) for digit in text]
    month = int(text[2:4])
    # 80 is added to months of the 1800s, 20 of the 2000s, 40 of the 2100s, 60 of the 2200s
    century = {4: 1800, 0: 1900, 1: 2000, 2: 2100, 3: 2200}[month // 20]
    checked = sum(w * d for w, d in zip(_PESEL_WEIGHTS, digits, strict=True)) % 10 == 0
    return checked and _is_date(century + int(text[:2]), month % 20, int(text[4:6]))


def is_dutch_bsn(text: str) -> bool:
    """Tell whether text is a Dutch BSN: nine digits that pass the test of eleven.

    Examples
    --------
    >>> is_dutch_bsn("111222333"), is_dutch_bsn("111222334"), is_dutch_bsn("000000000")
    (True, False, False)
    """
    plain = text.replace(".", "")
    if not _are_digits(plain, 9) or plain.startswith("00"):
        return False
    return sum(w * int(d) for w, d in zip(_BSN_WEIGHTS, plain, strict=True)) % 11 == 0


def is_czech_birth_number(text: str) -> bool:
    """Tell whether text is a Czech or Slovak birth number: a date, a number, divisible by eleven.

    Those from before 1954 have nine digits and no checksum; they count only with their slash.

    Examples
    --------
    >>> is_czech_birth_number("736028/5163"), is_czech_birth_number("7360285163")
    (True, True)
    >>> is_czech_birth_number("736028/5164"), is_czech_birth_number("531231/123")
    (False, True)
    """
    if not (text.isascii() and _BIRTH_NUMBER.fullmatch(text)):
        return False
    plain = text.replace("/", "")
    year, month, day = int(plain[:2]), int(plain[2:4]), int(plain[4:6])
    if len(plain) == 9:
        if year > 53 or "/" not in text:
            return False
        year += 1900
    else:
        # until 1985 a remainder of ten was written as a last digit of nought
        odd = int(plain[:9]) % 11 == 10 and plain[9] == "0"
        if int(plain) % 11 and not odd:
            return False
        year += 1900 if year >= 54 else 2000
    return any(_is_date(year, month - added, day) for added in _MONTHS_ADDED)


def _are_digits(text: str, n: int) -> bool:
    return len(text) == n and text.isascii() and text.isdigit()


def _is_date(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


NATIONAL_IDS: tuple[NationalId, ...] = (
    NationalId(name="US social security numbers", is_one=is_us_ssn, least=0.5),
    NationalId(name="UK national insurance numbers", is_one=is_uk_nino, least=0.5),
    # 1 in 23 has the right letter by chance
    NationalId(name="Spanish identity numbers (DNI)", is_one=is_spanish_dni, least=0.5),
    NationalId(
        name="Polish identity numbers (PESEL)", is_one=is_polish_pesel, least=0.5, n_digits=11
    ),
    NationalId(
        name="Czech or Slovak birth numbers", is_one=is_czech_birth_number, least=0.5, n_digits=10
    ),
    # 1 in 11 passes by chance
    NationalId(
        name="Dutch citizen service numbers (BSN)", is_one=is_dutch_bsn, least=0.9, n_digits=9
    ),
)
