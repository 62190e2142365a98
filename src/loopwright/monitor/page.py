"""A monitor report for people: the verdict first, then the criteria, the alarms and the drift."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loopwright.monitor.bullet import live_bullets, told_value
from loopwright.monitor.insight import Insight
from loopwright.monitor.insight_chart import (
    attribution_view,
    estimate_bullets,
    evidence_lines,
    fairness_view,
    influence_bars,
    newest_checks,
)
from loopwright.monitor.report import MonitorReport, StreamDrift, Triage
from loopwright.monitor.sheet import page_template, whole_page
from loopwright.monitor.truth_chart import truth_view

Tone = Literal["good", "warn", "bad", "none"]

_WIDTH, _HEIGHT, _GAP = 320.0, 84.0, 12.0
_SHOWN_QUIET = 6
_SHORT_LABEL = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldVerdict:
    """A monitor's verdict in words for everyone, with the colour it is shown in."""

    tone: Tone
    title: str
    meaning: str


_TOLD: dict[Triage, ToldVerdict] = {
    "ok": ToldVerdict(
        tone="good",
        title="All is well",
        meaning="The endpoint sees what the model learnt from, and no criterion is missed.",
    ),
    "watch": ToldVerdict(
        tone="warn",
        title="The data has changed, without harm so far",
        meaning="What comes in is not what the model learnt from. Its errors and its predictions "
        "have not moved enough to matter.",
    ),
    "criterion_missed": ToldVerdict(
        tone="bad",
        title="The model no longer meets a criterion",
        meaning="Measured on what turned out to be true, the live model misses what was agreed.",
    ),
    "estimated_miss": ToldVerdict(
        tone="warn",
        title="The model probably no longer meets a criterion",
        meaning="Nobody knows the truth of these rows yet. If only the inputs moved, a criterion is "
        "missed on them.",
    ),
    "drift": ToldVerdict(
        tone="bad",
        title="The model is not what it was",
        meaning="Its errors or its predictions have moved away from those it was released with.",
    ),
    "data_quality": ToldVerdict(
        tone="bad",
        title="The incoming data is faulty",
        meaning="Values are missing, unknown or impossible. The fault lies in the data, not in "
        "the model.",
    ),
}
_UNSEEN = ToldVerdict(
    tone="none",
    title="Nothing was asked yet",
    meaning="The endpoint has made no predictions, so there is nothing to judge.",
)
_UNLABELLED = (
    "Nobody knows yet how good the predictions are: send ground truth for the criteria to be judged"
)


def to_html(report: MonitorReport) -> str:
    """Return a `<section>` without scripts or outside resources, for a notebook or a page.

    Everything that comes from the data, such as column names, is escaped.
    """
    moved = [drift for drift in report.drift if drift.state != "quiet"]
    quiet = [drift for drift in report.drift if drift.state == "quiet"]
    alarmed = {alarm.stream for alarm in report.alarms}
    quiet = [drift for drift in quiet if drift.stream not in alarmed]
    template = page_template("loopwright.monitor", "monitor.html.j2")
    return template.render(
        report=report,
        told=told_verdict(report),
        unlabelled=_UNLABELLED if report.n_predictions and not report.n_labelled else "",
        counts=_counts(report, n_moved=len(moved)),
        bullets=live_bullets(report.figures),
        alarms=_alarms(report),
        **_understood(report.insight),
        truth=truth_view(report.truth),
        # the streams of alarms stand beside these
        moved=[_stream(drift) for drift in moved if drift.stream not in alarmed],
        quiet=[_stream(drift) for drift in quiet[:_SHOWN_QUIET]],
        rest=quiet[_SHOWN_QUIET:],
        width=_WIDTH,
        height=_HEIGHT,
    )


def _alarms(report: MonitorReport) -> list[dict[str, Any]]:
    """Return every open alarm with its stream and with what is behind it, told once."""
    streams = {drift.stream: drift for drift in report.drift}
    shown = []
    told: set[tuple[str, ...]] = set()
    for alarm in report.alarms:
        behind = None
        if alarm.attribution is not None and alarm.attribution.told not in told:
            told.add(alarm.attribution.told)
            behind = attribution_view(alarm.attribution)
        drift = streams.get(alarm.stream)
        stream = None if drift is None else _stream(drift)
        shown.append({"alarm": alarm, "behind": behind, "stream": stream})
    return shown


def _understood(insight: Insight | None) -> dict[str, Any]:
    found = insight or Insight()
    return {
        "estimates": estimate_bullets(found.estimates),
        "checks": newest_checks(found),
        "evidence_over_time": evidence_lines(found.trail),
        "influence": influence_bars(found),
        "fairness": fairness_view(found),
    }


def monitor_page(report: MonitorReport) -> str:
    """Return the same as a whole page that needs nothing else."""
    return whole_page(f"Monitor: version {report.version}", to_html(report))


def told_verdict(report: MonitorReport) -> ToldVerdict:
    """Return what a report comes to, in words for everyone."""
    if report.verdict == "ok" and not report.n_predictions:
        return _UNSEEN
    return _TOLD[report.verdict]


def _counts(report: MonitorReport, *, n_moved: int) -> list[tuple[str, str]]:
    return [
        ("predictions", f"{report.n_predictions:,}"),
        ("with ground truth", f"{report.n_labelled:,} ({report.coverage:.0%})"),
        ("windows judged", f"{report.n_windows:,}"),
        ("streams moved", f"{n_moved} of {len(report.drift)}"),
        ("open alarms", f"{len(report.alarms)}"),
    ]


def _stream(drift: StreamDrift) -> dict[str, Any]:
    return {
        "drift": drift,
        "bars": _bars(drift) if drift.effect.n_rows else [],
        "ends": _ends(drift),
        "facts": _facts(drift),
    }


def _bars(drift: StreamDrift) -> list[tuple[str, float, float, float, float, str]]:
    """Return kind, x, y, width, height and title: a wide bar before, a slim live one over it.

    The last bin counts missing values; it stands a little apart.
    """
    tallest = max((*drift.live_shares, *drift.reference_shares), default=0.0) or 1.0
    step = (_WIDTH - _GAP) / len(drift.bins)
    bars = []
    for index, name in enumerate(drift.bins):
        before, live = drift.reference_shares[index], drift.live_shares[index]
        x = index * step + (_GAP if index == len(drift.bins) - 1 else 0.0)
        title = f"{name}: {before:.1%} before, {live:.1%} live"
        for kind, share, left, wide in (
            ("before", before, x + 0.05 * step, 0.9 * step),
            ("live", live, x + 0.25 * step, 0.5 * step),
        ):
            height = share / tallest * _HEIGHT
            bars.append(
                (
                    kind,
                    round(left, 2),
                    round(_HEIGHT - height, 2),
                    round(wide, 2),
                    round(height, 2),
                    title,
                )
            )
    return bars


def _ends(drift: StreamDrift) -> Sequence[str]:
    """Return what the first, the last and the missing bin are called."""
    if len(drift.bins) < 3:
        return ("", "", "")
    # the outer bins of numbers lie beyond the reference; their edge is its smallest or largest
    return (_end(drift.bins[0]), _end(drift.bins[-2]), "missing")


def _end(name: str) -> str:
    edge = re.fullmatch(r"[<>] (-?[\d.]+(?:e[+-]?\d+)?)", name)
    # a whole number may be a year or a postcode, so it stays as it is
    is_whole = edge is None or edge[1].isdecimal()
    label = name.lstrip("<> ") if edge is None or is_whole else told_value("", float(edge[1]))
    return label if len(label) <= _SHORT_LABEL else f"{label[: _SHORT_LABEL - 1]}…"


def _facts(drift: StreamDrift) -> list[tuple[str, str]]:
    effect = drift.effect
    facts = [("distance", f"{effect.distance:.2f}, {drift.floor_ratio:.1f} × what chance gives")]
    if effect.reference_mean is not None and effect.mean is not None:
        before, live = told_value("mean", effect.reference_mean), told_value("mean", effect.mean)
        facts.append(("mean", f"{before} → {live}"))
    if effect.largest_move and effect.distance:
        facts.append(("moved most", effect.largest_move))
    if effect.novel_share >= 0.005:
        facts.append(("never seen before", f"{effect.novel_share:.1%} of the rows"))
    if max(effect.missing_share, effect.reference_missing_share) >= 0.005:
        facts.append(
            ("missing", f"{effect.reference_missing_share:.1%} → {effect.missing_share:.1%}")
        )
    facts.append(("rows", f"{effect.n_rows:,}"))
    return facts
