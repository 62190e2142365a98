"""Application Auto Scaling of endpoint variants: bounds, policies, and the changes that follow."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from loopwright.core.errors import NotFoundError, WrongStateError
from loopwright.core.names import new_id
from loopwright.sagemaker.chore import chore
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.endpoint import update_weights
from loopwright.sagemaker.endpoint_record import ENDPOINTS, caller_of
from loopwright.sagemaker.endpoint_traffic import counted
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.shelf import Shelf, cut
from loopwright.store import Record

_SERVICE = "application-autoscaling"
_DIMENSION = "sagemaker:variant:DesiredInstanceCount"
_METRIC = "SageMakerVariantInvocationsPerInstance"
_RESOURCE = re.compile(r"endpoint/([A-Za-z0-9-]+)/variant/([A-Za-z0-9-]+)")
_COOLDOWN_S = 300
_WINDOW_S = 60.0
_MOST_ACTIVITIES = 50
_MOST_SEEN = 10_000

TARGETS = Shelf(kind="scalable-target", missing="", taken="")
POLICIES = Shelf(kind="scaling-policy", missing="", taken="")


@serves(
    _SERVICE,
    "RegisterScalableTarget",
    note="Variants of endpoints alone (sagemaker:variant:DesiredInstanceCount).",
)
def register_scalable_target(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep between which counts a variant may be scaled."""
    _checked_dimension(given)
    name = given["ResourceId"]
    endpoint, variant = _parts(name)
    record = ENDPOINTS.find(desk, caller, endpoint)
    live = (record.body["live"] if record else None) or {"variants": []}
    if variant not in {each["name"] for each in live["variants"]}:
        raise validation(f"SageMaker endpoint variant not found: {name}")
    known = TARGETS.find(desk, caller, name)
    before: Mapping[str, Any] = known.body["request"] if known else {}
    wanted = {**before, **given}
    bounds = wanted.get("MinCapacity"), wanted.get("MaxCapacity")
    if bounds[0] is None or bounds[1] is None:
        raise validation("MinCapacity and MaxCapacity are required to register a scalable target.")
    if bounds[0] > bounds[1]:
        raise validation("Maximum capacity cannot be less than minimum capacity")
    if known is not None:
        TARGETS.change(desk, known, request=wanted)
        return {"ScalableTargetARN": known.body["target"]}
    arn = caller.arn("scalable-target", new_id(), service=_SERVICE)
    TARGETS.create(desk, caller, name, wanted, target=arn, activities=[])
    return {"ScalableTargetARN": arn}


@serves(_SERVICE, "DeregisterScalableTarget")
def deregister_scalable_target(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget the bounds of a variant, and its policies; its count stays."""
    record = _target(desk, caller, given, "No scalable target found for")
    for each in _policies(desk, caller, given["ResourceId"]):
        POLICIES.delete(desk, each)
    TARGETS.delete(desk, record)
    return {}


@serves(_SERVICE, "DescribeScalableTargets")
def describe_scalable_targets(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the bounds of variants."""
    wanted = given.get("ResourceIds")
    found = [
        {
            **{key: each for key, each in record.body["request"].items() if key != "Tags"},
            "RoleARN": record.body["request"].get("RoleARN") or _role(caller),
            "CreationTime": record.created_at,
            "ScalableTargetARN": record.body["target"],
        }
        for record in TARGETS.all(desk, caller)
        if _is_asked(given) and (not wanted or record.body["name"] in wanted)
    ]
    page, token = cut(found, given)
    return {"ScalableTargets": page, "NextToken": token}


@serves(
    _SERVICE,
    "PutScalingPolicy",
    note=f"Target tracking of {_METRIC} is executed; other policies are kept and not applied.",
)
def put_scaling_policy(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep by what a variant is scaled."""
    _target(desk, caller, given, "No scalable target registered for")
    name = f"{given['ResourceId']}/{given['PolicyName']}"
    known = POLICIES.find(desk, caller, name)
    if known is not None:
        POLICIES.change(desk, known, request={**known.body["request"], **given})
        return {"PolicyARN": known.body["policy"], "Alarms": []}
    config = given.get("TargetTrackingScalingPolicyConfiguration")
    if config is None and given.get("PolicyType") == "TargetTrackingScaling":
        raise validation("TargetTrackingScalingPolicyConfiguration is required.")
    about = f"scalingPolicy:{new_id()}:resource/sagemaker/{given['ResourceId']}:policyName"
    arn = f"arn:aws:autoscaling:{caller.region}:{caller.account}:{about}/{given['PolicyName']}"
    POLICIES.create(desk, caller, name, given, policy=arn)
    return {"PolicyARN": arn, "Alarms": []}


@serves(_SERVICE, "DeleteScalingPolicy")
def delete_scaling_policy(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget by what a variant is scaled."""
    record = POLICIES.find(desk, caller, f"{given['ResourceId']}/{given['PolicyName']}")
    if record is None:
        raise _not_found("No scaling policy found for", given)
    POLICIES.delete(desk, record)
    return {}


@serves(_SERVICE, "DescribeScalingPolicies")
def describe_scaling_policies(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List by what variants are scaled."""
    names = given.get("PolicyNames")
    found = [
        {
            "PolicyType": "StepScaling",
            **record.body["request"],
            "PolicyARN": record.body["policy"],
            "Alarms": [],
            "CreationTime": record.created_at,
        }
        for record in _policies(desk, caller, given.get("ResourceId", ""))
        if _is_asked(given) and (not names or record.body["request"]["PolicyName"] in names)
    ]
    page, token = cut(found, given)
    return {"ScalingPolicies": page, "NextToken": token}


@serves(_SERVICE, "DescribeScalingActivities")
def describe_scaling_activities(
    desk: Desk, caller: Caller, given: dict[str, Any]
) -> dict[str, Any]:
    """List what has been scaled, the last first."""
    found = [
        {**each, "StartTime": datetime.fromisoformat(each["StartTime"])}
        for record in TARGETS.all(desk, caller)
        if _is_asked(given) and given.get("ResourceId") in (None, record.body["name"])
        for each in record.body["activities"]
    ]
    found.sort(key=lambda each: each["StartTime"], reverse=True)
    page, token = cut(found, given)
    return {"ScalingActivities": page, "NextToken": token}


def _policies(desk: Desk, caller: Caller, resource: str) -> list[Record]:
    return [
        each
        for each in POLICIES.all(desk, caller)
        if resource in ("", each.body["request"]["ResourceId"])
    ]


def _is_asked(given: Mapping[str, Any]) -> bool:
    """Return whether what is here is of the kind that a client asks for."""
    is_here = given["ServiceNamespace"] == "sagemaker"
    return is_here and given.get("ScalableDimension") in (None, _DIMENSION)


def _checked_dimension(given: Mapping[str, Any]) -> None:
    if given["ServiceNamespace"] != "sagemaker" or given["ScalableDimension"] != _DIMENSION:
        raise validation(
            f"Only variants of SageMaker endpoints ({_DIMENSION}) can be scaled by loopwright."
        )


def _parts(resource: str) -> tuple[str, str]:
    match = _RESOURCE.fullmatch(resource)
    if match is None:
        raise validation(
            f"Unsupported resource ID {resource[:200]}: it must be endpoint/NAME/variant/NAME."
        )
    return match[1], match[2]


def _target(desk: Desk, caller: Caller, given: Mapping[str, Any], words: str) -> Record:
    _checked_dimension(given)
    record = TARGETS.find(desk, caller, given["ResourceId"])
    if record is None:
        raise _not_found(words, given)
    return record


def _not_found(words: str, given: Mapping[str, Any]) -> ApiError:
    return ApiError(
        "ObjectNotFoundException",
        f"{words} service namespace: {given['ServiceNamespace']}, resource ID: "
        f"{given['ResourceId']}, scalable dimension: {given['ScalableDimension']}",
    )


def _role(caller: Caller) -> str:
    name = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    path = f"aws-service-role/sagemaker.application-autoscaling.amazonaws.com/{name}"
    return f"arn:aws:iam::{caller.account}:role/{path}"


# how many requests had been answered when, of each variant; the last minute of them
_seen: dict[str, deque[tuple[float, int]]] = {}


@chore(5.0)
def scale_variants(desk: Desk) -> None:
    """Change the counts of variants that are outside of their bounds, or busier than they should be."""
    for record in TARGETS.all(desk):
        try:
            _scale(desk, caller_of(record), record)
        except (ApiError, WrongStateError, NotFoundError):
            continue  # the endpoint is being changed, or gone


def _scale(desk: Desk, caller: Caller, record: Record) -> None:
    request = record.body["request"]
    name, variant = _parts(request["ResourceId"])
    endpoint = ENDPOINTS.find(desk, caller, name)
    if endpoint is None or endpoint.body["change"] or not endpoint.body["live"]:
        return
    found = [each for each in endpoint.body["live"]["variants"] if each["name"] == variant]
    if not found:
        return
    count, invocations = int(found[0]["count"]), _invocations(desk, endpoint, found[0])
    suspended = request.get("SuspendedState", {})
    wanted, cause = count, ""
    for policy in _policies(desk, caller, request["ResourceId"]):
        config = policy.body["request"].get("TargetTrackingScalingPolicyConfiguration", {})
        metric = config.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
        if metric == _METRIC and invocations is not None:
            changed = tracked(config, count, invocations, since_s=_since(desk, record))
            if changed != count:
                wanted, cause = changed, f"policy {policy.body['request']['PolicyName']}"
    bounded = min(max(wanted, request["MinCapacity"]), request["MaxCapacity"])
    is_out = bounded > count
    is_suspended = suspended.get(f"DynamicScaling{'Out' if is_out else 'In'}Suspended", False)
    if bounded == count or is_suspended:
        return
    change = {"VariantName": variant, "DesiredInstanceCount": bounded}
    update_weights(desk, caller, {"EndpointName": name, "DesiredWeightsAndCapacities": [change]})
    activity = {
        "ActivityId": new_id(),
        "ServiceNamespace": "sagemaker",
        "ResourceId": request["ResourceId"],
        "ScalableDimension": _DIMENSION,
        "Description": f"Setting desired instance count to {bounded}.",
        "Cause": cause or "the bounds of the scalable target",
        "StartTime": desk.now(),
        "StatusCode": "Successful",
    }
    kept = [activity, *record.body["activities"]][:_MOST_ACTIVITIES]
    TARGETS.change(desk, record, activities=kept)


def tracked(config: Mapping[str, Any], count: int, invocations: int, *, since_s: float) -> int:
    """Return how many instances a variant should have by a policy.

    Parameters
    ----------
    count
        How many it has.
    invocations
        Of the last minute, of all instances together.
    since_s
        How long ago it was scaled last.
    """
    wanted = max(1, math.ceil(invocations / float(config["TargetValue"])))
    if wanted > count:
        pause_s = float(config.get("ScaleOutCooldown", _COOLDOWN_S))
    elif wanted < count and not config.get("DisableScaleIn", False):
        pause_s = float(config.get("ScaleInCooldown", _COOLDOWN_S))
    else:
        return count
    return wanted if since_s >= pause_s else count


def _since(desk: Desk, record: Record) -> float:
    activities = record.body["activities"]
    if not activities:
        return math.inf
    began = datetime.fromisoformat(activities[0]["StartTime"])
    return float((desk.now() - began).total_seconds())


def _invocations(desk: Desk, endpoint: Record, variant: Mapping[str, Any]) -> int | None:
    """Return how many requests a variant answered in the last minute; None while that is not known."""
    key = f"{endpoint.key}/{variant['own']}"
    now = desk.now().timestamp()
    if len(_seen) > _MOST_SEEN:
        _seen.clear()
    seen = _seen.setdefault(key, deque())
    total = counted(desk, endpoint.body["arn"], [variant]).n_requests
    if seen and total < seen[-1][1]:
        seen.clear()  # its process began anew
    seen.append((now, total))
    while len(seen) > 2 and seen[1][0] <= now - _WINDOW_S:
        seen.popleft()
    return total - seen[0][1] if now - seen[0][0] >= _WINDOW_S * 0.9 else None
