"""Monitoring schedules: created, changed, started, stopped, and carried out when they are due."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from loopwright.core.errors import LoopwrightError, NotFoundError, WrongStateError
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.monitoring.cron import Hours, read_expression, read_offset
from loopwright.sagemaker.monitoring.execution import (
    EXECUTIONS,
    begin_execution,
    execution_summary,
    executions_of,
)
from loopwright.sagemaker.monitoring.job_definition import checked_plan, find_definition
from loopwright.sagemaker.monitoring.plan import DATA, KINDS, MonitoringPlan, plan_of, plan_within
from loopwright.sagemaker.processing_job import PROCESSING, job_of
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.shelf import Shelf, page_of
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.sagemaker.training_job import tell_to_end
from loopwright.store import Record

SCHEDULES = Shelf(
    kind="monitoring-schedule",
    missing="Monitoring Schedule {arn} not found",
    taken="A monitoring schedule with this name already exists ({arn})",
    missing_code="ResourceNotFound",
    taken_code="ResourceInUse",
)
_HOURLY = "cron(0 * ? * * *)"
# of the times that passed while no server ran, the last ones are made up for
_MOST_MISSED = 24
_MOST_TRIES = 5
_log = logging.getLogger(__name__)


def _config(record: Record) -> Mapping[str, Any]:
    found: Mapping[str, Any] = record.body["config"]
    return found


def _kind(config: Mapping[str, Any]) -> str:
    kind = str(config.get("MonitoringType", DATA))
    if kind not in KINDS:
        raise validation(f"Monitoring of {kind} is not supported yet by loopwright.")
    return kind


def _plan(desk: Desk, caller: Caller, config: Mapping[str, Any]) -> MonitoringPlan:
    """Return what a schedule runs; `ApiError` if it names nothing that is there."""
    within, name = config.get("MonitoringJobDefinition"), config.get("MonitoringJobDefinitionName")
    if (within is None) == (name is None):
        raise validation(
            "Exactly one of MonitoringJobDefinition and MonitoringJobDefinitionName is needed."
        )
    kind = _kind(config)
    if within is not None:
        return plan_within(within)
    return plan_of(find_definition(desk, caller, kind, str(name)), kind)


def _expression(config: Mapping[str, Any]) -> Hours | None:
    return read_expression(config.get("ScheduleConfig", {}).get("ScheduleExpression", _HOURLY))


def _checked(desk: Desk, caller: Caller, config: Mapping[str, Any]) -> MonitoringPlan:
    plan = _plan(desk, caller, config)
    checked_plan(desk, caller, plan)
    when = config.get("ScheduleConfig", {})
    if _expression(config) is not None:
        for member in ("DataAnalysisStartTime", "DataAnalysisEndTime"):
            if member in when:
                raise validation(f"{member} can be set only for a one-time schedule (NOW).")
        return plan
    start, end = _once(when)
    if start >= end:
        raise validation("DataAnalysisStartTime must be earlier than DataAnalysisEndTime.")
    return plan


def _once(when: Mapping[str, Any]) -> tuple[timedelta, timedelta]:
    """Return the window of a one-time schedule, counted from its run."""
    return (
        read_offset(when.get("DataAnalysisStartTime", "-PT1H")),
        read_offset(when.get("DataAnalysisEndTime", "-PT0H")),
    )


@serves(
    "sagemaker",
    "CreateMonitoringSchedule",
    note="Of data quality, model quality, bias and explainability; runs begin at the full hour, without SageMaker's delay "
    "of up to 20 minutes. NOW runs once.",
)
def create_schedule(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a schedule, which runs from now on."""
    config = given["MonitoringScheduleConfig"]
    plan = _checked(desk, caller, config)
    record = SCHEDULES.create(
        desk,
        caller,
        given["MonitoringScheduleName"],
        given,
        config=config,
        endpoint=plan.endpoint,
        status="Scheduled",
        since=desk.now().isoformat(),
    )
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"MonitoringScheduleArn": record.body["arn"]}


@serves("sagemaker", "UpdateMonitoringSchedule")
def update_schedule(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Change what a schedule runs, and when."""
    config = given["MonitoringScheduleConfig"]
    name = given["MonitoringScheduleName"]
    SCHEDULES.get(desk, caller, name)
    plan = _checked(desk, caller, config)
    since = desk.now().isoformat()
    record = changed_schedule(
        desk, caller, name, config=config, endpoint=plan.endpoint, since=since
    )
    return {"MonitoringScheduleArn": record.body["arn"]}


def changed_schedule(desk: Desk, caller: Caller, name: str, **more: Any) -> Record:
    """Write fields of a schedule, which the server may be writing in the same moment."""
    for _ in range(_MOST_TRIES):
        try:
            return SCHEDULES.change(desk, SCHEDULES.get(desk, caller, name), **more)
        except WrongStateError:
            continue
    raise ApiError("ConflictException", f"The schedule {name} is being changed by others.")


@serves("sagemaker", "DescribeMonitoringSchedule")
def describe_schedule(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell how a schedule is, and its last execution."""
    record = SCHEDULES.get(desk, caller, given["MonitoringScheduleName"])
    last = executions_of(desk, caller, record.body["name"])[-1:]
    return {
        **_summary(record),
        "MonitoringScheduleConfig": _config(record),
        "LastMonitoringExecutionSummary": execution_summary(desk, caller, last[0])
        if last
        else None,
    }


def _summary(record: Record) -> dict[str, Any]:
    body = record.body
    return {
        "MonitoringScheduleName": body["name"],
        "MonitoringScheduleArn": body["arn"],
        "CreationTime": record.created_at,
        "LastModifiedTime": datetime.fromisoformat(body["modified_at"]),
        "MonitoringScheduleStatus": body["status"],
        "EndpointName": body["endpoint"],
        "MonitoringJobDefinitionName": body["config"].get("MonitoringJobDefinitionName"),
        "MonitoringType": _kind(body["config"]),
    }


@serves("sagemaker", "ListMonitoringSchedules")
def list_schedules(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List schedules."""
    wanted = {
        "EndpointName": given.get("EndpointName"),
        "MonitoringJobDefinitionName": given.get("MonitoringJobDefinitionName"),
        "MonitoringType": given.get("MonitoringTypeEquals"),
    }
    kept = [each for each in SCHEDULES.all(desk, caller) if _agrees(_summary(each), wanted)]
    page, token = page_of(
        kept,
        given,
        summary=_summary,
        name="MonitoringScheduleName",
        status="MonitoringScheduleStatus",
    )
    return {"MonitoringScheduleSummaries": page, "NextToken": token}


def _agrees(about: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(value in (None, about.get(name)) for name, value in wanted.items())


@serves("sagemaker", "ListMonitoringExecutions")
def list_executions(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List executions, those of one schedule or of all."""
    name = given.get("MonitoringScheduleName")
    if name is not None:
        SCHEDULES.get(desk, caller, name)
    found = executions_of(desk, caller, name) if name else EXECUTIONS.all(desk, caller)
    wanted = {
        "EndpointName": given.get("EndpointName"),
        "MonitoringJobDefinitionName": given.get("MonitoringJobDefinitionName"),
        "MonitoringType": given.get("MonitoringTypeEquals"),
    }
    told = {each.key: execution_summary(desk, caller, each) for each in found}
    after, before = given.get("ScheduledTimeAfter"), given.get("ScheduledTimeBefore")
    kept = [
        each
        for each in found
        if _agrees(told[each.key], wanted)
        and (after is None or told[each.key]["ScheduledTime"] > after)
        and (before is None or told[each.key]["ScheduledTime"] < before)
    ]
    by = given.get("SortBy", "CreationTime")
    page, token = page_of(
        kept,
        # executions have no names of their own: the time stands for one
        {**given, "SortBy": "Name" if by == "ScheduledTime" else by, "NameContains": ""},
        summary=lambda each: {**told[each.key], "_due": each.body["due"]},
        name="_due",
        status="MonitoringExecutionStatus",
    )
    for each in page:
        each.pop("_due")
    return {"MonitoringExecutionSummaries": page, "NextToken": token}


@serves("sagemaker", "StartMonitoringSchedule")
def start_schedule(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Have a stopped schedule run again; a one-time schedule runs once more."""
    name = given["MonitoringScheduleName"]
    body = SCHEDULES.get(desk, caller, name).body
    is_done = _expression(body["config"]) is None and body.get("ran") == body["since"]
    if body["status"] != "Scheduled" or is_done:
        # from now on: what was due while it was stopped is not
        changed_schedule(desk, caller, name, status="Scheduled", since=desk.now().isoformat())
    return {}


@serves("sagemaker", "StopMonitoringSchedule")
def stop_schedule(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Have a schedule run no more; an execution that runs goes on."""
    changed_schedule(desk, caller, given["MonitoringScheduleName"], status="Stopped")
    return {}


@serves("sagemaker", "DeleteMonitoringSchedule")
def delete_schedule(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a schedule and its executions, and end one that runs; reports stay in S3."""
    record = SCHEDULES.get(desk, caller, given["MonitoringScheduleName"])
    SCHEDULES.delete(desk, record)
    for each in executions_of(desk, caller, record.body["name"]):
        job = PROCESSING.find(desk, caller, each.body["job"]) if each.body["job"] else None
        running = job_of(desk, job) if job else None
        if running is not None and not running.state.has_ended:
            tell_to_end(desk, running)
        EXECUTIONS.delete(desk, each)
    drop_tags(desk, record.body["arn"])
    return {}


@chore(1.0)
def run_due_schedules(desk: Desk) -> None:
    """Run what is due, also what became due while no server ran."""
    for record in SCHEDULES.all(desk):
        if record.body["status"] != "Scheduled":
            continue
        account, region, _ = record.key.split("/", 2)
        try:
            _run_due(desk, Caller(access_key="", account=account, region=region), record)
        except (ApiError, LoopwrightError, OSError) as error:
            _log.warning("The schedule %s cannot run: %s", record.body["name"], error)


def _run_due(desk: Desk, caller: Caller, record: Record) -> None:
    config, body = _config(record), record.body
    since, now = datetime.fromisoformat(body["since"]), desk.now()
    hours = _expression(config)
    if hours is None:
        if body.get("ran") == body["since"]:
            return
        due_times = [since]
    else:
        due_times = hours.between(since, now)[-_MOST_MISSED:]
        if not due_times:
            return
    plan = _plan(desk, caller, config)
    for due in due_times:
        begin_execution(
            desk,
            caller,
            schedule=body["name"],
            arn=body["arn"],
            plan=plan,
            due=due,
            window=_window(config, plan, hours, due),
            definition=config.get("MonitoringJobDefinitionName", ""),
        )
    try:
        if hours is None:
            SCHEDULES.change(desk, record, ran=body["since"])
        else:
            SCHEDULES.change(desk, record, since=due_times[-1].isoformat())
    except (WrongStateError, NotFoundError):
        # it was changed or deleted meanwhile; what ran is noted with the execution
        return


def _window(
    config: Mapping[str, Any], plan: MonitoringPlan, hours: Hours | None, due: datetime
) -> tuple[datetime, datetime]:
    """Return from when to when requests are looked at."""
    if hours is None:
        start, end = _once(config.get("ScheduleConfig", {}))
        # a request is noted by the second; one of this very second belongs to it
        until = due + end
        if until.microsecond:
            until = until.replace(microsecond=0) + timedelta(seconds=1)
        return due + start, until
    offsets = plan.offsets()
    if offsets is not None:
        return due + offsets[0], due + offsets[1]
    return hours.before(due).astimezone(UTC), due
