"""What is shown of a column of personal data: enough to recognise its sort, too little to name anyone."""

from __future__ import annotations

from dataclasses import replace

from loopwright.explore.column import ColumnProfile
from loopwright.explore.spread import Histogram, NumberSummary

_LONG = 13
_DIGITS = 2


def masked(column: ColumnProfile) -> ColumnProfile:
    """Return a profile without the values: frequent ones masked, numbers rounded, dates as years."""
    number, histogram, date = column.number, column.histogram, column.date
    return replace(
        column,
        top=tuple(replace(each, value=masked_value(each.value)) for each in column.top),
        order=(),
        number=None if number is None else _rounded(number),
        histogram=None
        if histogram is None
        else Histogram(
            edges=tuple(_in_short(edge) for edge in histogram.edges), counts=histogram.counts
        ),
        date=None if date is None else replace(date, first=date.first[:4], last=date.last[:4]),
    )


def masked_value(value: str) -> str:
    """Return the little of a value that may be shown.

    Of an e-mail address its first letter and the host; of an account or card number the first four
    characters and the last two; of text with blanks how long it is; of all else the first character.

    Examples
    --------
    >>> masked_value("DE08370400440532000037"), masked_value("ann@example.org")
    ('DE08…37', 'a…@example.org')
    >>> masked_value("Anna Smith"), masked_value("4111 1111 1111 1111"), masked_value("Smith")
    ('(10 characters)', '4111…11', 'S…')
    """
    text = value.strip()
    name, at, host = text.partition("@")
    if at and " " not in text and "@" not in host:
        return f"{name[:1]}…@{host}"
    together = "".join(character for character in text if character.isalnum())
    n_digits = sum(character.isdigit() for character in together)
    if len(together) >= _LONG and 2 * n_digits > len(together):
        return f"{together[:4]}…{together[-2:]}"
    if " " in text:
        return f"({len(text)} characters)"
    return f"{text[:1]}…"


def _rounded(number: NumberSummary) -> NumberSummary:
    return replace(
        number,
        mean=None if number.mean is None else _in_short(number.mean),
        sd=None if number.sd is None else _in_short(number.sd),
        minimum=_in_short(number.minimum),
        maximum=_in_short(number.maximum),
        quantiles={name: _in_short(value) for name, value in number.quantiles.items()},
    )


def _in_short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
