"""What an alarm tells a person: what moved, how much, since when, and how much it matters."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from loopwright.monitor.attribution import Attribution
from loopwright.monitor.detector import strongest_bet
from loopwright.monitor.effect import Effect, expected_stream, measured_effect
from loopwright.monitor.evidence import DetectorState
from loopwright.monitor.plain import told_plainly, told_predictions
from loopwright.monitor.reference import Reference, StreamReference

_MOVEMENTS = {
    "up": "moved up",
    "down": "moved down",
    "wider": "spread out",
    "narrower": "narrowed",
    "missing": "is missing more often",
    "mean up": "grew",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One episode of change, as it stood when the alarm was raised.

    Parameters
    ----------
    kind
        `data` for inputs and predictions, `error` for the loss against ground truth.
    number
        The episode of this kind, from 1.
    at
        Time of the first row of the window that raised the alarm.
    since_at
        Likely time of the change.
    stream, movement
        The stream that contributed most, and how it moved.
    others
        Other streams with an alarm's worth of evidence of their own.
    effect
        The leading stream's rows since the change against the reference.
    prediction_effect
        The same for the predictions; None for an error alarm.
    message
        What moved, how much, since when and for whom, and whether predictions did, in plain words.
    details
        The same as a statistician wants it.
    attribution
        What is behind it; None where the bundle holds no rows to compare with.
    segment
        The segment whose rows moved; empty for all rows.
    """

    kind: Literal["data", "error"]
    number: int
    at: datetime | None
    since_at: datetime | None
    stream: str
    movement: str
    others: tuple[str, ...]
    effect: Effect
    prediction_effect: Effect | None
    message: str
    attribution: Attribution | None = None
    segment: str = ""
    details: str = ""


def new_alarm(
    kind: Literal["data", "error"], state: DetectorState, reference: Reference
) -> Alarm | None:
    """Return the alarm for the state's open episode, or None if there is none."""
    episode = state.episode
    if episode is None:
        return None
    streams = {stream.key: stream for stream in reference.streams}
    held = state.streams[episode.leader]
    leader = expected_stream(streams[episode.leader], held.strata_rows)
    effect = measured_effect(leader, held.counts)
    bet = strongest_bet(state, streams[episode.leader])
    movement = _MOVEMENTS.get(bet, f"moved: {bet}")
    matter = _prediction_effect(state, reference) if kind == "data" else None
    sentences = [
        told_plainly(leader, held.counts, effect, bet=bet, since=held.since_at),
        told_predictions(matter) if leader.role != "prediction" else "",
        f"Also moved: {', '.join(episode.streams[1:6])}." if episode.streams[1:] else "",
    ]
    details = [
        f"{leader.key}: {told_effect(leader, effect)} ({effect.n_rows:,} rows).",
        _told_matter(leader, matter) if kind == "data" else "",
    ]
    return Alarm(
        kind=kind,
        number=episode.number,
        at=episode.at,
        since_at=held.since_at,
        stream=leader.key,
        movement=movement,
        others=episode.streams[1:],
        effect=effect,
        prediction_effect=matter,
        message=" ".join(sentence for sentence in sentences if sentence),
        details=" ".join(detail for detail in details if detail),
        segment=leader.segment,
    )


def told_effect(stream: StreamReference, effect: Effect) -> str:
    """Return the size of an effect in words."""
    times = f"{effect.floor_ratio:.1f} times the noise floor"
    if stream.role == "error" and effect.mean is not None and effect.reference_mean:
        return _told_error(effect, mean=effect.mean, reference_mean=effect.reference_mean)
    if effect.missing_share > effect.reference_missing_share + 0.05:
        return f"missing {effect.reference_missing_share:.1%} → {effect.missing_share:.1%}"
    if effect.measure == "total_variation":
        return f"{effect.distance:.1%} of the rows changed category, most {effect.largest_move!r}; {times}"
    mean = "" if effect.mean is None else f"mean {effect.reference_mean:.4g} → {effect.mean:.4g}, "
    return (
        f"{mean}a live value exceeds a reference value in {0.5 + effect.size:.0%} of pairs (50% if "
        f"nothing had changed), KS {effect.distance:.2f}, {times}"
    )


def _told_error(effect: Effect, *, mean: float, reference_mean: float) -> str:
    # values past the reference range count as its largest, so the mean is a lower bound
    if mean > reference_mean:
        ratio = mean / reference_mean
        return f"mean {reference_mean:.4g} → at least {mean:.4g}, {ratio:.1f} times as much"
    if effect.size > 0:
        return (
            "typical error larger: a live error exceeds a reference error with probability "
            f"{0.5 + effect.size:.2f} (0.50 if nothing had changed)"
        )
    return (
        f"{effect.novel_share:.1%} of the errors lie outside all reference errors, "
        f"mean {reference_mean:.4g} → at least {mean:.4g}"
    )


def _prediction_effect(state: DetectorState, reference: Reference) -> Effect | None:
    stream = reference.find("prediction")
    if stream is None or stream.key not in state.streams:
        return None
    held = state.streams[stream.key]
    return measured_effect(expected_stream(stream, held.strata_rows), held.counts)


def _told_matter(leader: StreamReference, effect: Effect | None) -> str:
    if effect is None or leader.role == "prediction":
        return ""
    size = f"distance {effect.distance:.2f}, {effect.floor_ratio:.1f} times the noise floor"
    return f"The predictions: {size}."
