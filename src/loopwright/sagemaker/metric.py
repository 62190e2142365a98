"""CloudWatch metrics: the figures that jobs have printed or written, over periods of time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.training_job import JOBS, job_of, metrics_of

NAMESPACE = "/aws/sagemaker/TrainingJobs"
_DIMENSION = "TrainingJobName"
_MOST_POINTS = 1440
_UNITS = {
    "ModelLatency": "Microseconds",
    **dict.fromkeys(("Invocations", "InvocationsPerInstance"), "Count"),
    **dict.fromkeys(("Invocation4XXErrors", "Invocation5XXErrors"), "Count"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Some values of a metric at a time, in seconds since 1970, by what is told of them."""

    at: float
    count: float
    total: float
    least: float
    most: float


def point(at: float, value: float) -> Point:
    """Return one value at a time."""
    return Point(at=at, count=1.0, total=value, least=value, most=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A metric: its name, its dimensions and how its values are read."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    points: Callable[[], list[Point]]


Source = Callable[[Desk, Caller, str, Mapping[str, str]], Iterator[Series]]
"""Is given a namespace and some dimensions, each empty for all of them."""
_SOURCES: list[Source] = []


def keeps_metrics(source: Source) -> Source:
    """Have a function find metrics; a decorator."""
    _SOURCES.append(source)
    return source


@serves(
    "cloudwatch",
    "GetMetricStatistics",
    note="Metrics of training jobs, of monitoring and of the requests to endpoints.",
)
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
                "Unit": _UNITS.get(given["MetricName"], "None"),
                **{name: value for name, value in _statistics(values).items() if name in wanted},
            }
            for at, values in points.items()
        ],
    }


@serves(
    "cloudwatch",
    "GetMetricData",
    note="Metrics of training jobs, of monitoring and of the requests to endpoints; no expressions.",
)
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


@serves(
    "cloudwatch",
    "ListMetrics",
    note="Metrics of training jobs, of monitoring and of the requests to endpoints.",
)
def list_metrics(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the metrics that there are."""
    wanted = {each["Name"]: each.get("Value") for each in given.get("Dimensions", ())}
    named = {name: value for name, value in wanted.items() if value is not None}
    found = []
    for series in _all_series(desk, caller, given.get("Namespace", ""), named):
        if given.get("MetricName") not in (None, series.name):
            continue
        if any(name not in series.dimensions for name in wanted):
            continue
        pairs = [{"Name": name, "Value": value} for name, value in series.dimensions.items()]
        found.append(
            {"Namespace": series.namespace, "MetricName": series.name, "Dimensions": pairs}
        )
    return {"Metrics": found}


def _all_series(
    desk: Desk, caller: Caller, namespace: str, dimensions: Mapping[str, str]
) -> Iterator[Series]:
    for source in _SOURCES:
        for series in source(desk, caller, namespace, dimensions):
            if namespace in ("", series.namespace) and dimensions.items() <= (
                series.dimensions.items()
            ):
                yield series


@keeps_metrics
def _of_training(
    desk: Desk, caller: Caller, namespace: str, dimensions: Mapping[str, str]
) -> Iterator[Series]:
    if namespace not in ("", NAMESPACE):
        return
    one = dimensions.get(_DIMENSION)
    record = JOBS.find(desk, caller, one) if one else None
    for each in [record] if record else ([] if dimensions else JOBS.all(desk, caller)):
        by_name: dict[str, list[Point]] = {}
        for said in metrics_of(job_of(desk, each)):
            if said["value"] is not None:
                by_name.setdefault(said["name"], []).append(point(said["at"], said["value"]))
        for name, points in sorted(by_name.items()):
            yield Series(
                namespace=NAMESPACE,
                name=name,
                dimensions={_DIMENSION: each.body["name"]},
                points=points.copy,
            )


def _periods(
    desk: Desk,
    caller: Caller,
    metric: Mapping[str, Any],
    start: datetime,
    end: datetime,
    period_s: int,
) -> dict[int, list[Point]]:
    """Return the values of a metric by the beginning of their period, in seconds since 1970."""
    dimensions = {each["Name"]: each["Value"] for each in metric.get("Dimensions", ())}
    found: dict[int, list[Point]] = {}
    for series in _all_series(desk, caller, str(metric.get("Namespace", "")), dimensions):
        if series.name != metric.get("MetricName") or series.dimensions != dimensions:
            continue
        for each in series.points():
            at = int(each.at // period_s * period_s)
            # a period that has begun belongs to the answer
            if start.timestamp() - period_s < at < end.timestamp():
                found.setdefault(at, []).append(each)
    return dict(sorted(found.items()))


def _statistics(points: Sequence[Point]) -> dict[str, float]:
    count, total = sum(each.count for each in points), sum(each.total for each in points)
    return {
        "SampleCount": float(count),
        "Sum": total,
        "Average": total / count if count else 0.0,
        "Minimum": min(each.least for each in points),
        "Maximum": max(each.most for each in points),
    }
