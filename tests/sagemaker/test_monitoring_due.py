"""Schedules at a clock that is moved by hand: what is due runs once, whatever ends in between."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from loopwright.core.clock import FixedClock
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint import ENDPOINTS
from loopwright.sagemaker.monitoring import schedule
from loopwright.sagemaker.monitoring.execution import EXECUTIONS, executions_of
from loopwright.sagemaker.monitoring.schedule import SCHEDULES, run_due_schedules
from loopwright.sagemaker.processing_job import PROCESSING, job_of
from loopwright.sagemaker.s3.store import ObjectStore
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

from .conftest import ROLE

CALLER = Caller(access_key="", account="123456789012", region="us-east-1")
ROOT = "/opt/ml/processing"


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(at=datetime(2026, 3, 1, 10, 20, tzinfo=UTC))


@pytest.fixture
def desk(tmp_path: Path, clock: FixedClock) -> Iterator[Desk]:
    """Return the desk of a home with an endpoint that captures into a bucket."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    workspace = open_workspace(read_settings({}, home=home), clock=clock)
    objects = ObjectStore(home / "s3", clock)
    objects.make_bucket("b", account=CALLER.account, region=CALLER.region)
    found = Desk(workspace=workspace, objects=objects, url="http://127.0.0.1:1", job_key=("", ""))
    capture = {"EnableCapture": True, "DestinationS3Uri": "s3://b/seen"}
    ENDPOINTS.create(
        found,
        CALLER,
        "e",
        {},
        change=None,
        live=None,
        failure="",
        plan={"DataCaptureConfig": capture},
    )
    yield found
    jobs = workspace.compute.list_(kind="sagemaker-processing")
    workspace.compute.wait([each.id for each in jobs])
    workspace.metadata.close()


def seen_at(desk: Desk, hour: str) -> None:
    """Put a captured request into an hour of the first of March."""
    line = {"eventMetadata": {"inferenceTime": f"2026-03-01T{hour}:30:00Z", "eventId": hour}}
    key = f"seen/e/AllTraffic/2026/03/01/{hour}/30-00-000-x.jsonl"
    desk.objects.put("b", key, [json.dumps(line).encode()])


def scheduled(desk: Desk, expression: str, **source: Any) -> None:
    within = {
        "MonitoringInputs": [
            {"EndpointInput": {"EndpointName": "e", "LocalPath": f"{ROOT}/input", **source}}
        ],
        "MonitoringOutputConfig": {
            "MonitoringOutputs": [
                {"S3Output": {"S3Uri": "s3://b/reports", "LocalPath": f"{ROOT}/output"}}
            ]
        },
        "MonitoringResources": {
            "ClusterConfig": {
                "InstanceType": "ml.t3.medium",
                "InstanceCount": 1,
                "VolumeSizeInGB": 1,
            }
        },
        # a container of the user's own
        "MonitoringAppSpecification": {"ImageUri": "own:1", "ContainerEntrypoint": ["true"]},
        "RoleArn": ROLE,
    }
    config = {
        "ScheduleConfig": {"ScheduleExpression": expression},
        "MonitoringJobDefinition": within,
    }
    schedule.create_schedule(
        desk, CALLER, {"MonitoringScheduleName": "s", "MonitoringScheduleConfig": config}
    )


def ran(desk: Desk) -> list[tuple[str, str, bool]]:
    """Return the hour, the beginning of the window and whether there is a job, of each run."""
    return [
        (each.body["due"][11:16], each.body["window"][0][11:16], bool(each.body["job"]))
        for each in executions_of(desk, CALLER, "s")
    ]


def test_hours_that_passed_while_no_server_ran_are_made_up_for_once(
    desk: Desk, clock: FixedClock
) -> None:
    seen_at(desk, "11")
    scheduled(desk, "cron(0 * ? * * *)")
    run_due_schedules(desk)
    before = ran(desk)
    clock.at = datetime(2026, 3, 1, 13, 5, tzinfo=UTC)

    for _ in range(3):
        run_due_schedules(desk)

    assert before == []
    # of the hours from 10, 11 and 12 on, one had a request
    assert ran(desk) == [
        ("11:00", "10:00", False),
        ("12:00", "11:00", True),
        ("13:00", "12:00", False),
    ]
    failures = [each.body["failure"] for each in executions_of(desk, CALLER, "s")]
    assert failures == ["Job inputs had no data", "", "Job inputs had no data"]
    [job] = PROCESSING.all(desk, CALLER)
    environment = job.body["request"]["Environment"]
    assert environment["start_time"] == "2026-03-01T11:00:00Z"
    assert environment["end_time"] == "2026-03-01T12:00:00Z"


def test_a_run_that_a_killed_server_had_noted_and_not_begun_is_begun_by_the_next(
    desk: Desk, clock: FixedClock
) -> None:
    seen_at(desk, "10")
    scheduled(desk, "cron(0 * ? * * *)")
    record = SCHEDULES.get(desk, CALLER, "s")
    clock.at = datetime(2026, 3, 1, 11, 1, tzinfo=UTC)
    run_due_schedules(desk)
    [execution] = executions_of(desk, CALLER, "s")
    # as if the server had ended before it noted the job, and before it noted that the hour is done
    EXECUTIONS.change(desk, execution, job="")
    SCHEDULES.change(desk, SCHEDULES.get(desk, CALLER, "s"), since=record.body["since"])

    run_due_schedules(desk)

    assert ran(desk) == [("11:00", "10:00", True)]
    assert len(PROCESSING.all(desk, CALLER)) == 1


def test_offsets_move_the_window_and_a_stopped_schedule_runs_no_more(
    desk: Desk, clock: FixedClock
) -> None:
    seen_at(desk, "08")
    scheduled(desk, "cron(0 11 ? * * *)", StartTimeOffset="-PT3H", EndTimeOffset="-PT1H")
    clock.at = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)
    run_due_schedules(desk)
    schedule.stop_schedule(desk, CALLER, {"MonitoringScheduleName": "s"})
    clock.at = datetime(2026, 3, 3, tzinfo=UTC)

    run_due_schedules(desk)

    assert ran(desk) == [("11:00", "08:00", True)]
    schedule.start_schedule(desk, CALLER, {"MonitoringScheduleName": "s"})
    clock.at = datetime(2026, 3, 3, 11, 0, tzinfo=UTC)
    run_due_schedules(desk)
    assert [each[0] for each in ran(desk)] == ["11:00", "11:00"]


@pytest.mark.parametrize("expression", ["cron(0 * ? * * *)", "NOW"])
def test_to_start_what_is_started_skips_and_repeats_nothing(
    desk: Desk, clock: FixedClock, expression: str
) -> None:
    scheduled(desk, expression)
    clock.at = datetime(2026, 3, 1, 11, 5, tzinfo=UTC)

    schedule.start_schedule(desk, CALLER, {"MonitoringScheduleName": "s"})
    run_due_schedules(desk)

    assert [each[0] for each in ran(desk)] == ["10:20" if expression == "NOW" else "11:00"]


def test_of_a_long_pause_the_last_day_is_made_up_for(desk: Desk, clock: FixedClock) -> None:
    scheduled(desk, "cron(0 * ? * * *)")
    clock.at = datetime(2026, 3, 11, tzinfo=UTC)

    run_due_schedules(desk)

    runs = executions_of(desk, CALLER, "s")
    assert len(runs) == 24
    assert runs[0].body["due"].startswith("2026-03-10T01:00")


def test_an_endpoint_that_is_gone_fails_a_run_and_not_the_schedule(
    desk: Desk, clock: FixedClock
) -> None:
    scheduled(desk, "cron(0 * ? * * *)")
    ENDPOINTS.delete(desk, ENDPOINTS.get(desk, CALLER, "e"))
    clock.at = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)

    run_due_schedules(desk)

    [found] = executions_of(desk, CALLER, "s")
    assert "Could not find endpoint" in found.body["failure"]
    about = schedule.describe_schedule(desk, CALLER, {"MonitoringScheduleName": "s"})
    assert about["MonitoringScheduleStatus"] == "Scheduled"
    assert about["LastMonitoringExecutionSummary"]["MonitoringExecutionStatus"] == "Failed"


def test_a_deleted_schedule_takes_its_executions_along_and_ends_what_runs(
    desk: Desk, clock: FixedClock
) -> None:
    seen_at(desk, "10")
    scheduled(desk, "cron(0 * ? * * *)")
    clock.at = datetime(2026, 3, 1, 11, 0, tzinfo=UTC)
    run_due_schedules(desk)
    [job] = PROCESSING.all(desk, CALLER)

    schedule.delete_schedule(desk, CALLER, {"MonitoringScheduleName": "s"})

    assert executions_of(desk, CALLER, "s") == []
    process = job_of(desk, job)
    assert process is not None
    desk.workspace.compute.wait([process.id])
    assert desk.workspace.compute.get(process.id).state.has_ended
