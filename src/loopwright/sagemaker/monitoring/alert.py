"""The alert of each monitoring schedule: how many of its last executions found violations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.monitoring.execution import execution_summary, executions_of
from loopwright.sagemaker.monitoring.schedule import SCHEDULES, changed_schedule
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.shelf import page_of
from loopwright.store import Record

IN_ALERT, OK = "InAlert", "OK"
_VIOLATED = "CompletedWithViolations"
_ENDED = (_VIOLATED, "Completed", "Failed", "Stopped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When there is an alert: `n` of the last `period` executions, as it is since a time."""

    n: int = 1
    period: int = 1
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A time at which the status of an alert became another."""

    at: datetime
    status: str


def changes_of(executions: Sequence[tuple[datetime, bool]], rules: Sequence[Rule]) -> list[Change]:
    """Return when an alert began and ended, the first first; it begins as `OK`.

    Parameters
    ----------
    executions
        When each ended, and whether it found violations; in any order.
    rules
        Those that were in force, by time; at least one.
    """
    known = sorted(executions)
    moments = sorted({at for at, _ in known} | {each.since for each in rules[1:]})
    found: list[Change] = []
    for moment in moments:
        rule = [each for each in rules if each.since <= moment or each is rules[0]][-1]
        last = [violated for at, violated in known if at <= moment][-rule.period :]
        status = IN_ALERT if sum(last) >= rule.n else OK
        if status != (found[-1].status if found else OK):
            found.append(Change(at=moment, status=status))
    return found


def _rules(record: Record) -> list[Rule]:
    told = record.body.get("alert_rules") or []
    first = Rule(since=record.created_at)
    return [
        first,
        *(
            Rule(n=each["n"], period=each["period"], since=datetime.fromisoformat(each["since"]))
            for each in told
        ),
    ]


def _changes(desk: Desk, caller: Caller, record: Record) -> list[Change]:
    ended = []
    for each in executions_of(desk, caller, record.body["name"]):
        about = execution_summary(desk, caller, each)
        status = about["MonitoringExecutionStatus"]
        if status in _ENDED:
            ended.append((about["LastModifiedTime"], status == _VIOLATED))
    return changes_of(ended, _rules(record))


def alert_name(record: Record) -> str:
    """Return the name of the one alert that a schedule has."""
    return str(record.body["name"])


def _found(desk: Desk, caller: Caller, given: Mapping[str, Any]) -> Record:
    record = SCHEDULES.get(desk, caller, given["MonitoringScheduleName"])
    wanted = given.get("MonitoringAlertName")
    if wanted not in (None, alert_name(record)):
        raise ApiError(
            "ResourceNotFound",
            f"Could not find the monitoring alert {wanted} of the schedule {record.body['name']}.",
        )
    return record


@serves("sagemaker", "ListMonitoringAlerts", note="Each schedule has one, with its own name.")
def list_alerts(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the alerts of a schedule."""
    record = _found(desk, caller, given)
    page, token = page_of(
        [record],
        given,
        summary=lambda each: _summary(desk, caller, each),
        name="MonitoringAlertName",
    )
    return {"MonitoringAlertSummaries": page, "NextToken": token}


def _summary(desk: Desk, caller: Caller, record: Record) -> dict[str, Any]:
    changes, rules = _changes(desk, caller, record), _rules(record)
    rule = rules[-1]
    return {
        "MonitoringAlertName": alert_name(record),
        "CreationTime": record.created_at,
        "LastModifiedTime": max([rule.since, *(each.at for each in changes[-1:])]),
        "AlertStatus": changes[-1].status if changes else OK,
        "DatapointsToAlert": rule.n,
        "EvaluationPeriod": rule.period,
        "Actions": {"ModelDashboardIndicator": {"Enabled": True}},
    }


@serves("sagemaker", "UpdateMonitoringAlert")
def update_alert(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change how many of how many executions make an alert."""
    record = _found(desk, caller, given)
    n, period = given["DatapointsToAlert"], given["EvaluationPeriod"]
    if n > period:
        raise validation(
            f"DatapointsToAlert must not be greater than EvaluationPeriod; they are {n} and {period}."
        )
    rule = {"n": n, "period": period, "since": desk.now().isoformat()}
    rules = [*(record.body.get("alert_rules") or []), rule]
    record = changed_schedule(desk, caller, record.body["name"], alert_rules=rules)
    return {
        "MonitoringScheduleArn": record.body["arn"],
        "MonitoringAlertName": alert_name(record),
    }


@serves("sagemaker", "ListMonitoringAlertHistory")
def list_alert_history(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List when alerts began and ended, the last first."""
    kept = sorted(_history(desk, caller, given), key=lambda each: each["CreationTime"])
    if given.get("SortBy") == "Status":
        kept.sort(key=lambda each: str(each["AlertStatus"]))
    if given.get("SortOrder", "Descending") == "Descending":
        kept.reverse()
    start = _place(given.get("NextToken"))
    end = start + int(given.get("MaxResults", 100))
    token = str(end) if end < len(kept) else None
    return {"MonitoringAlertHistory": kept[start:end], "NextToken": token}


def _place(token: str | None) -> int:
    if token is None:
        return 0
    if not token.isdecimal():
        raise validation("The token is not valid.")
    return int(token)


def _history(desk: Desk, caller: Caller, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "MonitoringScheduleName" in given:
        records = [_found(desk, caller, given)]
    else:
        name = given.get("MonitoringAlertName")
        every = SCHEDULES.all(desk, caller)
        records = [each for each in every if name in (None, alert_name(each))]
    after, before = given.get("CreationTimeAfter"), given.get("CreationTimeBefore")
    wanted = given.get("StatusEquals")
    for record in records:
        for each in _changes(desk, caller, record):
            is_within = (after is None or each.at > after) and (before is None or each.at < before)
            if is_within and wanted in (None, each.status):
                yield {
                    "MonitoringScheduleName": record.body["name"],
                    "MonitoringAlertName": alert_name(record),
                    "CreationTime": each.at,
                    "AlertStatus": each.status,
                }
