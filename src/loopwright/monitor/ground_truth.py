"""How far ground truth can be trusted: how much has come, how fast, and whether it is selective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec

from loopwright.monitor.effect import measured_effect
from loopwright.monitor.hourly import AGES_S, LiveStatistics, Statistics, end_of
from loopwright.monitor.label import Maturity
from loopwright.monitor.label_rule import LabelCounts
from loopwright.monitor.reference import Reference

_MATURE = 0.8
_LEAST_LABELLED = 100
# of the Kolmogorov distance; one look in a thousand would go as far by chance at 1.95
_SURELY = 2.5
_MATTERS = 0.1


class WindowFigure(msgspec.Struct, frozen=True, kw_only=True):
    """A criterion over a stretch of time whose labels have come.

    Parameters
    ----------
    period
        Such as `7 days`.
    from_at, to_at
        When the predictions were made.
    n, n_predictions
        Labelled predictions, and all.
    lower, upper
        Bounds at the loop's confidence; None where there are too few rows.
    verdict
        `holds`, `missed` or `undecided`.
    """

    period: str
    metric: str
    from_at: datetime
    to_at: datetime
    n: int
    n_predictions: int
    estimate: float | None
    lower: float | None
    upper: float | None
    target: float
    direction: str
    verdict: str


class OverTime(msgspec.Struct, frozen=True, kw_only=True):
    """One hour or day: how much came, how wrong the answers were, and how far rows had moved.

    Parameters
    ----------
    loss
        Mean loss of the labelled predictions made then; None without any.
    prediction, largest
        Distance from the reference, 0 to 1, of the predictions and of the column that lay furthest
        off, which is `column`; None with fewer than 100 predictions.
    """

    start: datetime
    n: int
    n_labelled: int
    loss: float | None
    prediction: float | None
    largest: float | None
    column: str = ""


class GroundTruth(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the labels of an endpoint.

    Parameters
    ----------
    counts
        The account of every label.
    curve
        Which share of predictions of at least some age had their label by that age.
    mature_age_s
        From which age on a prediction has its label if it ever gets one (80 % of those that do);
        None while too few have come.
    selective
        Why labelled predictions do not stand for the others; empty while they do.
    windows
        The criteria over stretches of time.
    over_time
        The newest hours and days of the live version, oldest first.
    held
        What is told of each batch of labels that waits for a person.
    source
        Why the label source was not read to its end; empty when it was.
    """

    counts: LabelCounts
    curve: tuple[Maturity, ...] = ()
    mature_age_s: float | None = None
    selective: str = ""
    windows: tuple[WindowFigure, ...] = ()
    over_time: tuple[OverTime, ...] = ()
    held: tuple[str, ...] = ()
    source: str = ""


def arrival_curve(statistics: Statistics, *, now: datetime) -> tuple[Maturity, ...]:
    """Return the label-arrival curve of some predictions, up to the age of the oldest.

    A prediction counts at an age when the whole of its window is at least so old.
    """
    curve = []
    for place, age_s in enumerate(AGES_S):
        before = now - _s(age_s)
        old = [
            each for key, each in statistics.items() if not key.segment and end_of(key) <= before
        ]
        n = sum(each.n for each in old)
        if not n:
            break
        arrived = sum(sum(each.delays[: place + 1]) for each in old)
        curve.append(Maturity(age_s=age_s, n_predictions=n, share=min(1.0, arrived / n)))
    return tuple(curve)


def mature_age(curve: Sequence[Maturity]) -> float | None:
    """Return from which age on 80 % of the labels that ever come are there; None if unknown.

    What comes later than the oldest prediction is old cannot be known, so an age that is the last
    of several on a curve that still rises is no answer.
    """
    shares = [each.share or 0.0 for each in curve]
    if not shares or not max(shares):
        return None
    ages = [
        each.age_s
        for each, share in zip(curve, shares, strict=True)
        if share >= _MATURE * max(shares)
    ]
    still_rises = len(shares) > 1 and shares[-1] > 1.1 * shares[-2] and ages[0] == curve[-1].age_s
    return None if still_rises else ages[0]


def selective_labels(reference: Reference, statistics: Statistics, *, until: datetime) -> str:
    """Return why labelled predictions do not stand for the others; empty if they do or it is unknown.

    The predictions of windows that ended before `until`, the labelled ones beside the others, are
    compared as live rows are with the reference: by the distance of their histograms, which must be
    0.1 and 2.5 times what so many rows show by chance at its 1-in-2,000 level.
    """
    stream = reference.find("prediction")
    total = LiveStatistics()
    for key, each in statistics.items():
        if end_of(key) <= until and not key.segment:
            total = total + each
    counts, labelled = total.counts.get("prediction", ()), total.labelled
    if stream is None or len(counts) != len(labelled):
        return ""
    others = tuple(max(0, a - b) for a, b in zip(counts, labelled, strict=True))
    n, m = sum(labelled), sum(others)
    if n < _LEAST_LABELLED or m < _LEAST_LABELLED:
        return ""
    effect = measured_effect(replace(stream, counts=others), labelled)
    certain = _SURELY * math.sqrt(1 / n + 1 / m)
    if effect.distance < max(_MATTERS, certain):
        return ""
    direction = ""
    if effect.measure == "superiority":
        direction = "; labelled ones are higher" if effect.size > 0 else "; labelled ones are lower"
    return (
        f"labels are selective: the predictions of the {n:,} labelled rows differ from those of the "
        f"{m:,} others (distance {effect.distance:.2f}{direction}), so what is measured on labels "
        "may not hold for all."
    )


def told_truth(truth: GroundTruth) -> list[str]:
    """Return what is known of the labels, as lines for a terminal."""
    counts = truth.counts
    aside = {
        "unknown ids": counts.n_unknown,
        "unreadable": counts.n_unreadable,
        "repeated": counts.n_duplicate,
        "contradictory": counts.n_conflicting,
        "too late": counts.n_too_late,
        "older than their prediction": counts.n_early,
        "held or taken back": counts.n_held,
        "ambiguous keys": counts.n_ambiguous,
    }
    told = [f"{n:,} {what}" for what, n in aside.items() if n]
    lines = []
    if told:
        lines.append(f"Labels: {counts.n_labels:,} came; {', '.join(told)}.")
    if truth.mature_age_s is not None and truth.mature_age_s > AGES_S[2]:
        lines.append(
            f"Labels take up to {_age(truth.mature_age_s)}; newer predictions are not judged."
        )
    if truth.selective:
        lines.append(truth.selective[0].upper() + truth.selective[1:])
    lines += [f"Held: {each}" for each in truth.held]
    if truth.source:
        lines.append(f"Label source: {truth.source}")
    return lines


def merged_windows(
    statistics: Statistics, *, version: str | None = None, segment: str = ""
) -> Mapping[datetime, LiveStatistics]:
    """Return the statistics by the start of their window, oldest first, variants together."""
    total: dict[datetime, LiveStatistics] = {}
    for key in sorted(statistics):
        if key.segment == segment and version in (None, key.version):
            held = total.get(key.start, LiveStatistics())
            total[key.start] = held + statistics[key]
    return total


def over_time(
    reference: Reference, statistics: Statistics, *, version: str, most: int = 168
) -> tuple[OverTime, ...]:
    """Return the newest windows of a version, oldest first; see `OverTime`."""
    streams = {each.key: each for each in reference.streams if not each.segment}
    windows = list(merged_windows(statistics, version=version).items())[-most:]
    found = []
    for start, each in windows:
        distances = {
            key: measured_effect(streams[key], counts).distance
            for key, counts in each.counts.items()
            if key in streams and len(counts) == streams[key].n_bins and each.n >= _LEAST_LABELLED
        }
        inputs = {key: far for key, far in distances.items() if key != "prediction"}
        column = max(inputs, key=lambda key: inputs[key], default="")
        found.append(
            OverTime(
                start=start,
                n=each.n,
                n_labelled=each.n_labelled,
                loss=each.mean_loss,
                prediction=distances.get("prediction"),
                largest=inputs.get(column),
                column=column,
            )
        )
    return tuple(found)


def _s(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def _age(seconds: float) -> str:
    days, hours = seconds / 86_400, seconds / 3_600
    return f"{days:g} days" if days >= 1 else f"{hours:g} hours"
