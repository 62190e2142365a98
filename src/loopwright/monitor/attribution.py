"""Why an alarm: what moved, for whom, and what that does to the predictions and to the criterion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.monitor.boosting import boosted
from loopwright.monitor.bullet import told_value
from loopwright.monitor.counterfactual import can_be_moved_back, moved_back
from loopwright.monitor.loss_split import LossSplit
from loopwright.monitor.moved_segment import MovedSegment, moved_segment, stream_score
from loopwright.monitor.reference import Reference, bin_codes
from loopwright.monitor.reference_rows import ReferenceRows, coded_streams, ordered_streams
from loopwright.train.reason import told_number

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from loopwright.monitor.report import StreamDrift

    Codes = NDArray[np.uint8]
    Numbers = NDArray[np.float64]
    Predict = Callable[[pl.DataFrame], Numbers]
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

MOST_COLUMNS = 8
_MOST_ROWS = 300
_N_TREES = 60
_HARDLY = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MovedColumn:
    """One input that moved, and what it does.

    Parameters
    ----------
    floor_ratio
        How many times the noise floor it moved.
    since_at
        Likely time of the change.
    prediction_shift
        Mean of the predictions less what it would be had this column alone not moved, in units of
        the prediction, or of the probability; None where values cannot be made up.
    prediction_error
        Its standard error.
    loss_shift
        The part of this column in the change of the expected loss; None likewise.
    """

    stream: str
    state: Literal["quiet", "moving", "drifted"]
    floor_ratio: float
    since_at: datetime | None
    prediction_shift: float | None = None
    prediction_error: float | None = None
    loss_shift: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """What is behind an alarm.

    Parameters
    ----------
    columns
        The inputs that moved, at most 8, what matters most for the loss, else the prediction, first.
    of
        What `prediction_before` and `prediction_now` are means of: `prediction`, or the probability
        of a class.
    segment, segment_of
        The rows in which most of the change lies, and what is followed in them; None where it lies
        everywhere alike.
    loss
        The change of the loss and its parts; None without a truth to compare with.
    n_rows
        Live rows it rests on.
    told
        All of this in a few sentences.
    advice
        What to do.
    """

    columns: tuple[MovedColumn, ...]
    of: str
    prediction_before: float | None
    prediction_now: float | None
    segment: MovedSegment | None
    segment_of: str
    loss: LossSplit | None
    n_rows: int
    told: tuple[str, ...]
    advice: str


def moved_columns(
    drift: Sequence[StreamDrift], reference: Reference, *, most: int = MOST_COLUMNS
) -> list[StreamDrift]:
    """Return the inputs that moved, furthest first; without an alarm's evidence, those in motion."""
    inputs = {stream.key for stream in reference.inputs}
    moved = [each for each in drift if each.stream in inputs and each.state != "quiet"]
    return sorted(moved, key=lambda each: -each.floor_ratio)[:most]


def column_effects(
    moved: Sequence[StreamDrift],
    reference: Reference,
    rows: ReferenceRows,
    loss: Numbers | None,
    live: pl.DataFrame,
    predict: Predict,
    *,
    seed: int = 0,
) -> list[MovedColumn]:
    """Return what each moved column does to predictions and to the expected loss.

    Parameters
    ----------
    moved
        See `moved_columns`.
    rows, loss
        Held-out rows and what each answer cost; None where that is not known.
    live
        Raw live rows; at most 300 are drawn.
    predict
        Returns the number that is followed for raw rows, (n_rows,).

    Notes
    -----
    Each column is moved back to what the reference holds while the rest of the row stays
    (`moved_back`), and the model is asked again. For the loss, a model of it over the bins stands
    in for the truth; its change is shared among the columns by the Shapley value over all sets of
    columns moved back together (Zhang, Singh, Ghassemi and Joshi, "Why did the model fail?", ICML
    2023, who weight rows where this moves them).
    """
    streams = {stream.key: stream for stream in reference.inputs}
    if live.height > _MOST_ROWS:
        chosen = np.sort(np.random.default_rng(seed).choice(live.height, _MOST_ROWS, False))
        live = live[chosen.tolist()]
    backs: dict[str, pl.Series] = {}
    for each in moved:
        stream = streams[each.stream]
        if can_be_moved_back(stream) and stream.name in live.columns:
            backs[each.stream] = moved_back(stream, live[stream.name], seed=seed)
    shifts: dict[str, tuple[float, float]] = {}
    if backs:
        said = predict(live)
        for key, back in backs.items():
            apart = said - predict(live.with_columns(back.alias(streams[key].name)))
            error = float(apart.std(ddof=1) / math.sqrt(len(apart))) if len(apart) > 1 else 0.0
            shifts[key] = (float(apart.mean()), error)
    parts = _loss_parts(backs, reference, rows, loss, live) if loss is not None and backs else {}
    columns = [
        MovedColumn(
            stream=each.stream,
            state=each.state,
            floor_ratio=each.floor_ratio,
            since_at=each.since_at,
            prediction_shift=shifts[each.stream][0] if each.stream in shifts else None,
            prediction_error=shifts[each.stream][1] if each.stream in shifts else None,
            loss_shift=parts.get(each.stream),
        )
        for each in moved
    ]
    return sorted(columns, key=_weight)


def _weight(column: MovedColumn) -> tuple[float, float, float]:
    return (
        -abs(column.loss_shift or 0.0),
        -abs(column.prediction_shift or 0.0),
        -column.floor_ratio,
    )


def _loss_parts(
    backs: dict[str, pl.Series],
    reference: Reference,
    rows: ReferenceRows,
    loss: Numbers,
    live: pl.DataFrame,
) -> dict[str, float]:
    """Return the Shapley value of each column in the change of the modelled loss."""
    streams = [stream for stream in coded_streams(reference) if stream.role == "input"]
    n_inputs = len(streams)
    ordered = ordered_streams(reference)[:n_inputs]
    model = boosted(rows.codes[:, :n_inputs], loss, ordered=ordered, n_trees=_N_TREES)
    places = {stream.key: at for at, stream in enumerate(streams)}
    now = np.stack(
        [
            bin_codes(
                stream,
                live[stream.name] if stream.name in live.columns else [None] * live.height,
            ).astype(np.uint8)
            for stream in streams
        ],
        axis=1,
    )
    keys = list(backs)
    before = {key: bin_codes(streams[places[key]], back) for key, back in backs.items()}
    worth: dict[frozenset[int], float] = {}
    for size in range(len(keys) + 1):
        for players in combinations(range(len(keys)), size):
            hybrid = now.copy()
            for at, key in enumerate(keys):
                if at not in players:
                    hybrid[:, places[key]] = before[key]
            worth[frozenset(players)] = float(model.values(hybrid).mean())
    return {key: shapley_value(worth, at, len(keys)) for at, key in enumerate(keys)}


def shapley_value(worth: dict[frozenset[int], float], player: int, n_players: int) -> float:
    """Return what a player adds on average over all orders (Shapley, 1953).

    Examples
    --------
    >>> worth = {frozenset(): 0.0, frozenset({0}): 1.0, frozenset({1}): 0.0, frozenset({0, 1}): 3.0}
    >>> [shapley_value(worth, player, 2) for player in (0, 1)]
    [2.0, 1.0]
    """
    total = 0.0
    for players, value in worth.items():
        if player in players:
            continue
        size = len(players)
        weight = math.factorial(size) * math.factorial(n_players - size - 1)
        total += weight / math.factorial(n_players) * (worth[players | {player}] - value)
    return total


def leading_segment(
    reference: Reference,
    rows: ReferenceRows,
    live_codes: Codes,
    *,
    stream: str,
    largest: str = "",
) -> MovedSegment | None:
    """Return the rows in which a stream moved most; see `moved_segment`.

    Parameters
    ----------
    stream
        The key of an input or of the prediction.
    largest
        The bin whose share is followed, such as a category or `missing`; empty: ranks.
    """
    streams = coded_streams(reference)
    at = next((n for n, each in enumerate(streams) if each.key == stream), None)
    if at is None:
        return None
    scores = [
        stream_score(streams[at], codes[:, at], largest=largest)
        for codes in (rows.codes, live_codes)
    ]
    return moved_segment(
        streams, (rows.codes, scores[0]), (live_codes, scores[1]), without=(stream,)
    )


def advised(columns: Sequence[MovedColumn], loss: LossSplit | None, *, is_faulty: bool) -> str:
    """Return what to do about an alarm."""
    if is_faulty:
        return "Repair the source of the faulty columns first; do not retrain on such rows."
    first = columns[0].stream if columns else "the inputs"
    if loss is not None and loss.cause == "concept":
        return (
            "The same inputs now have another truth: retrain with the newest labelled rows, and "
            "ask what changed in the world."
        )
    if loss is not None and loss.cause == "covariate":
        return (
            f"The model meets harder rows than before, most of all by {first}: retrain with the "
            "newest labelled rows, and collect more like them."
        )
    shifted = [each for each in columns if _matters(each)]
    if shifted:
        return (
            f"Ask whether {shifted[0].stream} changed in the world or in the source. If in the "
            "world, send labels for the newest rows, so that the loop can tell whether it harms."
        )
    return "It hardly moves the predictions; look at the column, and acknowledge the alarm."


def told_attribution(
    columns: Sequence[MovedColumn],
    segment: MovedSegment | None,
    loss: LossSplit | None,
    *,
    of: str,
    segment_of: str,
    before: float | None,
    now: float | None,
) -> tuple[str, ...]:
    """Return an attribution in a few sentences."""
    told = []
    if before is not None and now is not None and columns:
        told.append(
            f"The mean {of} went from {told_value('mean', before)} to {told_value('mean', now)}."
        )
    for column in columns[:3]:
        if _matters(column) and column.prediction_shift is not None:
            told.append(
                f"Had {column.stream} not moved, the mean {of} would be "
                f"{told_number(abs(column.prediction_shift))} "
                f"{'lower' if column.prediction_shift > 0 else 'higher'}."
            )
    if segment is not None:
        told.append(
            f"Most of the change of {segment_of} lies where {segment.condition} "
            f"({segment.share:.0%} of the rows): {segment.inside:+.3g} there, "
            f"{segment.outside:+.3g} elsewhere."
        )
    if loss is not None:
        told.append(loss.message)
    return tuple(told)


def _matters(column: MovedColumn) -> bool:
    if column.prediction_shift is None or not column.prediction_error:
        return bool(column.prediction_shift)
    return abs(column.prediction_shift) > _HARDLY * column.prediction_error
