"""CloudWatch alarms: on what the endpoints of this machine count, and on states that are set by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from loopwright.core.errors import NotFoundError, WrongStateError
from loopwright.deploy.counts import BUCKETS_S, VariantCounts, added_up, kept_counts
from loopwright.deploy.endpoint import Endpoint
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.serving_plan import own_name
from loopwright.sagemaker.shelf import Shelf
from loopwright.store import Record

ALARMS = Shelf(
    kind="alarm",
    missing="Could not find alarm {name}.",
    taken="Alarm {name} already exists.",
    missing_code="ResourceNotFound",
)
NAMESPACE = "AWS/SageMaker"
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)")
_COMPARES: Mapping[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": lambda value, limit: value > limit,
    "GreaterThanOrEqualToThreshold": lambda value, limit: value >= limit,
    "LessThanThreshold": lambda value, limit: value < limit,
    "LessThanOrEqualToThreshold": lambda value, limit: value <= limit,
}


@serves(
    "cloudwatch",
    "PutMetricAlarm",
    note="Invocations, their 4XX and 5XX errors and ModelLatency of endpoints are evaluated, over all "
    "that was counted; actions are kept and not taken.",
)
def put_metric_alarm(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep an alarm."""
    if "MetricName" in given and given.get("ComparisonOperator") not in _COMPARES:
        raise ApiError(
            "ValidationError", "An alarm of one metric needs a ComparisonOperator and a Threshold."
        )
    known = ALARMS.find(desk, caller, given["AlarmName"])
    try:
        if known is None:
            ALARMS.create(desk, caller, given["AlarmName"], given, state="")
        else:
            request = {key: each for key, each in given.items() if each is not None}
            ALARMS.change(desk, known, request=request)
    except (ApiError, WrongStateError, NotFoundError) as error:
        raise ApiError("ConcurrentModificationException", "The alarm is being changed.") from error
    return {}


@serves("cloudwatch", "SetAlarmState", note="Stays until data says otherwise.")
def set_alarm_state(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Set the state of an alarm by hand."""
    record = ALARMS.get(desk, caller, given["AlarmName"])
    ALARMS.change(desk, record, state=given["StateValue"], reason=given["StateReason"])
    return {}


@serves("cloudwatch", "DescribeAlarms", note="Metric alarms.")
def describe_alarms(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return alarms with their states."""
    names, prefix = given.get("AlarmNames"), given.get("AlarmNamePrefix", "")
    found = []
    for record in ALARMS.all(desk, caller):
        name = record.body["name"]
        if (names is not None and name not in names) or not name.startswith(prefix):
            continue
        state = state_of(desk, caller, record)
        if given.get("StateValue") in (None, state):
            found.append(
                {
                    **record.body["request"],
                    "AlarmArn": f"arn:aws:cloudwatch:{caller.region}:{caller.account}:alarm:{name}",
                    "StateValue": state,
                    "StateReason": record.body.get("reason") or "By what was counted.",
                    "AlarmConfigurationUpdatedTimestamp": datetime.fromisoformat(
                        record.body["modified_at"]
                    ),
                }
            )
    return {"MetricAlarms": found[: given.get("MaxRecords", 50)], "CompositeAlarms": []}


@serves("cloudwatch", "DeleteAlarms")
def delete_alarms(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget alarms."""
    for record in [ALARMS.get(desk, caller, each) for each in given["AlarmNames"]]:
        ALARMS.delete(desk, record)
    return {}


def state_of(
    desk: Desk, caller: Caller, record: Record, *, seen: VariantCounts | None = None
) -> str:
    """Return `OK`, `ALARM` or `INSUFFICIENT_DATA`.

    Parameters
    ----------
    seen
        What counts; all that the endpoint it names has counted when absent.
    """
    request = record.body["request"]
    value = None
    if request.get("Namespace") == NAMESPACE:
        value = value_of(request, _counted(desk, caller, request) if seen is None else seen)
    if value is None:
        missing = request.get("TreatMissingData")
        usual = {"breaching": "ALARM", "notBreaching": "OK"}.get(missing, "INSUFFICIENT_DATA")
        return str(record.body.get("state") or usual)
    beyond = _COMPARES[request["ComparisonOperator"]](value, float(request.get("Threshold", 0.0)))
    return "ALARM" if beyond else "OK"


def _counted(desk: Desk, caller: Caller, request: Mapping[str, Any]) -> VariantCounts:
    names = [e["Value"] for e in request.get("Dimensions", ()) if e["Name"] == "EndpointName"]
    if len(names) != 1:
        return VariantCounts()
    own = own_name(caller.arn("endpoint", names[0]))
    folder = Endpoint(own, desk.workspace.endpoint_folder(own)).counts_folder
    found = VariantCounts()
    for each in added_up(kept_counts(folder)).variants.values():
        found = found.plus(each)
    return found


def value_of(request: Mapping[str, Any], seen: VariantCounts) -> float | None:
    """Return the metric of an alarm; None where nothing was counted, or it is not known here."""
    statistic = request.get("Statistic") or request.get("ExtendedStatistic", "")
    counts = {
        "Invocation5XXErrors": seen.n_errors,
        "Invocation4XXErrors": seen.n_refused,
        "Invocations": seen.n_requests,
    }
    if not seen.n_requests:
        return None
    name = request.get("MetricName", "")
    if name in counts:
        share = counts[name] / seen.n_requests
        known = {"Sum": float(counts[name]), "SampleCount": float(seen.n_requests)}
        return known.get(statistic, share if statistic == "Average" else None)
    if name != "ModelLatency":
        return None
    if statistic == "Average":
        return seen.seconds / seen.n_requests * 1e6
    percentile = _PERCENTILE.fullmatch(statistic)
    return _latency_us(seen, float(percentile[1]) / 100) if percentile else None


def _latency_us(seen: VariantCounts, share: float) -> float:
    """Return the end of the bucket in which a share of the answers has come, in microseconds."""
    total = 0
    for count, end in zip(seen.buckets, (*BUCKETS_S, float("inf")), strict=True):
        total += count
        if total >= share * seen.n_requests:
            return end * 1e6
    return float("inf")
