"""What a model saw when it was made: one fixed histogram for each input, prediction and error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.lazy import LazyModule
from loopwright.monitor.calibration import Calibration
from loopwright.monitor.joint import JointModel
from loopwright.monitor.lookup import places
from loopwright.monitor.record import from_record, to_record
from loopwright.monitor.season import Season
from loopwright.monitor.segment import Segment
from loopwright.monitor.value import date_format_of, to_labels, to_numbers, to_series

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

Role = Literal["input", "joint", "prediction", "error"]
Kind = Literal["number", "date", "text", "category", "boolean"]

_RESERVED = ("prediction", "error")

TOLERANCE = 0.02
N_QUANTILE_BINS = 32
N_FREQUENT_VALUES = 30
N_RARE_VALUES = 100
_DIGITS = 8
_LEAST_SHARE, _LEAST_ROWS = 0.005, 5


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
    tolerance
        The effect that is not worth an alarm; see `bet_table`.
    strata
        Reference rows in each bin in each stratum of the season, (n_strata, n_bins); empty where
        the stream has no season.
    swing
        For each of the stream's bets, how far its mean usually wanders from one stretch of time to
        the next; empty where that is not known.
    segment
        Whose rows they are; empty for all.
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
    tolerance: float = TOLERANCE
    strata: tuple[tuple[int, ...], ...] = ()
    swing: tuple[float, ...] = ()
    segment: str = ""

    @property
    def key(self) -> str:
        """What the stream is called among all streams of a model."""
        clashes = self.role == "input" and self.name in _RESERVED
        name = f"input {self.name}" if clashes else self.name
        return f"{name} [{self.segment}]" if self.segment else name

    @property
    def n_cells(self) -> int:
        """How many cells rows are counted in: the bins, in each stratum of the season."""
        return self.n_bins * max(len(self.strata), 1)

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
        The input columns in their order, then the joint scores, `prediction`, `error` if there
        were labels, and the same of segments.
    n_rows
        How many reference rows there were.
    season
        The strata that streams with a season are counted in.
    joint
        How the joint scores of a row are computed.
    segments
        The rows that are watched of their own.
    calibration
        Which evidence unchanged rows reach how often.
    """

    streams: tuple[StreamReference, ...]
    n_rows: int
    season: Season | None = None
    joint: JointModel | None = None
    segments: tuple[Segment, ...] = ()
    calibration: Calibration | None = None
    format: int = 1

    @property
    def inputs(self) -> tuple[StreamReference, ...]:
        """The streams of the input columns, of all rows."""
        return tuple(s for s in self.streams if s.role == "input" and not s.segment)

    def find(self, role: Role) -> StreamReference | None:
        """Return the first stream of this role, or None."""
        return next((stream for stream in self.streams if stream.role == role), None)

    def thresholds(self, cap: float, *, window_rows: int) -> tuple[float, float]:
        """Return the evidence that makes an alarm of data and of errors, in nats.

        Where unchanged windows of this size were replayed it is what they reach as rarely as
        wanted, and never more than the cap; else the cap, which holds for any data.

        Parameters
        ----------
        cap
            ln(windows per false alarm).
        """
        known = self.calibration
        if known is None or known.window_rows != window_rows:
            return cap, cap
        of_data, of_error = (
            cap if tail is None else tail.threshold(exp(cap)) for tail in (known.data, known.error)
        )
        return of_data, of_error

    def to_json(self) -> dict[str, Any]:
        """Return the reference as JSON types."""
        return to_record(self)

    @classmethod
    def from_json(cls, record: Any) -> Reference:
        """Return the reference that `to_json` wrote; a damaged one is an `InvalidInputError`."""
        return from_record(cls, record)


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
    codes = reference_codes(empty, values)
    counts = np.bincount(codes, minlength=empty.n_bins)
    return replace(empty, counts=tuple(counts.tolist()))


def reference_codes(stream: StreamReference, values: pl.Series) -> NDArray[np.int64]:
    """Return the bin of each reference row, (n_values,).

    A category that one row alone holds counts as unseen, which it is to all other rows: of live
    rows about as many hold a category that the reference does not know (Good and Turing).
    """
    codes = bin_codes(stream, values)
    if stream.is_ordered or not stream.rare or not stream.rare_complete:
        return codes
    labels = to_labels(to_series(values))
    alone = (labels.is_unique() & labels.is_in(list(stream.rare))).fill_null(False).to_numpy()
    return np.where(alone, stream.n_bins - 2, codes)


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
        codes = places(edges[1:-1], numbers) + 1
        codes[numbers < edges[0]] = 0
        codes[numbers > edges[-1]] = missing - 1
    else:  # the reference held no value at all: every value is a new extreme
        codes = np.full(len(numbers), missing - 1, dtype=np.int64)
    codes[np.isnan(numbers)] = missing
    return codes


def _label_codes(stream: StreamReference, labels: pl.Series) -> NDArray[np.int64]:
    n_values = len(stream.values)
    unseen = n_values + 1 if stream.rare_complete else n_values
    known = [*stream.values, *stream.rare]
    table = np.array([*range(n_values), *[n_values] * len(stream.rare), unseen])
    found = labels.cast(pl.Enum(known), strict=False).to_physical().cast(pl.Int64)
    codes: NDArray[np.int64] = table[found.fill_null(len(known)).to_numpy()]
    if labels.null_count():
        codes[labels.is_null().to_numpy()] = stream.n_bins - 1
    return codes


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
    if len(names) > N_FREQUENT_VALUES:
        # of many values alike the most frequent are so by luck, and would become rarer
        least = max(_LEAST_SHARE * len(present), _LEAST_ROWS)
        n_frequent = sum(count >= least for _, count in counted[:N_FREQUENT_VALUES])
    else:
        n_frequent = len(names)
    rare = names[n_frequent:]
    complete = len(rare) <= N_RARE_VALUES
    return tuple(names[:n_frequent]), tuple(rare) if complete else (), complete
