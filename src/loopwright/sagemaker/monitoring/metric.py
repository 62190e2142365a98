"""CloudWatch metrics of monitoring: the figures that executions have written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.metric import Point, Series, keeps_metrics, point
from loopwright.sagemaker.monitoring.execution import EXECUTIONS, executions_of
from loopwright.sagemaker.monitoring.plan import BIAS, DATA, EXPLAINABILITY, MODEL
from loopwright.sagemaker.processing_job import PROCESSING, job_of
from loopwright.train.script_archive import open_regular
from loopwright.train.script_contract import ML_FOLDER

_SCHEDULE = "MonitoringSchedule"
# SageMaker's own documentation has it with and without the first stroke
_NAMESPACES = {
    DATA: "aws/sagemaker/Endpoints/data-metrics",
    MODEL: "aws/sagemaker/Endpoints/model-metrics",
    BIAS: "aws/sagemaker/Endpoints/bias-metrics",
    EXPLAINABILITY: "aws/sagemaker/Endpoints/explainability-metrics",
}
_FILE = Path("output/metrics/cloudwatch/cloudwatch_metrics.jsonl")
_LARGEST = 16 << 20


@keeps_metrics
def monitoring_metrics(
    desk: Desk, caller: Caller, namespace: str, dimensions: Mapping[str, str]
) -> Iterator[Series]:
    """Yield what the executions of schedules have measured."""
    plain = namespace.removeprefix("/")
    if plain and plain not in _NAMESPACES.values():
        return
    name = dimensions.get(_SCHEDULE)
    records = executions_of(desk, caller, name) if name else EXECUTIONS.all(desk, caller)
    found: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[Point]] = {}
    for record in records:
        own = _NAMESPACES[record.body["kind"]]
        if plain not in ("", own):
            continue
        for each in _lines(desk, caller, record.body["job"]):
            pairs = tuple(sorted((one["Name"], one["Value"]) for one in each["Dimensions"]))
            found.setdefault((own, each["MetricName"], pairs), []).append(_point(each))
    for (own, metric, pairs), points in sorted(found.items()):
        yield Series(
            namespace=namespace or own, name=metric, dimensions=dict(pairs), points=points.copy
        )


def _lines(desk: Desk, caller: Caller, name: str) -> list[dict[str, Any]]:
    record = PROCESSING.find(desk, caller, name) if name else None
    job = job_of(desk, record) if record else None
    if job is None:
        return []
    try:
        with open_regular(job.folder / ML_FOLDER / _FILE) as file:
            text = file.read(_LARGEST).decode(errors="replace")
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError):
        return []


def _point(each: Mapping[str, Any]) -> Point:
    at = datetime.fromisoformat(each["Timestamp"]).timestamp()
    if "StatisticValues" not in each:
        return point(at, float(each["Value"]))
    told = each["StatisticValues"]
    return Point(
        at=at,
        count=told["SampleCount"],
        total=told["Sum"],
        least=told["Minimum"],
        most=told["Maximum"],
    )
