"""What a model saw when it was made: one fixed histogram for each input, prediction and error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.monitor.record import from_record, to_record
from loopwright.monitor.value import date_format_of, to_labels, to_numbers, to_series

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

Role = Literal["input", "prediction", "error"]
Kind = Literal["number", "date", "text", "category", "boolean"]

_KINDS: tuple[Kind, ...] = ("number", "category", "text", "boolean", "date")
_RESERVED = ("prediction", "error")

N_QUANTILE_BINS = 32
N_FREQUENT_VALUES = 30
N_RARE_VALUES = 100
_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamReference:
    """The histogram of one column, with what is needed to count new values into its bins.

    Bins of a number, date or text: below the smallest reference value, up to 32 bins that each
    hold about as many reference rows, above the largest, missing. Bins of a category or boolean:
    up to 30 frequent values, other (seen, but rarer), unseen, missing. A text counts by its length
    in characters, a date by its days since 1970-01-01.

    Parameters
    ----------
    edges
        Numbers: smallest value, inner upper edges (a value on an edge belongs below), largest.
    values, rare
        Categories: the frequent values, and the rarer ones that `other` stands for.
    rare_complete
        Whether `rare` names them all; if not, an unseen value counts as other.
    date_format
        How dates written as text are read; None when they are dates already.
    means
        Prediction and error: the mean of the reference values in each bin, else empty.
    counts
        Reference rows in each bin.
    """

    name: str
    role: Role
    kind: Kind
    counts: tuple[int, ...]
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    rare: tuple[str, ...] = ()
    rare_complete: bool = True
    date_format: str | None = None
    means: tuple[float, ...] = ()

    @property
    def key(self) -> str:
        """What the stream is called among all streams of a model."""
        clashes = self.role == "input" and self.name in _RESERVED
        return f"input {self.name}" if clashes else self.name

    @property
    def is_ordered(self) -> bool:
        """Whether the bins are in order of size."""
        return self.kind in ("number", "date", "text")

    @property
    def n_bins(self) -> int:
        """How many bins there are; the last counts missing values."""
        return len(self.counts)

    @property
    def n_rows(self) -> int:
        """How many reference rows were counted, missing ones included."""
        return sum(self.counts)

    @property
    def bin_names(self) -> tuple[str, ...]:
        """What each bin holds, for people."""
        if not self.is_ordered:
            return (*self.values, "other", "unseen", "missing")
        if not self.edges:
            return ("below", "above", "missing")
        upper = [f"<= {edge:g}" for edge in self.edges[1:]]
        return (f"< {self.edges[0]:g}", *upper, f"> {self.edges[-1]:g}", "missing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What the monitor compares new rows with; part of every model bundle.

    Parameters
    ----------
    streams
        The input columns in their order, then `prediction`, then `error` if there were labels.
    n_rows
        How many reference rows there were.
    """

    streams: tuple[StreamReference, ...]
    n_rows: int
    format: int = 1

    @property
    def inputs(self) -> tuple[StreamReference, ...]:
        """The streams of the input columns."""
        return tuple(stream for stream in self.streams if stream.role == "input")

    def find(self, role: Role) -> StreamReference | None:
        """Return the first stream of this role, or None."""
        return next((stream for stream in self.streams if stream.role == role), None)

    def to_json(self) -> dict[str, Any]:
        """Return the reference as JSON types."""
        return to_record(self)

    @classmethod
    def from_json(cls, record: Any) -> Reference:
        """Return the reference that `to_json` wrote; a damaged one is an `InvalidInputError`."""
        return from_record(cls, record)


def build_reference(
    frame: pl.DataFrame,
    predictions: NDArray[Any] | Sequence[Any],
    errors: NDArray[np.float64] | None,
    kinds: Mapping[str, str],
) -> Reference:
    """Return the reference statistics of a model.

    Parameters
    ----------
    frame
        Raw input columns of rows like those the endpoint will see, at least 50 rows.
    predictions
        The model's answers for rows it was not trained on: numbers (values, probabilities) or
        class names. They need not be as many as the rows of `frame`.
    errors
        The loss of each held-out row, (n_held_out,), or None where there are no labels.
    kinds
        For each column of `frame`: number, category, text, boolean or date.

    Raises
    ------
    InvalidInputError
        If there are too few rows, a column has no kind, or a kind is unknown.
    """
    if frame.height < 50 or len(predictions) < 50:
        raise InvalidInputError(
            f"A reference needs at least 50 rows; there are {frame.height} rows and "
            f"{len(predictions)} predictions.",
            hint="Collect more rows before you monitor this model.",
            field="frame",
            value=frame.height,
        )
    streams = [
        build_stream(column, frame[column], role="input", kind=_kind(column, kinds))
        for column in frame.columns
    ]
    answers = to_series(predictions)
    answer_kind: Kind = "number" if answers.dtype.is_numeric() else "category"
    streams.append(build_stream("prediction", answers, role="prediction", kind=answer_kind))
    if errors is not None and len(errors):
        losses = pl.Series(np.asarray(errors, dtype=np.float64))
        streams.append(build_stream("error", losses, role="error", kind="number"))
    return Reference(streams=tuple(streams), n_rows=frame.height)


def build_stream(name: str, values: pl.Series, *, role: Role, kind: Kind) -> StreamReference:
    """Return the histogram of one column of reference rows."""
    if kind in ("category", "boolean"):
        frequent, rare, rare_complete = _ranked_values(to_labels(values))
        empty = StreamReference(
            name=name,
            role=role,
            kind=kind,
            counts=(0,) * (len(frequent) + 3),
            values=frequent,
            rare=rare,
            rare_complete=rare_complete,
        )
    else:
        date_format = date_format_of(values) if kind == "date" else None
        numbers = to_numbers(values, kind=kind, date_format=date_format)
        edges = _quantile_edges(numbers[np.isfinite(numbers)])
        empty = StreamReference(
            name=name,
            role=role,
            kind=kind,
            counts=(0,) * (max(len(edges) - 1, 0) + 3),
            edges=edges,
            date_format=date_format,
        )
        if role != "input":
            empty = replace(empty, means=_bin_means(empty, numbers))
    return replace(empty, counts=tuple(bin_counts(empty, values).tolist()))


def bin_counts(
    stream: StreamReference, values: pl.Series | NDArray[Any] | Sequence[Any]
) -> NDArray[np.int64]:
    """Return how many values fall into each bin, (n_bins,).

    Counts of two batches add up to the counts of both together. Values of any type are taken:
    what cannot be read as the stream's kind counts as missing.
    """
    return np.bincount(bin_codes(stream, values), minlength=stream.n_bins).astype(np.int64)


def bin_codes(
    stream: StreamReference, values: pl.Series | NDArray[Any] | Sequence[Any]
) -> NDArray[np.int64]:
    """Return the bin of each value, (n_values,), from 0 to n_bins - 1."""
    series = to_series(values)
    if not stream.is_ordered:
        return _label_codes(stream, to_labels(series))
    return _number_codes(
        stream, to_numbers(series, kind=stream.kind, date_format=stream.date_format)
    )


def _number_codes(stream: StreamReference, numbers: NDArray[np.float64]) -> NDArray[np.int64]:
    missing = stream.n_bins - 1
    if stream.edges:
        edges = np.array(stream.edges)
        codes = np.searchsorted(edges[1:-1], numbers, side="left") + 1
        codes[numbers < edges[0]] = 0
        codes[numbers > edges[-1]] = missing - 1
    else:  # the reference held no value at all: every value is a new extreme
        codes = np.full(len(numbers), missing - 1)
    codes[np.isnan(numbers)] = missing
    return codes.astype(np.int64)


def _label_codes(stream: StreamReference, labels: pl.Series) -> NDArray[np.int64]:
    n_values = len(stream.values)
    unseen = n_values + 1 if stream.rare_complete else n_values
    known = {value: code for code, value in enumerate(stream.values)}
    known.update(dict.fromkeys(stream.rare, n_values))
    codes = labels.replace_strict(
        list(known), list(known.values()), default=unseen, return_dtype=pl.Int64
    )
    return codes.zip_with(
        labels.is_not_null(), pl.Series([stream.n_bins - 1], dtype=pl.Int64)
    ).to_numpy()


def _quantile_edges(numbers: NDArray[np.float64]) -> tuple[float, ...]:
    if not len(numbers):
        return ()
    distinct = np.unique(numbers)
    low, high = float(distinct[0]), float(distinct[-1])
    if len(distinct) <= N_QUANTILE_BINS:
        inner = [float(f"{value:.{_DIGITS}g}") for value in distinct[:-1]]
    else:
        at = np.arange(1, N_QUANTILE_BINS) / N_QUANTILE_BINS
        quantiles = np.quantile(numbers, at, method="inverted_cdf")
        # a thousandth of the usual spread is fine enough, and short in JSON; rows are counted
        # with the rounded edges
        spread = min(quantiles[-8] - quantiles[7] or high - low, 1e300)
        decimals = int(np.clip(np.ceil(3 - np.log10(spread)), -300, 30))
        inner = np.round(quantiles, decimals).tolist()
    return (low, *(edge for edge in sorted(set(inner)) if low <= edge < high), high)


def _bin_means(stream: StreamReference, numbers: NDArray[np.float64]) -> tuple[float, ...]:
    codes = _number_codes(stream, numbers)
    finite = np.isfinite(numbers)
    sums = np.bincount(codes[finite], weights=numbers[finite], minlength=stream.n_bins)
    counts = np.bincount(codes[finite], minlength=stream.n_bins)
    low, high = (stream.edges[0], stream.edges[-1]) if stream.edges else (0.0, 0.0)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), high)
    means[0], means[-2], means[-1] = low, high, 0.0
    return tuple(float(f"{mean:.{_DIGITS}g}") for mean in means)


def _ranked_values(labels: pl.Series) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    present = labels.drop_nulls()
    counted = sorted(Counter(present.to_list()).items(), key=lambda item: (-item[1], item[0]))
    names = [name for name, _ in counted]
    rare = names[N_FREQUENT_VALUES:]
    complete = len(rare) <= N_RARE_VALUES
    return tuple(names[:N_FREQUENT_VALUES]), tuple(rare) if complete else (), complete


def _kind(column: str, kinds: Mapping[str, str]) -> Kind:
    kind = kinds.get(column)
    if kind not in _KINDS:
        raise InvalidInputError(
            f"Column {column!r} has kind {kind!r}, which cannot be monitored.",
            hint=f"Give one of {', '.join(_KINDS)} for every column.",
            field=column,
            value=kind,
        )
    return kind
