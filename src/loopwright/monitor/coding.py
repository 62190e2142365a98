"""Rows counted into the cells of every stream: bins, strata of the season, segments, joint scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.monitor.reference import Reference, StreamReference, bin_codes

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    Codes = dict[str, NDArray[np.int64]]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")


def data_codes(
    reference: Reference, predictions: pl.Series, inputs: pl.DataFrame | None, at: pl.Series
) -> Codes:
    """Return the cell of each row in each stream of inputs and predictions, (n_rows,) by key.

    A cell of -1 means that the row does not belong to the stream's segment. A column that is not
    there counts as missing; without inputs only the predictions are coded.

    Parameters
    ----------
    at
        When each prediction was made, for a season that no column tells.
    """
    bins: Codes = {}
    for stream in reference.streams:
        if stream.segment:
            continue
        if stream.role == "prediction":
            bins[stream.key] = bin_codes(stream, predictions)
        elif stream.role == "input" and inputs is not None:
            present = stream.name in inputs.columns
            values = inputs[stream.name] if present else pl.Series([None] * inputs.height)
            bins[stream.key] = bin_codes(stream, values)
    if inputs is not None:
        bins |= joint_codes(reference, bins)
    return _cells(reference, bins, inputs, row_strata(reference, inputs, at))


def error_codes(
    reference: Reference, losses: pl.Series, inputs: pl.DataFrame | None, at: pl.Series | None
) -> Codes:
    """Return the cell of each loss in each stream of errors, (n_rows,) by key."""
    stream = reference.find("error")
    if stream is None:
        return {}
    bins = {stream.key: bin_codes(stream, losses)}
    return _cells(reference, bins, inputs, row_strata(reference, inputs, at))


def joint_codes(reference: Reference, bins: Mapping[str, NDArray[np.int64]]) -> Codes:
    """Return the bin of each row's joint scores."""
    if reference.joint is None or not all(key in bins for key in reference.joint.columns):
        return {}
    scores = reference.joint.score_rows(bins)
    return {
        stream.key: bin_codes(stream, scores[stream.name])
        for stream in reference.streams
        if stream.role == "joint" and not stream.segment
    }


def row_strata(
    reference: Reference, inputs: pl.DataFrame | None, at: pl.Series | None
) -> NDArray[np.int64] | None:
    """Return the stratum of the season of each row; None where there is no season to tell."""
    season = reference.season
    if season is None:
        return None
    if season.column is None:
        return None if at is None else season.strata(at)
    if inputs is None or season.column not in inputs.columns:
        return None
    return season.strata(inputs[season.column])


def _cells(
    reference: Reference,
    bins: Mapping[str, NDArray[np.int64]],
    inputs: pl.DataFrame | None,
    strata: NDArray[np.int64] | None,
) -> Codes:
    masks: dict[str, Any] = {}
    if inputs is not None:
        masks = {segment.name: segment.mask(inputs) for segment in reference.segments}
    cells: Codes = {}
    for stream in reference.streams:
        whole = whole_key(stream)
        if whole not in bins or (stream.segment and stream.segment not in masks):
            continue
        codes = bins[whole]
        if stream.strata:
            if strata is None:
                continue  # without a time the row cannot be compared with its like
            codes = strata * stream.n_bins + codes
        cells[stream.key] = np.where(masks[stream.segment], codes, -1) if stream.segment else codes
    return cells


def whole_key(stream: StreamReference) -> str:
    """Return the key of the same stream over all rows."""
    return stream.key.removesuffix(f" [{stream.segment}]") if stream.segment else stream.key
