"""What is wrong now, as a monitor's report or the upkeep of a loop finds it; alarms are made of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from loopwright.monitor import Alarm, MonitorReport
from loopwright.monitor.record import to_record

_MOST_TOLD = 5


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong now.

    Parameters
    ----------
    is_certain
        Whether it raises an alarm; if not, it only keeps one open.
    part_of
        The kind of alarm that, where one is open already, told the same cause: this one is on record
        then, and no message of its own.
    """

    kind: str
    mark: str
    subject: str
    message: str
    action: str = ""
    version: str = ""
    since_at: datetime | None = None
    is_certain: bool = True
    part_of: str = ""
    details: dict[str, Any] = msgspec.field(default_factory=dict)


def conditions_of(report: MonitorReport, alarms: Sequence[Alarm] | None = None) -> list[Condition]:
    """Return what a monitor's report finds wrong, what matters most first.

    Faults of the data are one condition, whatever the number of columns; so is each criterion.

    Parameters
    ----------
    alarms
        The episodes of change; the open ones when None.
    """
    found = [*_faults(report), *_criteria(report)]
    for alarm in report.alarms if alarms is None else alarms:
        at = alarm.at.isoformat() if alarm.at else ""
        found.append(
            Condition(
                kind=alarm.kind,
                mark=f"{report.version}/{alarm.number}/{at}",
                subject=alarm.stream,
                message=_message(alarm),
                action=report.action,
                version=report.version,
                since_at=alarm.since_at,
                part_of="criterion" if alarm.kind == "error" else "",
                details=to_record(alarm),
            )
        )
    if str(report.verdict) == "estimated_miss":
        found.append(
            Condition(
                kind="estimate",
                mark=report.version,
                subject="estimated quality",
                message=report.reason,
                action=report.action,
                version=report.version,
            )
        )
    return found


def _message(alarm: Alarm) -> str:
    """Return what an alarm says, with what the change does to the criterion, or the predictions."""
    behind = alarm.attribution
    if behind is None:
        return alarm.message
    told = [behind.loss.message] if behind.loss is not None else list(behind.told[:1])
    return " ".join([alarm.message, *told])


def _faults(report: MonitorReport) -> list[Condition]:
    grave = [finding for finding in report.findings if finding.is_grave]
    if not grave:
        return []
    streams = list(dict.fromkeys(finding.stream for finding in grave))
    messages = [finding.message for finding in grave]
    more = f" And {len(messages) - _MOST_TOLD} more." if len(messages) > _MOST_TOLD else ""
    return [
        Condition(
            kind="data_quality",
            mark="inputs",
            subject=", ".join(streams[:_MOST_TOLD]),
            message=" ".join(messages[:_MOST_TOLD]) + more,
            action="Repair the data source first; a model retrained on such rows learns the fault.",
            details=to_record({"findings": grave}),
        )
    ]


def _criteria(report: MonitorReport) -> list[Condition]:
    """Return the criteria that are missed, and those that cannot be told to hold again."""
    found = []
    for metric in dict.fromkeys(figure.metric for figure in report.figures):
        figures = [figure for figure in report.figures if figure.metric == metric]
        missed = next((each for each in figures if each.verdict == "missed"), None)
        unsure = next((each for each in figures if each.verdict == "undecided"), None)
        figure = missed or unsure
        if figure is None or figure.estimate is None:
            continue
        limit = f"{figure.direction.replace('_', ' ')} {figure.target:g}"
        bounds = (
            f" ({figure.lower:.4g} to {figure.upper:.4g} with {100 * figure.confidence:.4g}% confidence)"
            if figure.lower is not None and figure.upper is not None
            else ""
        )
        found.append(
            Condition(
                kind="criterion",
                mark=f"{report.version}/{metric}",
                subject=metric,
                message=f"{metric} is {figure.estimate:.4g}{bounds} {figure.period} on "
                f"{figure.n:,} labelled predictions; agreed was {limit}.",
                action=report.action,
                version=report.version,
                is_certain=missed is not None,
                details=to_record({"figures": figures}),
            )
        )
    return found
