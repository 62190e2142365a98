"""What the monitor found, what it means and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from loopwright.monitor.alarm import Alarm
from loopwright.monitor.detector import contributions
from loopwright.monitor.effect import Effect, expected_stream, measured_effect
from loopwright.monitor.estimate import Estimate
from loopwright.monitor.evidence import DetectorState
from loopwright.monitor.finding import DataFinding, data_findings
from loopwright.monitor.ground_truth import GroundTruth, told_truth
from loopwright.monitor.insight import Insight
from loopwright.monitor.quality import LiveFigure
from loopwright.monitor.record import from_record, to_record
from loopwright.monitor.reference import Reference, Role, StreamReference

Triage = Literal["ok", "watch", "criterion_missed", "estimated_miss", "drift", "data_quality"]

ACTIONS: dict[Triage, str] = {
    "ok": "Nothing to do.",
    "watch": "The data changed without harm so far; look at the columns below, do not retrain yet.",
    "criterion_missed": "Retrain with the newest labelled rows.",
    "estimated_miss": "Send labels for the newest rows if there are any; retrain with the newest "
    "labelled rows.",
    "drift": "Retrain with the newest labelled rows.",
    "data_quality": "Repair the data source first; a model retrained on such rows learns the fault.",
}
_BARS = " ▁▂▃▄▅▆▇█"
_SHOWN_LOOKS = 40
_LARGE_PREDICTION_DRIFT = 0.1  # of P(live > reference) - 0.5, or of total variation


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDrift:
    """Where one stream stands.

    Parameters
    ----------
    state
        `drifted`: an alarm's worth of evidence; `moving`: half of it; else `quiet`.
    evidence, share
        Nats of evidence for a change of this stream, and its share in all evidence.
    since_at
        Since when the rows in `effect` are counted: the likely change, else the last window.
    bins, live_shares, reference_shares
        The histogram, for a plot.
    """

    stream: str
    role: Role
    state: Literal["quiet", "moving", "drifted"]
    effect: Effect
    floor_ratio: float
    evidence: float
    share: float
    since_at: datetime | None
    bins: tuple[str, ...]
    live_shares: tuple[float, ...]
    reference_shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorReport:
    """What was looked at, what moved, how good the model is, and what follows.

    Parameters
    ----------
    version
        The model version that was watched.
    from_at, to_at
        Times of the first and last prediction since deployment.
    n_predictions, n_labelled
        Since deployment.
    n_new_predictions, n_new_labelled
        In this look.
    n_windows
        Full windows judged since deployment.
    drift
        Every stream, what has drifted furthest first.
    alarms
        Open episodes.
    new_alarms
        Alarms raised in this look: send these on, each is here once.
    figures
        The criteria, measured live.
    findings
        Faults of the incoming data.
    verdict, reason, action
        What it comes to, by which finding, and what to do.
    insight
        Why it moved and how good the model still is; None where the bundle holds no rows for that.
    truth
        What is known of the labels.
    """

    version: str
    from_at: datetime | None
    to_at: datetime | None
    n_predictions: int
    n_labelled: int
    n_new_predictions: int
    n_new_labelled: int
    n_windows: int
    drift: tuple[StreamDrift, ...]
    alarms: tuple[Alarm, ...]
    new_alarms: tuple[Alarm, ...]
    figures: tuple[LiveFigure, ...]
    findings: tuple[DataFinding, ...]
    verdict: Triage
    reason: str
    action: str
    insight: Insight | None = None
    truth: GroundTruth | None = None
    format: int = 1

    @property
    def coverage(self) -> float:
        """The share of predictions with a label, 0 to 1."""
        return self.n_labelled / self.n_predictions if self.n_predictions else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return to_record(self)

    @classmethod
    def from_json(cls, record: Any) -> MonitorReport:
        """Return the report that `to_json` wrote; a damaged one is an `InvalidInputError`."""
        return from_record(cls, record)


def stream_drifts(states: Sequence[DetectorState], reference: Reference) -> tuple[StreamDrift, ...]:
    """Return where every stream of some detectors stands, what has drifted furthest first."""
    drifts = [
        _stream_drift(stream, state, contributions(state, reference)[stream.key])
        for state in states
        for stream in reference.streams
        if stream.key in state.streams
    ]
    # evidence stops growing a little above an alarm, so that distance orders what has drifted
    order = ("drifted", "moving", "quiet")
    return tuple(sorted(drifts, key=lambda drift: (order.index(drift.state), -drift.floor_ratio)))


def current_findings(state: DetectorState, reference: Reference) -> tuple[DataFinding, ...]:
    """Return the faults in the rows a data detector holds."""
    return tuple(
        finding
        for stream in reference.inputs
        if stream.key in state.streams
        for finding in data_findings(stream, state.streams[stream.key].counts)
    )


def triage(
    *,
    drift: Sequence[StreamDrift],
    alarms: Sequence[Alarm],
    figures: Sequence[LiveFigure],
    findings: Sequence[DataFinding],
) -> tuple[Triage, str]:
    """Return what the findings come to, and the finding that decided.

    A fault of the data comes first, because retraining on faulty rows does harm; then a missed
    criterion; then drift of the error or a large drift of the predictions; then any other alarm.
    """
    fault = next((finding for finding in findings if finding.is_grave), None)
    if fault is not None:
        return "data_quality", fault.message
    missed = next((figure for figure in figures if figure.verdict == "missed"), None)
    if missed is not None:
        return "criterion_missed", told_figure(missed)
    worse = next((alarm for alarm in alarms if alarm.kind == "error"), None)
    if worse is not None:
        return "drift", worse.message
    if any(_is_large(stream) for stream in drift if stream.role == "prediction") and alarms:
        return "drift", alarms[0].message
    if alarms:
        return "watch", alarms[0].message
    if findings:
        return "watch", findings[0].message
    return "ok", "No alarm, and no criterion is missed."


def with_insight(report: MonitorReport, insight: Insight | None) -> MonitorReport:
    """Return a report with what explains it; a surely missed estimate may become its verdict.

    An estimate speaks only where the truth does not: faults of the data, criteria measured on labels
    and a grown error come before it.
    """
    if insight is None:
        return report
    alarms, new = (
        tuple(
            replace(alarm, attribution=insight.attributions.get(alarm_key(alarm)))
            for alarm in alarms
        )
        for alarms in (report.alarms, report.new_alarms)
    )
    explained = replace(report, insight=insight, alarms=alarms, new_alarms=new)
    missed = insight.estimated_misses
    is_worse = any(alarm.kind == "error" for alarm in alarms)
    if not missed or report.verdict in ("data_quality", "criterion_missed") or is_worse:
        return explained
    return replace(
        explained,
        verdict="estimated_miss",
        reason=told_estimate(missed[0]),
        action=ACTIONS["estimated_miss"],
    )


def alarm_key(alarm: Alarm) -> str:
    """Return what tells an alarm apart from others of its model: its kind and number."""
    return f"{alarm.kind} {alarm.number}"


def told_estimate(estimate: Estimate) -> str:
    """Return an estimate as one line."""
    limit = f"{estimate.direction.replace('_', ' ')} {estimate.target:g}"
    if estimate.value is None or estimate.lower is None or estimate.upper is None:
        return f"{estimate.metric} cannot be estimated without labels: {estimate.reason}."
    say = ", but earlier estimates were wrong" if estimate.standing == "wrong" else ""
    return (
        f"{estimate.metric} without labels: {estimate.value:.4g} ({estimate.lower:.4g} to "
        f"{estimate.upper:.4g}; {estimate.n_rows:,} rows; {estimate.assumes}), target {limit}: "
        f"{estimate.verdict}{say}"
    )


def summary(report: MonitorReport) -> list[str]:
    """Return the report as lines for a terminal."""
    lines = [
        f"Version {report.version}: {report.n_predictions:,} predictions{_period(report)}, "
        f"{report.n_labelled:,} labelled ({report.coverage:.0%}), {report.n_windows:,} windows.",
        f"Verdict: {report.verdict.replace('_', ' ')}. {report.action}",
        f"Because: {report.reason}",
    ]
    told = [f"Fault: {finding.message}" for finding in report.findings]
    told += [f"Alarm ({alarm.kind}): {alarm.message}" for alarm in report.alarms]
    told += [told_figure(figure) for figure in report.figures]
    lines += [line for line in told if report.reason not in line]
    lines += [
        f"{drift.stream}: {drift.state}, distance {drift.effect.distance:.3f}, "
        f"{drift.floor_ratio:.1f} times the noise floor"
        for drift in report.drift[:3]
        if drift.effect.n_rows
    ]
    known = told_truth(report.truth) if report.truth is not None else []
    return [*lines, *_told_insight(report), *known]


def sparkline(values: Sequence[float], *, most: float | None = None) -> str:
    """Return values from 0 as bars of text, the greatest as high as a line.

    Examples
    --------
    >>> sparkline([0.0, 1.0, 2.0, 4.0])
    ' ▂▄█'
    """
    top = max((*values, most or 0.0), default=0.0) or 1.0
    last = len(_BARS) - 1
    return "".join(_BARS[round(max(value, 0.0) / top * last)] for value in values)


def _histograms(report: MonitorReport) -> list[str]:
    """Return the stream of every open alarm as two histograms, on one scale."""
    lines = []
    for drift in report.drift:
        if drift.stream in {alarm.stream for alarm in report.alarms} and drift.effect.n_rows:
            top = max((*drift.live_shares, *drift.reference_shares), default=0.0)
            before = sparkline(drift.reference_shares, most=top)
            lines.append(
                f"{drift.stream}: at release |{before}| live "
                f"|{sparkline(drift.live_shares, most=top)}|"
            )
    return lines


def _told_insight(report: MonitorReport) -> list[str]:
    insight = report.insight
    if insight is None:
        return _histograms(report)
    lines = _histograms(report)
    if len(insight.trail) > 1:
        shares = [
            max(p.data / max(p.data_threshold, 1e-9), p.error / max(p.error_threshold, 1e-9))
            for p in insight.trail[-_SHOWN_LOOKS:]
        ]
        evidence = sparkline([min(share, 1.0) for share in shares], most=1.0)
        lines.append(f"Evidence over the last {len(shares)} looks, █ raises an alarm: |{evidence}|")
    for alarm in report.alarms:
        if alarm.details:
            lines.append(f"In figures: {alarm.details}")
        if alarm.attribution is not None:
            lines += [f"Behind it: {told}" for told in alarm.attribution.told]
            lines.append(f"What to do: {alarm.attribution.advice}")
    lines += [f"Estimate: {told_estimate(each)}" for each in insight.estimates]
    newest: dict[str, str] = {}
    for check in insight.checks:
        newest[check.metric] = check.message
    lines += [f"Check: {message}" for message in newest.values()]
    if insight.explanation is not None and insight.explanation.has_moved:
        lines.append(f"Explanations: {insight.explanation.message}")
    lines += [f"Fairness: {each.message}" for each in insight.fairness]
    if insight.skew is not None and (insight.skew.n_different or insight.skew.features):
        lines.append(f"Serving: {insight.skew.message}")
    lines += [
        f"Worst rows: {each.condition} ({each.share:.0%} of the rows): loss {each.loss:.4g}, "
        f"{each.elsewhere:.4g} elsewhere"
        for each in insight.slices[:3]
    ]
    lines += [f"Could not be found out: {problem}" for problem in insight.problems]
    return [line for line in dict.fromkeys(lines) if report.reason not in line]


def told_figure(figure: LiveFigure) -> str:
    """Return a live figure as one line."""
    limit = f"{figure.direction.replace('_', ' ')} {figure.target:g}"
    if figure.estimate is None:
        return f"{figure.metric} {figure.period}: no labels yet, target {limit}"
    bounds = "too few rows for bounds"
    if figure.lower is not None and figure.upper is not None:
        bounds = f"{figure.lower:.4g} to {figure.upper:.4g} at {figure.confidence:.1%}"
    return (
        f"{figure.metric} {figure.period}: {figure.estimate:.4g} ({bounds}; {figure.n:,} rows), "
        f"target {limit}: {figure.verdict}"
    )


def _stream_drift(stream: StreamReference, state: DetectorState, share: float) -> StreamDrift:
    held = state.streams[stream.key]
    stream = expected_stream(stream, held.strata_rows)
    effect = measured_effect(stream, held.counts)
    if held.evidence >= state.bar:
        standing: Literal["quiet", "moving", "drifted"] = "drifted"
    else:
        standing = "moving" if held.evidence >= state.bar / 2 else "quiet"
    return StreamDrift(
        stream=stream.key,
        role=stream.role,
        state=standing,
        effect=effect,
        floor_ratio=round(effect.floor_ratio, 3),
        evidence=held.evidence,
        share=round(share, 4),
        since_at=held.since_at,
        bins=stream.bin_names,
        live_shares=_shares(held.counts),
        reference_shares=_shares(stream.counts),
    )


def _shares(counts: Sequence[int]) -> tuple[float, ...]:
    total = sum(counts) or 1
    return tuple(round(count / total, 4) for count in counts)


def _is_large(drift: StreamDrift) -> bool:
    return drift.state == "drifted" and abs(drift.effect.size) >= _LARGE_PREDICTION_DRIFT


def _period(report: MonitorReport) -> str:
    if report.from_at is None or report.to_at is None:
        return ""
    return f" from {report.from_at:%Y-%m-%d %H:%M} to {report.to_at:%Y-%m-%d %H:%M}"
