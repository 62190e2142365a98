"""The reference of a model, learnt from the rows it was made with and its answers on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.monitor.coding import whole_key
from loopwright.monitor.joint import DENSITY, RESIDUAL, build_joint, held_out_scores
from loopwright.monitor.reference import (
    TOLERANCE,
    Kind,
    Reference,
    StreamReference,
    bin_codes,
    build_stream,
    reference_codes,
)
from loopwright.monitor.replay import calibrated
from loopwright.monitor.season import SeasonKind
from loopwright.monitor.segment import LEAST_ROWS, build_segments
from loopwright.monitor.value import to_series
from loopwright.monitor.year import Timing, own_times, seasoned

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_KINDS: tuple[Kind, ...] = ("number", "category", "text", "boolean", "date")
_LARGEST_TOLERANCE = 0.2
N_MOST_ROWS = 100_000  # beyond, a seeded sample serves: its error is far below the tolerance
_N_SEGMENT_INPUTS = 8
_SEED = 20_261_122


def build_reference(
    frame: pl.DataFrame,
    predictions: NDArray[Any] | Sequence[Any],
    errors: NDArray[np.float64] | None,
    kinds: Mapping[str, str],
    *,
    importances: Mapping[str, float] | None = None,
    answered: pl.DataFrame | None = None,
    season: SeasonKind | Literal["auto", "none"] = "auto",
    times: Timing | None = None,
    segments: Sequence[str] = (),
    window_rows: int = 250,
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
    importances
        How much the model goes by each column, at least 0; a column of less importance is given
        more tolerance. None: all alike.
    answered
        The input columns of the rows that `predictions` and `errors` belong to; needed to watch
        predictions and errors by segment.
    season
        How time is divided; `auto` takes what explains the rows best, if anything does.
    times
        When rows were; None: a column of kind `date` tells, if there is just one and a season is
        asked for. Not every date is the time of its row, so `auto` takes none by itself.
    segments
        Columns and conditions whose rows are watched of their own; see `build_segments`.
    window_rows
        Rows of a window, for the thresholds.

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
    n_rows = frame.height
    kept = _sample(n_rows)
    if kept is not None:
        frame = frame[kept]
        times = times.of_rows(kept) if times else None
    streams = [
        replace(
            build_stream(column, frame[column], role="input", kind=_kind(column, kinds)),
            tolerance=tolerance_for(column, importances),
        )
        for column in frame.columns
    ]
    codes = {stream.key: reference_codes(stream, frame[stream.name]) for stream in streams}
    reference = Reference(streams=tuple(streams), n_rows=n_rows)
    reference, codes = _with_joint(reference, codes, importances)
    reference, answer_codes = _with_answers(reference, predictions, errors)
    reference = _with_segments(
        reference, frame, answered, codes, answer_codes, segments, kinds, importances
    )
    masks = {each.name: each.mask(frame) for each in reference.segments}
    codes |= _segment_codes(reference, codes, masks)
    if answered is not None:
        masks = {each.name: each.mask(answered) for each in reference.segments}
        answer_codes |= _segment_codes(reference, answer_codes, masks)
    if times is None and season not in ("auto", "none"):
        times = own_times(reference, frame, answered)
    if times is not None:
        reference, codes, answer_codes = seasoned(
            reference,
            codes,
            answer_codes,
            season=season,
            times=times,
            window_rows=window_rows,
        )
    calibration = calibrated(reference, codes, answer_codes, window_rows=window_rows, seed=_SEED)
    return replace(reference, calibration=calibration)


def tolerance_for(column: str, importances: Mapping[str, float] | None) -> float:
    """Return the effect on a column that is not worth an alarm, 0.02 to 0.2.

    A column as important as the average or more gets 0.02, a less important one
    0.02 / (its importance / the average).
    """
    if not importances or not sum(importances.values()) > 0:
        return TOLERANCE
    relative = importances.get(column, 0.0) * len(importances) / sum(importances.values())
    wanted = TOLERANCE / relative if relative > 0 else _LARGEST_TOLERANCE
    return round(min(max(wanted, TOLERANCE), _LARGEST_TOLERANCE), 6)


def _sample(n_rows: int) -> NDArray[np.int64] | None:
    if n_rows <= N_MOST_ROWS:
        return None
    chosen = np.random.default_rng(_SEED).choice(n_rows, N_MOST_ROWS, replace=False)
    return np.sort(chosen)


def _with_joint(
    reference: Reference,
    codes: dict[str, NDArray[np.int64]],
    importances: Mapping[str, float] | None,
) -> tuple[Reference, dict[str, NDArray[np.int64]]]:
    ranked = sorted(reference.inputs, key=lambda s: -(importances or {}).get(s.name, 0.0))
    joint = build_joint(ranked, codes)
    if joint is None:
        return reference, codes
    scores = held_out_scores(joint, ranked, codes)
    streams = [
        build_stream(name, pl.Series(scores[name]), role="joint", kind="number")
        for name in (RESIDUAL, DENSITY)
    ]
    reference = replace(reference, joint=joint, streams=(*reference.streams, *streams))
    return reference, codes | {each.key: bin_codes(each, scores[each.name]) for each in streams}


def _with_answers(
    reference: Reference,
    predictions: NDArray[Any] | Sequence[Any],
    errors: NDArray[np.float64] | None,
) -> tuple[Reference, dict[str, NDArray[np.int64]]]:
    answers = to_series(predictions)
    kept = _sample(len(answers))
    answers = answers if kept is None else answers[kept]
    kind: Kind = "number" if answers.dtype.is_numeric() else "category"
    streams = [build_stream("prediction", answers, role="prediction", kind=kind)]
    codes = {"prediction": bin_codes(streams[0], answers)}
    if errors is not None and len(errors):
        losses = np.asarray(errors, dtype=np.float64)
        kept = _sample(len(losses))
        held = pl.Series(losses if kept is None else losses[kept])
        streams.append(build_stream("error", held, role="error", kind="number"))
        codes["error"] = bin_codes(streams[1], held)
    return replace(reference, streams=(*reference.streams, *streams)), codes


def _with_segments(
    reference: Reference,
    frame: pl.DataFrame,
    answered: pl.DataFrame | None,
    codes: Mapping[str, NDArray[np.int64]],
    answer_codes: Mapping[str, NDArray[np.int64]],
    wanted: Sequence[str],
    kinds: Mapping[str, str],
    importances: Mapping[str, float] | None,
) -> Reference:
    segments = build_segments(wanted, frame, kinds) if wanted else ()
    ranked = sorted(reference.inputs, key=lambda s: -(importances or {}).get(s.name, 0.0))
    inputs = ranked[:_N_SEGMENT_INPUTS]
    answers = [s for s in reference.streams if s.role in ("prediction", "error")]
    streams: list[StreamReference] = []
    for segment in segments:
        sources = [(inputs, codes, segment.mask(frame))]
        if answered is not None and answered.height == len(answer_codes["prediction"]):
            sources.append((answers, answer_codes, segment.mask(answered)))
        for each, of, mask in sources:
            if int(mask.sum()) >= LEAST_ROWS:
                streams += [_of_segment(s, of[s.key], mask, segment.name) for s in each]
    return replace(reference, segments=segments, streams=(*reference.streams, *streams))


def _of_segment(
    stream: StreamReference, codes: NDArray[np.int64], mask: NDArray[np.bool_], name: str
) -> StreamReference:
    counts = np.bincount(codes[mask], minlength=stream.n_bins)
    return replace(stream, segment=name, counts=tuple(counts.tolist()))


def _segment_codes(
    reference: Reference,
    codes: Mapping[str, NDArray[np.int64]],
    masks: Mapping[str, NDArray[np.bool_]],
) -> dict[str, NDArray[np.int64]]:
    return {
        stream.key: np.where(masks[stream.segment], codes[whole_key(stream)], -1)
        for stream in reference.streams
        if stream.segment and whole_key(stream) in codes
    }


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
