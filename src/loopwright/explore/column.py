"""What one column looks like: its kind as people would name it, its spread, its usual values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.lazy import LazyModule
from loopwright.explore.note import ColumnNote
from loopwright.explore.ordinal import is_graded, word_order

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

N_BINS = 30
N_TOP = 10
N_LEVELS = 20
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_FAR_OUT = 3.0
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
class Histogram:
    """Counts between consecutive edges; the last bin holds its upper edge too."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopValue:
    """A frequent value, written as text, and its share of the present values."""

    value: str
    n_rows: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberSummary:
    """The spread of the finite values of a column; sd has n - 1 below it, skew is m3 / m2^1.5.

    `n_far_out` counts values more than three interquartile ranges outside the quartiles (Tukey,
    Exploratory Data Analysis, 1977). None stands for what is not defined or beyond a float.
    """

    mean: float | None
    sd: float | None
    minimum: float
    maximum: float
    quantiles: dict[str, float]
    skew: float | None
    n_zeros: int
    n_negative: int
    n_infinite: int
    n_far_out: int


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


def profile_column(column: pl.Series, note: ColumnNote | None = None) -> ColumnProfile:
    """Return the profile of one column, without its association to a target."""
    n_rows, present = column.len(), column.drop_nulls()
    n_missing = n_rows - present.len()
    found: dict[str, Any] = {"n_distinct": 0, "kind": "constant"}
    if not _is_flat(column.dtype):
        found = {"n_distinct": 0, "kind": "other"}
    elif present.len():
        found = _found(present)
        if found["n_distinct"] == 1 and not n_missing:
            # one value beside missing ones still tells two sorts of rows apart
            found["kind"] = "constant"
    return ColumnProfile(
        name=column.name,
        dtype=str(column.dtype),
        n_missing=n_missing,
        missing_share=n_missing / n_rows if n_rows else 0.0,
        note=note,
        **found,
    )


def _is_flat(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype.is_temporal() or dtype in (pl.String, pl.Boolean, pl.Null)


def _found(present: pl.Series) -> dict[str, Any]:
    if present.dtype.is_temporal() and present.dtype not in (pl.Duration, pl.Time):
        return _date_facts(present)
    if present.dtype.is_numeric():
        return _number_facts(present)
    return _text_facts(present)


def _number_facts(present: pl.Series) -> dict[str, Any]:
    values = np.sort(present.to_numpy())
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    lengths = np.diff(np.append(starts, values.size))
    most = np.lexsort((starts, -lengths))[:N_TOP] if lengths.size <= 10_000 else _longest(lengths)
    top = tuple(
        _top_value(values[starts[index]].item(), int(lengths[index]), values.size) for index in most
    )
    n_finite_from = int(np.searchsorted(values, -np.inf, side="right"))
    n_finite_to = int(np.searchsorted(values, np.inf, side="left"))
    finite = values[n_finite_from:n_finite_to]
    return {
        "n_distinct": int(starts.size),
        "kind": _number_kind(present.name, present.dtype, values, int(starts.size)),
        "number": _number_summary(finite, values.size - finite.size) if finite.size else None,
        "histogram": histogram(finite) if finite.size else None,
        "top": top,
    }


def _longest(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of the ten greatest lengths, the first of equals first."""
    bound = np.partition(lengths, -N_TOP)[-N_TOP]
    places = np.flatnonzero(lengths > bound)
    equal = np.flatnonzero(lengths == bound)[: N_TOP - places.size]
    chosen = np.concatenate((places, equal))
    return chosen[np.lexsort((chosen, -lengths[chosen]))]


def _top_value(value: object, n_rows: int, n_present: int) -> TopValue:
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    return TopValue(value=text[:120], n_rows=n_rows, share=n_rows / n_present)


def _number_summary(values: NDArray[Any], n_infinite: int) -> NumberSummary:
    """Summarise sorted finite values."""
    floats = values.astype(np.float64)
    with np.errstate(all="ignore"):
        mean = float(floats.mean())
        centred = floats - mean
        squares = centred * centred
        m2 = float(squares.mean())
        m3 = float((squares * centred).mean())
        # below this the spread is rounding noise of the mean
        spread = m2 > (np.finfo(np.float64).eps * abs(mean)) ** 2
        # numpy's power overflows to infinity where Python's raises
        scale = float(np.float64(m2) ** 1.5)
        skew = m3 / scale if spread and scale > 0 else None
        sd = float(np.sqrt(m2 * floats.size / (floats.size - 1))) if floats.size > 1 else None
    quantiles = [quantile(floats, q) for q in _QUANTILES]
    lower, upper = quantiles[2], quantiles[4]
    reach = _FAR_OUT * (upper - lower)
    n_far_out = 0
    if 0 < reach < np.inf:
        n_below = int(np.searchsorted(floats, lower - reach, side="left"))
        n_far_out = (
            n_below + floats.size - int(np.searchsorted(floats, upper + reach, side="right"))
        )
    n_negative = int(np.searchsorted(floats, 0, side="left"))
    return NumberSummary(
        mean=_finite(mean),
        sd=_finite(sd),
        minimum=float(floats[0]),
        maximum=float(floats[-1]),
        quantiles={f"{q:g}": value for q, value in zip(_QUANTILES, quantiles, strict=True)},
        skew=_finite(skew),
        n_zeros=int(np.searchsorted(floats, 0, side="right")) - n_negative,
        n_negative=n_negative,
        n_infinite=n_infinite,
        n_far_out=n_far_out,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) < float("inf") else None


def quantile(ordered: NDArray[np.float64], q: float) -> float:
    """Return the q-quantile of sorted values, linear between the two nearest (Hyndman and Fan, 7)."""
    place = q * (ordered.size - 1)
    low = int(place)
    high = min(low + 1, ordered.size - 1)
    share = place - low
    return float(ordered[low] * (1 - share) + ordered[high] * share)


def histogram(ordered: NDArray[Any], n_bins: int = N_BINS) -> Histogram | None:
    """Return counts of sorted finite values in bins of equal width; None beyond what a float spans."""
    low, high = float(ordered[0]), float(ordered[-1])
    if low == high:
        low, high = low - 0.5, high + 0.5
    if not (high - low < float("inf") and low < high):
        return None
    edges = np.linspace(low, high, n_bins + 1)
    inner = np.searchsorted(ordered, edges[1:-1], side="left")
    counts = np.diff(np.concatenate(([0], inner, [ordered.size])))
    return Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))


def _number_kind(name: str, dtype: pl.DataType, values: NDArray[Any], n_distinct: int) -> Kind:
    low, high = values[0], values[-1]
    if n_distinct == 2 and low == 0 and high == 1:
        return "boolean"
    whole = dtype.is_integer() or bool(np.all(np.floor(values) == values))
    unique = n_distinct > _IDENTIFIER_SHARE * values.size
    if whole and is_code_name(name):
        return "identifier" if unique else "category"
    counts_rows = n_distinct == values.size > 20 and dtype.is_integer() and low in (0, 1)
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


def _date_facts(present: pl.Series) -> dict[str, Any]:
    moments = present.cast(pl.Datetime("us")).sort()
    days = moments.to_physical().to_numpy() / 86_400e6
    n_distinct = int(np.count_nonzero(np.diff(days))) + 1
    summary = DateSummary(
        first=_iso(moments[0], present.dtype),
        last=_iso(moments[-1], present.dtype),
        n_days=float(days[-1] - days[0]),
        largest_gap_days=float(np.diff(days).max()) if days.size > 1 else 0.0,
    )
    return {"n_distinct": n_distinct, "kind": "date", "date": summary, "histogram": histogram(days)}


def _iso(moment: Any, dtype: pl.DataType) -> str:
    text: str = moment.isoformat(sep=" ", timespec="seconds")
    return text[:10] if dtype == pl.Date else text


def _text_facts(present: pl.Series) -> dict[str, Any]:
    counts = present.cast(pl.String).alias("value").value_counts(name="n")
    # ties in the order of the values, so that two readings show the same
    top = counts.top_k(N_TOP, by=["n", "value"], reverse=[False, True])
    n_present = present.len()
    facts: dict[str, Any] = {
        "n_distinct": counts.height,
        "top": tuple(_top_value(value, n, n_present) for value, n in top.iter_rows()),
    }
    if present.dtype != pl.String:
        return facts | {"kind": "boolean"}
    sample = present.head(_TEXT_SAMPLE).to_list()
    text = TextSummary(
        mean_length=sum(map(len, sample)) / len(sample),
        mean_words=sum(len(value.split()) for value in sample) / len(sample),
    )
    kind = _text_kind(present.name, counts.height, n_present, text)
    order = word_order(counts["value"].to_list()) if counts.height <= N_LEVELS else ()
    if kind == "category" and order:
        return facts | {"text": text, "kind": "ordinal", "order": order}
    return facts | {"text": text, "kind": kind}


def _text_kind(name: str, n_distinct: int, n_present: int, text: TextSummary) -> Kind:
    wordy = text.mean_words >= _WORDS_OF_TEXT
    if n_distinct > _IDENTIFIER_SHARE * n_present and (n_present > 20 or is_code_name(name)):
        return "text" if wordy else "identifier"
    if wordy and n_distinct > 50 and n_distinct > 0.1 * n_present:
        return "text"
    return "category"
