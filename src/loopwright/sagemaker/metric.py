"""CloudWatch metrics: the figures that training jobs have printed, over periods of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.training_job import JOBS, job_of, metrics_of

NAMESPACE = "/aws/sagemaker/TrainingJobs"
_DIMENSION = "TrainingJobName"
_MOST_POINTS = 1440


@serves("cloudwatch", "GetMetricStatistics", note="Metrics of training jobs.")
def get_metric_statistics(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return the statistics of a metric, period by period."""
    points = _periods(desk, caller, given, given["StartTime"], given["EndTime"], given["Period"])
    if len(points) > _MOST_POINTS:
        raise ApiError(
            "InvalidParameterCombination",
            f"You have requested up to {len(points)} datapoints, which exceeds the limit of "
            f"{_MOST_POINTS}.",
        )
    wanted = given.get("Statistics", [])
    return {
        "Label": given["MetricName"],
        "Datapoints": [
            {
                "Timestamp": datetime.fromtimestamp(at, UTC),
                "Unit": "None",
                **{name: value for name, value in _statistics(values).items() if name in wanted},
            }
            for at, values in points.items()
        ],
    }


@serves("cloudwatch", "GetMetricData", note="Metrics of training jobs; no expressions.")
def get_metric_data(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return one statistic of several metrics, period by period."""
    results = []
    for query in given["MetricDataQueries"]:
        if "MetricStat" not in query:
            raise ApiError("ValidationError", "Metric expressions are not supported yet.")
        stat, metric = query["MetricStat"], query["MetricStat"]["Metric"]
        points = _periods(
            desk, caller, metric, given["StartTime"], given["EndTime"], stat["Period"]
        )
        pairs = [(at, _statistics(values).get(stat["Stat"])) for at, values in points.items()]
        if given.get("ScanBy", "TimestampDescending") == "TimestampDescending":
            pairs.reverse()
        kept = [(at, value) for at, value in pairs if value is not None]
        results.append(
            {
                "Id": query["Id"],
                "Label": query.get("Label", metric.get("MetricName")),
                "Timestamps": [datetime.fromtimestamp(at, UTC) for at, _ in kept],
                "Values": [value for _, value in kept],
                "StatusCode": "Complete",
            }
        )
    return {"MetricDataResults": results}


@serves("cloudwatch", "ListMetrics", note="Metrics of training jobs.")
def list_metrics(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the metrics that jobs have printed."""
    if given.get("Namespace") not in (None, NAMESPACE):
        return {"Metrics": []}
    found = []
    for record in JOBS.all(desk, caller):
        dimension = {"Name": _DIMENSION, "Value": record.body["name"]}
        wanted = given.get("Dimensions", [])
        if any(
            each["Name"] != _DIMENSION
            or each.get("Value", dimension["Value"]) != dimension["Value"]
            for each in wanted
        ):
            continue
        names = sorted({each["name"] for each in metrics_of(job_of(desk, record))})
        found += [
            {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": [dimension]}
            for name in names
            if given.get("MetricName") in (None, name)
        ]
    return {"Metrics": found}


def _periods(
    desk: Desk,
    caller: Caller,
    metric: Mapping[str, Any],
    start: datetime,
    end: datetime,
    period_s: int,
) -> dict[int, list[float]]:
    """Return the values of a metric by the beginning of their period, in seconds since 1970."""
    names = [each["Value"] for each in metric.get("Dimensions", ()) if each["Name"] == _DIMENSION]
    if metric.get("Namespace") != NAMESPACE or len(names) != 1:
        return {}
    record = JOBS.find(desk, caller, names[0])
    found: dict[int, list[float]] = {}
    for each in metrics_of(job_of(desk, record)) if record else ():
        if each["name"] != metric.get("MetricName") or each["value"] is None:
            continue
        at = int(each["at"] // period_s * period_s)
        # a period that has begun belongs to the answer
        if start.timestamp() - period_s < at < end.timestamp():
            found.setdefault(at, []).append(each["value"])
    return dict(sorted(found.items()))


def _statistics(values: Sequence[float]) -> dict[str, float]:
    return {
        "SampleCount": float(len(values)),
        "Sum": sum(values),
        "Average": sum(values) / len(values),
        "Minimum": min(values),
        "Maximum": max(values),
    }
