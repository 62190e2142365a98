"""What a column means to a model: a number, a category, an identifier, free text, ..."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.prepare.value import find_value_type

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

Kind = Literal[
    "number",
    "category",
    "ordinal",
    "date",
    "text",
    "identifier",
    "constant",
    "boolean",
    "unreadable",
]
"""`explore` gives the same words; `unreadable` is what no step can use, such as lists."""

_CODE = re.compile(
    r"(?i)(?:^|.*_)(?:zip|zipcode|zip_code|postcode|postal_code|code|id)$|.*zipcode$"
)
_IDENTIFIER = re.compile(
    r"(?i)(?:^|.*_)(?:id|uuid|guid|key|index|row|rownum|number|no|nr)$|^unnamed.*"
)
# `customerId` and `customerID`, but not `paid`
_CAMEL_IDENTIFIER = re.compile(r".*[a-z](?:Id|ID|Key|Number|No)$")

_IDENTIFIER_SHARE = 0.9
_LENGTH_OF_NUMBERED_THINGS = 6
_NUMBER_SHARE, _MOST_LEVELS_OF_TEXT = 0.95, 20
_TEXT_LENGTH = 40
_TEXT_LEVEL_SHARE = 0.5


def looks_like_code(name: str) -> bool:
    """Return whether numbers under this name stand for places or things, such as `zipcode`."""
    return bool(_CODE.fullmatch(name) or _CAMEL_IDENTIFIER.fullmatch(name))


def kind_of(column: pl.Series) -> Kind:
    """Return what a column of the training rows means, judged by its values and its name.

    Identifiers are nearly all different and either text without spaces, counted through, or named
    like one. Free text is long or mostly different. A column without any value is constant.
    """
    stored = find_value_type(column.dtype)
    if stored is None:
        return "unreadable"
    values = column.drop_nulls()
    n_levels = values.n_unique()
    if not n_levels or (n_levels == 1 and not column.null_count()):
        return "constant"
    if stored == "boolean":
        return "boolean"
    if stored in ("date", "time"):
        return "date"
    level_share = n_levels / len(values)
    if stored == "text":
        return _kind_of_text(values, level_share)
    if column.dtype.is_integer() and level_share > _IDENTIFIER_SHARE and len(values) > 20:
        named = _IDENTIFIER.fullmatch(column.name) or _CAMEL_IDENTIFIER.fullmatch(column.name)
        if named or _is_counted_through(values, n_levels):
            return "identifier"
    if column.dtype.is_integer() and looks_like_code(column.name):
        return "category"
    return "number"


def _kind_of_text(values: pl.Series, level_share: float) -> Kind:
    sample = values.head(1_000)
    length = sample.cast(pl.String).str.len_chars().mean()
    has_spaces = sample.cast(pl.String).str.contains(" ").sum() > len(sample) / 2
    if isinstance(length, float) and length > _TEXT_LENGTH:
        return "text"
    if level_share > _IDENTIFIER_SHARE and not has_spaces and len(values) > 20:
        return "identifier"
    return "text" if level_share > _TEXT_LEVEL_SHARE and len(values) > 20 else "category"


def is_number_text(values: pl.Series) -> bool:
    """Return whether a text column holds measured numbers: not codes, not a few levels.

    At least 95 % of the values read as numbers, there are more than 20 of them, none begins with a
    zero as codes do (`02134`), and they are not all whole and of one great length, as the numbers
    of accounts and telephones are.
    """
    if find_value_type(values.dtype) != "text" or looks_like_code(values.name):
        return False
    texts = values.drop_nulls().cast(pl.String).str.strip_chars(" ")
    texts = texts.filter(texts != "")
    read = texts.cast(pl.Float64, strict=False)
    if not len(texts) or read.drop_nulls().n_unique() <= _MOST_LEVELS_OF_TEXT:
        return False
    lengths = texts.str.len_chars().unique()
    one_length = len(lengths) == 1 and int(lengths[0]) >= _LENGTH_OF_NUMBERED_THINGS
    if texts.str.contains(r"^-?0\d").any() or (one_length and texts.str.contains(r"^\d+$").all()):
        return False
    return len(read.drop_nulls()) >= _NUMBER_SHARE * len(texts)


def _is_counted_through(values: pl.Series, n_levels: int) -> bool:
    low, high = values.min(), values.max()
    spread = int(high) - int(low) + 1 if isinstance(low, int) and isinstance(high, int) else 0
    # a training split leaves gaps; sales prices and the like leave far wider ones
    return n_levels == len(values) and spread <= 2 * n_levels
