"""Metrics of runs, as a client puts them step by step."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from loopwright.core.names import new_id
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.registry import serves

_KIND = "sagemaker/trial-metric"


@serves("sagemaker-metrics", "BatchPutMetrics")
def batch_put_metrics(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep values of metrics of a component; of values that cannot be kept, the number is told."""
    from loopwright.sagemaker.trial_component import COMPONENTS

    points, errors = [], []
    known = COMPONENTS.find(desk, caller, given["TrialComponentName"])
    for number, each in enumerate(given["MetricData"]):
        if known is None or not math.isfinite(each["Value"]):
            errors.append({"Code": "VALIDATION_ERROR", "MetricIndex": number})
            continue
        points.append(
            {
                "name": each["MetricName"],
                "at": each["Timestamp"].timestamp(),
                "step": each.get("Step"),
                "value": each["Value"],
            }
        )
    if points:
        key = f"{_key(caller, given['TrialComponentName'])}{new_id()}"
        desk.workspace.metadata.create(_KIND, key, {"points": points})
    return {"Errors": errors or None}


def points_of(desk: Desk, caller: Caller, component: str) -> list[dict[str, Any]]:
    """Return the values of all metrics of a component, in the order in which they came."""
    store, found, after = desk.workspace.metadata, [], ""
    while page := store.list_(_KIND, prefix=_key(caller, component), after=after):
        found += [point for record in page for point in record.body["points"]]
        after = page[-1].key
    return found


def drop_points(desk: Desk, caller: Caller, component: str) -> None:
    """Forget the metrics of a component that is deleted."""
    store = desk.workspace.metadata
    while page := store.list_(_KIND, prefix=_key(caller, component)):
        for record in page:
            store.delete(_KIND, record.key)


def _key(caller: Caller, component: str) -> str:
    return f"{caller.account}/{caller.region}/{component}/"


def summaries(points: Sequence[Mapping[str, Any]], *, source: str) -> list[dict[str, Any]]:
    """Return what a description tells of the metrics: least, most, mean, last.

    Parameters
    ----------
    points
        Each with `name`, `at` in seconds since 1970 and `value`, in the order in which they came.
    """
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for each in points:
        if each["value"] is not None:
            by_name.setdefault(each["name"], []).append(each)
    found = []
    for name, own in by_name.items():
        values = [each["value"] for each in own]
        found.append(
            {
                "MetricName": name,
                "SourceArn": source,
                "TimeStamp": datetime.fromtimestamp(own[-1]["at"], UTC),
                "Max": max(values),
                "Min": min(values),
                "Last": values[-1],
                "Count": len(values),
                "Avg": statistics.fmean(values),
                "StdDev": statistics.pstdev(values),
            }
        )
    return found


_STATISTICS: Mapping[str, Callable[[list[float]], float]] = {
    "Min": min,
    "Max": max,
    "Avg": statistics.fmean,
    "Count": lambda values: float(len(values)),
    "StdDev": statistics.pstdev,
    "Last": lambda values: values[-1],
}
_PERIODS_S = {"OneMinute": 60, "FiveMinute": 300, "OneHour": 3600}


@serves("sagemaker-metrics", "BatchGetMetrics")
def batch_get_metrics(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return metrics of components by step or by time."""
    return {"MetricQueryResults": [_asked(desk, caller, each) for each in given["MetricQueries"]]}


def _asked(desk: Desk, caller: Caller, query: Mapping[str, Any]) -> dict[str, Any]:
    from loopwright.sagemaker.trial_component import points_of_component

    name = query["ResourceArn"].rpartition("/")[2]
    points = points_of_component(desk, caller, name)
    if points is None:
        return {
            "Status": "ValidationError",
            "Message": f"TrialComponent '{name}' does not exist.",
            "XAxisValues": [],
            "MetricValues": [],
        }
    by_step = query["XAxisType"] == "IterationNumber"
    length = _PERIODS_S.get(query["Period"], 1)
    cells: dict[int, list[float]] = {}
    for number, each in enumerate(own for own in points if own["name"] == query["MetricName"]):
        step = each.get("step")
        at = (number if step is None else step) if by_step else int(each["at"] // length * length)
        if query.get("Start", at) <= at <= query.get("End", at):
            cells.setdefault(at, []).append(each["value"])
    summed = _STATISTICS[query["MetricStat"]]
    return {
        "Status": "Complete",
        "XAxisValues": sorted(cells),
        "MetricValues": [summed(cells[at]) for at in sorted(cells)],
    }
