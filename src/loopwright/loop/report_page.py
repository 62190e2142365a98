"""The model report as one page; its first screen needs no knowledge of machine learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loopwright.evaluate.examination import (
    Examination,
    Reading,
    RobustnessReading,
    SegmentReading,
    Unit,
)
from loopwright.evaluate.explanation import ExplainedRow, ExplanationReading
from loopwright.evaluate.fairness import FairnessReading
from loopwright.loop.model_report import RATE_WORDS, ModelReport, model_report
from loopwright.loop.report_chart import (
    HEIGHT,
    WIDTH,
    Picture,
    calibration,
    dependent,
    gains,
    learning,
    residuals,
    told,
    trade_off,
)
from loopwright.loop.step import round_key
from loopwright.loop.workspace import Workspace
from loopwright.monitor.bullet import metric_words
from loopwright.monitor.sheet import page_template, whole_page
from loopwright.train.reason import told_number

_FIRST_FIGURES = 7
_MOST_ROBUST = 12
_MOST_INFLUENCES = 12
_MOST_SEGMENTS = 12
_SHARE_UNIT: Unit = "share"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A value with its bounds, laid out from 0 to 100 on a common axis; None where not known."""

    name: str
    note: str
    value: str
    bounds: str
    at: float | None
    start: float
    width: float
    look: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One reason of an example row: its part of a waterfall, from 0 to 100."""

    name: str
    told: str
    start: float
    width: float
    look: str


def report_page(report: ModelReport) -> str:
    """Return one self-contained HTML page on a model, light and dark, without scripts.

    Everything that comes from the loop file, the data or a person is escaped.
    """
    found = report.examination
    part = page_template("loopwright.loop", "report.html.j2").render(
        report=report,
        action=_with_code(report.headline.action),
        n_held=sum(each.holds is True for each in report.criteria),
        sections=_sections(report),
        figures=_figures(found),
        n_first=_FIRST_FIGURES,
        tradeoffs=_tradeoffs(found),
        gains=gains(found.gains) if found else None,
        calibrations=_calibrations(found),
        residuals=residuals(found.residuals) if found and found.residuals else None,
        learning=[p for curve in found.learning if (p := learning(curve))] if found else [],
        segments=_segments(found),
        robustness=_robustness(found),
        influences=_influences(report.explanation),
        examples=[
            (row, _answer(row.answer, report.explanation), _waterfall(row, report.explanation))
            for row in (report.explanation.examples if report.explanation else ())
        ],
        base=_answer(report.explanation.base, report.explanation) if report.explanation else "",
        dependences=_dependences(report.explanation),
        fairness=[(each, _groups(each)) for each in report.fairness],
        width=WIDTH,
        height=HEIGHT,
        number=told,
    )
    return whole_page(f"Model report: {report.question or report.loop}", part)


def keep_report(workspace: Workspace, name: str) -> str:
    """Keep the page of the newest round's report in the store and return its digest."""
    report = model_report(workspace, name)
    page = workspace.artifacts.put_bytes(report_page(report).encode())
    workspace.metadata.put("model_report", round_key(name, report.round), {"page": page})
    return page


def _with_code(text: str) -> Any:
    """Return text as HTML in which what stands between backticks is code; the rest is escaped."""
    from markupsafe import Markup, escape

    parts = [escape(part) for part in text.split("`")]
    code = Markup("<code>{}</code>").format
    return Markup("").join(code(part) if at % 2 else part for at, part in enumerate(parts))


def _sections(report: ModelReport) -> list[tuple[str, str]]:
    """Return the sections that have something to show: anchor and title."""
    found = report.examination
    has = {
        "verdict": report.decided.get("decision", "ml_worth_it") != "ml_worth_it",
        "figures": found is not None,
        "tradeoff": found is not None and found.threshold is not None,
        "explained": report.explanation is not None,
        "segments": found is not None and bool(found.segments),
        "calibration": found is not None and (found.calibration or found.interval) is not None,
        "robustness": found is not None and bool(found.robustness),
        "fairness": bool(report.fairness),
        "data": True,
        "card": True,
        "record": True,
    }
    titles = {
        "verdict": "Does it need a model?",
        "figures": "How good",
        "tradeoff": "Trade-off",
        "explained": "What it goes by",
        "segments": "Where it is weak",
        "calibration": "How sure",
        "robustness": "When data goes wrong",
        "fairness": "Fairness",
        "data": "Data",
        "card": "Model card",
        "record": "Record",
    }
    return [(name, title) for name, title in titles.items() if has[name]]


def told_unit(value: float | None, unit: str) -> str:
    """Return a value in its unit.

    Examples
    --------
    >>> [told_unit(0.123, "share"), told_unit(-1234.5, "money"), told_unit(None, "number")]
    ['12.3%', '-1,234', '–']
    """
    if value is None:
        return "–"
    if unit == _SHARE_UNIT:
        return f"{value:.1%}"
    return told(value)


def _answer(value: float, explanation: ExplanationReading | None) -> str:
    is_share = explanation is not None and explanation.is_share
    return f"{value:.1%}" if is_share else told_number(value)


def _figures(found: Examination | None) -> list[Span]:
    if found is None:
        return []
    asked = [verdict.metric for verdict in found.verdicts]
    # what was agreed comes first
    ordered = sorted(
        found.figures, key=lambda r: asked.index(r.metric) if r.metric in asked else len(asked)
    )
    return [_figure(each) for each in ordered]


def _figure(reading: Reading) -> Span:
    known = [v for v in (reading.value, reading.lower, reading.upper) if v is not None]
    low, high = (0.0, 1.0) if reading.unit == _SHARE_UNIT else _axis(known)
    return _span(
        metric_words(reading.metric) if reading.title == reading.metric else reading.title,
        reading.metric,
        reading.value,
        reading.lower,
        reading.upper,
        axis=(low, high),
        unit=reading.unit,
    )


def _axis(values: Sequence[float]) -> tuple[float, float]:
    low, high = min([0.0, *values]), max([0.0, *values])
    room = (high - low) or 1.0
    return (low - 0.05 * room if low < 0 else 0.0), high + 0.1 * room


def _span(
    name: str,
    note: str,
    value: float | None,
    lower: float | None,
    upper: float | None,
    *,
    axis: tuple[float, float],
    unit: str,
    look: str = "",
) -> Span:
    def place(v: float) -> float:
        return round(100 * min(max((v - axis[0]) / ((axis[1] - axis[0]) or 1.0), 0.0), 1.0), 2)

    start = end = 0.0
    if lower is not None and upper is not None:
        start, end = place(lower), place(upper)
    return Span(
        name=name,
        note=note,
        value=told_unit(value, unit),
        bounds=""
        if lower is None or upper is None
        else f"{told_unit(lower, unit)} to {told_unit(upper, unit)}",
        at=None if value is None else place(value),
        start=start,
        width=round(end - start, 2),
        look=look,
    )


def _tradeoffs(found: Examination | None) -> tuple[Picture, ...]:
    return trade_off(found.threshold) if found and found.threshold else ()


def _calibrations(found: Examination | None) -> list[tuple[str, Picture]]:
    if found is None or found.calibration is None:
        return []
    named = [("As the model answers", found.calibration.after)]
    if found.calibration.method != "none":
        named.append(("Before the repair", found.calibration.before))
    return [(name, picture) for name, each in named if (picture := calibration(each))]


def _segments(found: Examination | None) -> list[tuple[SegmentReading, Span]]:
    if found is None or not found.segments:
        return []
    unit = next((r.unit for r in found.figures if r.metric == found.main_metric), "number")
    shown = sorted(found.segments, key=lambda s: (not s.is_worse, not s.named))[:_MOST_SEGMENTS]
    known = [v for s in shown for v in (s.value, s.lower, s.upper) if v is not None]
    axis = _axis(known) if known else (0.0, 1.0)
    return [
        (
            s,
            _span(
                s.name,
                s.condition if s.condition != s.name else "",
                s.value,
                s.lower,
                s.upper,
                axis=axis,
                unit=unit,
                look="missed" if s.is_worse else "",
            ),
        )
        for s in shown
    ]


def _robustness(found: Examination | None) -> list[tuple[RobustnessReading, Span]]:
    if found is None:
        return []
    known = [each for each in found.robustness if each.loss is not None]
    shown = sorted(known, key=lambda each: -(each.loss or 0.0))[:_MOST_ROBUST]
    refused = [each for each in found.robustness if each.refused][:_MOST_ROBUST]
    values = [v for e in shown for v in (e.loss, e.lower, e.upper) if v is not None]
    axis = _axis(values) if values else (0.0, 1.0)
    unit = next((r.unit for r in found.figures if r.metric == found.main_metric), "number")
    return [
        (each, _span(each.column, "", each.loss, each.lower, each.upper, axis=axis, unit=unit))
        for each in (*shown, *(r for r in refused if r not in shown))
    ]


def _influences(found: ExplanationReading | None) -> list[Span]:
    if found is None:
        return []
    shown = [each for each in found.columns if each.share > 0][:_MOST_INFLUENCES]
    greatest = max((each.mean for each in shown), default=1.0)
    words = {"up": "greater values raise the answer", "down": "greater values lower the answer"}
    return [
        Span(
            name=each.column,
            note=words.get(each.direction, ""),
            value=_points(each.mean, found),
            bounds=f"{each.share:.0%}",
            at=None,
            start=0.0,
            width=round(100 * each.mean / greatest, 2),
        )
        for each in shown
    ]


def _points(value: float, found: ExplanationReading) -> str:
    return f"{told_number(100 * value)} points" if found.is_share else told_number(value)


def _waterfall(row: ExplainedRow, found: ExplanationReading | None) -> list[Step]:
    if found is None:
        return []
    named = [(f"{r.column} {r.value}", r.adds) for r in row.reasons]
    if abs(row.others) > 0:
        named.append(("all other columns", row.others))
    reached, places = found.base, [found.base]
    for _, adds in named:
        reached += adds
        places.append(reached)
    low, high = min(places), max(places)
    room = (high - low) or 1.0
    steps = []
    for at, (name, adds) in enumerate(named):
        start, end = sorted((places[at], places[at + 1]))
        steps.append(
            Step(
                name=name,
                told=("+" if adds >= 0 else "−") + _points(abs(adds), found),
                start=round(100 * (start - low) / room, 2),
                width=round(max(0.6, 100 * (end - start) / room), 2),
                look="up" if adds >= 0 else "down",
            )
        )
    return steps


def _dependences(found: ExplanationReading | None) -> list[dict[str, Any]]:
    if found is None:
        return []
    shown = []
    for each in found.dependence:
        picture = dependent(each, is_share=found.is_share)
        spans = []
        if picture is None:
            values = [v for p in each.points for v in (p.low, p.high)]
            axis = (min(values), max(values)) if max(values) > min(values) else _axis(values)
            unit = "share" if found.is_share else "number"
            spans = [
                _span(p.value, "", p.mean, p.low, p.high, axis=axis, unit=unit) for p in each.points
            ]
        shown.append(
            {
                "reading": each,
                "picture": picture,
                "spans": spans,
                "course": _told_course(each.course, each.share_against),
            }
        )
    return shown


def _told_course(course: str, against: float) -> str:
    told = {
        "rises": "Rises with it for every row.",
        "falls": "Falls with it for every row.",
        "flat": "Nothing changes with it.",
        "none": "",
    }
    if course == "mixed":
        return f"Goes up and down: {against:.0%} of rows turn somewhere."
    return told[course]


def _groups(reading: FairnessReading) -> list[dict[str, Any]]:
    """Return one table a rate: its groups on a common axis."""
    tables = []
    metrics = [figure.metric for figure in reading.groups[0].figures] if reading.groups else []
    for at, metric in enumerate(metrics):
        figures = [(group, group.figures[at]) for group in reading.groups]
        values = [v for _, f in figures for v in (f.value, f.lower, f.upper) if v is not None]
        axis = _axis(values) if values else (0.0, 1.0)
        unit = "share" if metric in RATE_WORDS and metric != "bias" else _unit_of(metric)
        limit = next((each for each in reading.limits if each.metric == metric), None)
        tables.append(
            {
                "title": RATE_WORDS.get(metric) or metric_words(metric),
                "metric": metric,
                "limit": limit,
                "rows": [
                    _span(
                        group.name,
                        f"{group.n_rows:,} rows" + ("" if group.is_judged else ", too few"),
                        figure.value,
                        figure.lower,
                        figure.upper,
                        axis=axis,
                        unit=unit,
                        look="" if group.is_judged else "few",
                    )
                    for group, figure in figures
                ],
            }
        )
    return tables


def _unit_of(metric: str) -> str:
    shares = ("mape", "accuracy", "precision", "recall", "balanced_accuracy", "roc_auc")
    return "share" if metric in shares or metric.startswith("share_") else "number"
