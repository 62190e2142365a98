"""What one column looks like: its kind as people would name it, its spread, its usual values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.lazy import LazyModule
from loopwright.explore.note import ColumnNote
from loopwright.explore.ordinal import is_graded, word_order
from loopwright.explore.spread import (
    N_BINS,
    Histogram,
    NumberSummary,
    are_whole,
    histogram,
    largest_gap,
    number_summary,
    runs,
)
from loopwright.explore.sweep import Sweep, Swept
from loopwright.explore.table import HeldTable

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    pl = LazyModule("polars")
    np = LazyModule("numpy")

Kind = Literal[
    "number", "ordinal", "category", "boolean", "date", "text", "identifier", "constant", "other"
]

N_TOP = 10
N_LEVELS = 20
_DAY_US = 86_400e6
_TEXT_SAMPLE = 2_000
_IDENTIFIER_SHARE = 0.95
_WORDS_OF_TEXT = 3.0

# the last word of a column name that says: this number is a name for something
_CODE_WORDS = re.compile(
    r"(?:customer|user|order|account|patient|product|transaction)?id|ids|key|code|zip|zipcode"
    r"|postcode|postal|plz|account|acct|iban|phone|sku|ean|upc|isbn|fips|ssn|uuid|guid",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopValue:
    """A frequent value, written as text, and its share of the present values."""

    value: str
    n_rows: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DateSummary:
    """The stretch of time a column covers, as ISO text, and its largest hole in days."""

    first: str
    last: str
    n_days: float
    largest_gap_days: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSummary:
    """How long the values of a column of text are, on average over the first two thousand."""

    mean_length: float
    mean_words: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """How strongly a column goes with the target, from 0 (not at all) to 1, and by which measure."""

    value: float
    measure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """All that is known about one column.

    `order` holds the values of an ordinal column of words from the least to the greatest; `note`
    is what people say about the column.
    """

    name: str
    dtype: str
    kind: Kind
    n_missing: int
    missing_share: float
    n_distinct: int
    number: NumberSummary | None = None
    date: DateSummary | None = None
    text: TextSummary | None = None
    histogram: Histogram | None = None
    top: tuple[TopValue, ...] = ()
    association: Association | None = None
    order: tuple[str, ...] = ()
    note: ColumnNote | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """How much is kept of a column: bars of its histogram, frequent values."""

    n_bins: int = N_BINS
    n_top: int = N_TOP


_FULL = Detail()


def profile_column(column: pl.Series, note: ColumnNote | None = None) -> ColumnProfile:
    """Return the profile of one column, without its association to a target."""
    sweep = Sweep(HeldTable(column.to_frame()), np.empty(0, dtype=np.int64))
    return profile_swept(sweep.read(column.name), sweep, note=note)


def profile_swept(
    swept: Swept, sweep: Sweep, *, note: ColumnNote | None = None, detail: Detail = _FULL
) -> ColumnProfile:
    """Return the profile of a column that was read, without its association to a target."""
    found: dict[str, Any] = {"n_distinct": 0, "kind": "constant"}
    if swept.form == "nested":
        found = {"n_distinct": 0, "kind": "other"}
    elif swept.ordered.size:
        found = _FACTS[swept.form](swept, sweep, detail)
        if found["n_distinct"] == 1 and not swept.n_missing:
            # one value beside missing ones still tells two sorts of rows apart
            found["kind"] = "constant"
    sweep.saw_distinct(swept, found["n_distinct"])
    return ColumnProfile(
        name=swept.name,
        dtype=str(swept.dtype),
        n_missing=swept.n_missing,
        missing_share=swept.n_missing / swept.n_rows if swept.n_rows else 0.0,
        note=note,
        **found,
    )


def _number_facts(swept: Swept, _: Sweep, detail: Detail) -> dict[str, Any]:
    values = swept.ordered
    found = runs(values, detail.n_top)
    kind = _number_kind(swept.name, values, found.n_distinct)
    top = tuple(_top_value(value, n, values.size) for value, n in found.top)
    n_infinite = 0
    if values.dtype.kind == "f":
        finite_from = int(np.searchsorted(values, -np.inf, side="right"))
        finite_to = int(np.searchsorted(values, np.inf, side="left"))
        n_infinite = values.size - (finite_to - finite_from)
        values = values[finite_from:finite_to]
    else:
        values = values.astype(np.float64)
    return {
        "n_distinct": found.n_distinct,
        "kind": kind,
        "number": number_summary(values, n_infinite) if values.size else None,
        "histogram": histogram(values, detail.n_bins) if values.size else None,
        "top": top,
    }


def _top_value(value: object, n_rows: int, n_present: int) -> TopValue:
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return TopValue(value=text[:120], n_rows=n_rows, share=n_rows / n_present)


def _number_kind(name: str, values: NDArray[Any], n_distinct: int) -> Kind:
    low, high = values[0], values[-1]
    if n_distinct == 2 and low == 0 and high == 1:
        return "boolean"
    is_integer = values.dtype.kind in "iu"
    whole = is_integer or are_whole(values)
    unique = n_distinct > _IDENTIFIER_SHARE * values.size
    if whole and is_code_name(name):
        return "identifier" if unique else "category"
    counts_rows = n_distinct == values.size > 20 and is_integer and low in (0, 1)
    if counts_rows and int(high) - int(low) == values.size - 1:
        return "identifier"
    if whole and is_graded(name, low=float(low), high=float(high), n_distinct=n_distinct):
        return "ordinal"
    return "number"


def is_code_name(name: str) -> bool:
    """Tell whether a column name says that its values name things, as in `zipcode` or `customerID`.

    Examples
    --------
    >>> [is_code_name(name) for name in ("zipcode", "customerID", "house_id", "paid", "idle")]
    [True, True, True, False, False]
    """
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return bool(words) and bool(_CODE_WORDS.fullmatch(words[-1]) or words[0].lower() == "zip")


def _date_facts(swept: Swept, _: Sweep, detail: Detail) -> dict[str, Any]:
    moments = swept.ordered
    first, last = int(moments[0]), int(moments[-1])
    summary = DateSummary(
        first=_iso(first, swept.dtype),
        last=_iso(last, swept.dtype),
        n_days=last / _DAY_US - first / _DAY_US,
        largest_gap_days=largest_gap(moments) / _DAY_US,
    )
    return {
        "n_distinct": runs(moments, 1).n_distinct,
        "kind": "date",
        "date": summary,
        "histogram": histogram(moments / _DAY_US, detail.n_bins),
    }


def _iso(moment_us: int, dtype: pl.DataType) -> str:
    moment = pl.Series([moment_us]).cast(pl.Datetime("us"))[0]
    text: str = moment.isoformat(sep=" ", timespec="seconds")
    return text[:10] if dtype == pl.Date else text


def _boolean_facts(swept: Swept, _: Sweep, __: Detail) -> dict[str, Any]:
    n_true, n_present = int(swept.ordered.sum(dtype=np.int64)), swept.ordered.size
    counts = [(n, text) for text, n in (("false", n_present - n_true), ("true", n_true)) if n]
    ordered = sorted(counts, key=lambda each: (-each[0], each[1]))
    return {
        "n_distinct": len(counts),
        "kind": "boolean",
        "top": tuple(_top_value(text, n, n_present) for n, text in ordered),
    }


def _text_facts(swept: Swept, sweep: Sweep, detail: Detail) -> dict[str, Any]:
    n_present = swept.ordered.size
    n_distinct = runs(swept.ordered, 1).n_distinct
    is_short = n_distinct <= N_LEVELS
    values = sweep.texts(swept, N_LEVELS if is_short else detail.n_top)
    sample = swept.head.head(_TEXT_SAMPLE).to_list()
    text = TextSummary(
        mean_length=sum(map(len, sample)) / len(sample),
        mean_words=len(" ".join(sample).split()) / len(sample),
    )
    facts: dict[str, Any] = {
        "n_distinct": n_distinct,
        "top": tuple(_top_value(value, n, n_present) for value, n in values[: detail.n_top]),
        "text": text,
    }
    kind = _text_kind(swept.name, n_distinct, n_present, text)
    order = word_order([value for value, _ in values]) if is_short else ()
    if kind == "category" and order:
        return facts | {"kind": "ordinal", "order": order}
    return facts | {"kind": kind}


_FACTS = {
    "number": _number_facts,
    "date": _date_facts,
    "boolean": _boolean_facts,
    "text": _text_facts,
}


def _text_kind(name: str, n_distinct: int, n_present: int, text: TextSummary) -> Kind:
    wordy = text.mean_words >= _WORDS_OF_TEXT
    if n_distinct > _IDENTIFIER_SHARE * n_present and (n_present > 20 or is_code_name(name)):
        return "text" if wordy else "identifier"
    if wordy and n_distinct > 50 and n_distinct > 0.1 * n_present:
        return "text"
    return "category"
