"""Held-out rows that travel with a model, as bins: what is compared, weighted and learnt from live."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.monitor.reference import Reference, StreamReference, bin_codes
from loopwright.train.array_file import open_arrays, pack_arrays

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Codes = NDArray[np.uint8]
    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

ROWS_MEMBER = "reference_rows.npz"
MOST_ROWS = 3_000
LEAST_ROWS = 50
_MOST_COLUMNS = 4_096
_MOST_CLASSES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceRows:
    """Rows that the model did not learn from, with its answers and the truth.

    Values of columns are kept as the bins of the reference histograms alone: enough to say how
    unlike live rows are and where errors lie, and too coarse to tell a person by.

    Parameters
    ----------
    codes
        (n_rows, n_streams): the bin of every input column but dates and, last, of the prediction.
    raw
        The numbers behind the answers: (n_rows,), or (n_rows, n_classes) for more than two classes.
    y
        The truth, (n_rows,): values, or class indices.
    influence
        (n_explained, n_columns): the size of what each raw column adds to the answer, for some rows
        of the same kind; without rows where the model cannot be explained soon enough.
    features
        (4, n_features): mean, standard deviation, share of missing values and rows of every feature
        that the recipe made of training rows; without columns where they are too many.
    """

    codes: Codes
    raw: Numbers
    y: Numbers
    influence: Numbers
    features: Numbers

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.codes)

    def to_bytes(self) -> bytes:
        """Return the rows as an array file; see `open_reference_rows`."""
        return pack_arrays(
            {
                "codes": self.codes,
                "raw": self.raw,
                "y": self.y,
                "influence": self.influence.astype(np.float32),
                "features": self.features,
            }
        )


def coded_streams(reference: Reference) -> tuple[StreamReference, ...]:
    """Return the streams that stand in the codes: the inputs and, last, the prediction.

    Dates are left out: those of live rows are always later, which says nothing of what rows are like.
    """
    prediction = reference.find("prediction")
    inputs = tuple(stream for stream in reference.inputs if stream.kind != "date")
    return (*inputs, *(() if prediction is None else (prediction,)))


def ordered_streams(reference: Reference) -> NDArray[np.bool_]:
    """Return which of the coded streams have bins in order of size, (n_streams,)."""
    return np.array([stream.is_ordered for stream in coded_streams(reference)], dtype=np.bool_)


def row_codes(reference: Reference, inputs: pl.DataFrame, predictions: pl.Series) -> Codes:
    """Return the bins of some rows, (n_rows, n_streams); a column that is not there is missing.

    Parameters
    ----------
    inputs
        Raw input columns.
    predictions
        As the prediction stream counts them: a number, the probability of two classes, or the
        class said of more.
    """
    columns = []
    for stream in coded_streams(reference):
        values: Any = pl.Series([None] * inputs.height)
        if stream.role == "prediction":
            values = predictions
        elif stream.name in inputs.columns:
            values = inputs[stream.name]
        columns.append(bin_codes(stream, values).astype(np.uint8))
    return np.stack(columns, axis=1)


def sampled_rows(n_rows: int, *, most: int = MOST_ROWS, seed: int = 0) -> NDArray[np.int64]:
    """Return at most so many row numbers in their order, drawn without replacement."""
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False))


def open_reference_rows(data: bytes, reference: Reference) -> ReferenceRows:
    """Return the rows in an array file, checked; it may come from anywhere.

    Parameters
    ----------
    data
        What `ReferenceRows.to_bytes` returned.
    reference
        The statistics beside it in the bundle.

    Raises
    ------
    InvalidInputError
        If it is no such file, or does not go with the reference.
    """
    arrays = open_arrays(data, what=ROWS_MEMBER)
    wanted = {"codes", "raw", "y", "influence", "features"}
    if set(arrays) != wanted:
        raise _refusal(f"it holds {', '.join(sorted(arrays))[:200] or 'nothing'}")
    codes: Any = arrays["codes"]
    raw, y, influence, features = (
        np.asarray(arrays[name], dtype=np.float64) for name in ("raw", "y", "influence", "features")
    )
    streams = coded_streams(reference)
    if codes.dtype != np.uint8 or codes.ndim != 2 or codes.shape[1] != len(streams):
        raise _refusal(f"its codes have shape {codes.shape}, the reference {len(streams)} streams")
    n_rows = len(codes)
    if not LEAST_ROWS <= n_rows <= MOST_ROWS:
        raise _refusal(f"it holds {n_rows:,} rows, not {LEAST_ROWS} to {MOST_ROWS:,}")
    n_bins = np.array([stream.n_bins for stream in streams])
    if (codes >= n_bins).any():
        raise _refusal("one of its codes is no bin of its stream")
    if y.shape != (n_rows,) or raw.ndim not in (1, 2) or len(raw) != n_rows:
        raise _refusal(f"it has {y.shape} truths and {raw.shape} answers for {n_rows:,} rows")
    if raw.ndim == 2 and not 2 <= raw.shape[1] <= _MOST_CLASSES:
        raise _refusal(f"it has answers of {raw.shape[1]} classes")
    if influence.ndim != 2 or len(influence) > MOST_ROWS or influence.shape[1] > _MOST_COLUMNS:
        raise _refusal(f"its influence has shape {influence.shape}")
    if features.ndim != 2 or len(features) != 4 or features.shape[1] > _MOST_COLUMNS:
        raise _refusal(f"its features have shape {features.shape}")
    if not all(np.isfinite(each).all() for each in (raw, y, influence, features)):
        raise _refusal("one of its numbers is not finite")
    return ReferenceRows(codes=codes, raw=raw, y=y, influence=influence, features=features)


def _refusal(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{ROWS_MEMBER} does not go with this model: {reason}.",
        hint="Pack the model again, or fetch the bundle again.",
        field=ROWS_MEMBER,
        value=reason,
    )
