"""How traffic moves to a new fleet: the steps of a deployment configuration, as the product rolls out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.deploy.counts import VariantCounts, variant_counts
from loopwright.deploy.endpoint import Endpoint
from loopwright.deploy.rollout import Rollout, checked_rollout
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.metric_alarm import ALARMS, state_of
from loopwright.sagemaker.serving_plan import own_name

_LARGEST_STEP = 0.5


def rollout_of(config: Mapping[str, Any], *, n_instances: int) -> Rollout:
    """Return a deployment configuration as the product's own plan of a rollout.

    Parameters
    ----------
    n_instances
        Of the endpoint, for steps that are counted in instances.

    Raises
    ------
    ApiError
        If it cannot be carried out.
    """
    rolling, policy = config.get("RollingUpdatePolicy"), config.get("BlueGreenUpdatePolicy")
    if bool(rolling) == bool(policy):
        raise validation(
            "DeploymentConfig must have either BlueGreenUpdatePolicy or RollingUpdatePolicy."
        )
    about = rolling or (policy or {})["TrafficRoutingConfiguration"]
    kind = "ROLLING" if rolling else about["Type"]
    size = about.get({"CANARY": "CanarySize"}.get(kind, "LinearStepSize"))
    if rolling:
        size = rolling["MaximumBatchSize"]
    if kind != "ALL_AT_ONCE" and not size:
        raise validation(f"{'CanarySize' if kind == 'CANARY' else 'LinearStepSize'} is required.")
    bake = f"{about['WaitIntervalInSeconds']} seconds"
    plan = Rollout(kind="blue_green", bake=bake)
    if size:
        steps = _steps(_share(size, kind, n_instances), kind)
        plan = Rollout(kind="canary", steps=steps, bake=bake)
    try:
        return checked_rollout(plan)
    except InvalidInputError as error:
        raise validation(str(error)) from error


def _share(size: Mapping[str, Any], kind: str, n_instances: int) -> float:
    value = int(size["Value"])
    share = value / 100 if size["Type"] == "CAPACITY_PERCENT" else value / max(1, n_instances)
    least = {"LINEAR": 0.1, "ROLLING": 0.05}.get(kind, 0.01)
    if size["Type"] == "CAPACITY_PERCENT" and not least <= share <= _LARGEST_STEP:
        raise validation(
            f"A step of {value} percent is out of range: give {least:.0%} to {_LARGEST_STEP:.0%}."
        )
    return min(share, 1.0)


def _steps(share: float, kind: str) -> tuple[float, ...]:
    if kind == "CANARY":
        return (share, 1.0) if share < 1 else (1.0,)
    n = math.ceil(1 / share - 1e-9)
    return (*(round(share * each, 6) for each in range(1, n)), 1.0)


def alarm_names(config: Mapping[str, Any]) -> list[str]:
    """Return the alarms that end a deployment."""
    about = config.get("AutoRollbackConfiguration", {}).get("Alarms", ())
    return [each["AlarmName"] for each in about if "AlarmName" in each]


def refuse_missing_alarms(desk: Desk, caller: Caller, config: Mapping[str, Any]) -> None:
    """Refuse a deployment whose alarms are not there."""
    missing = [e for e in alarm_names(config) if ALARMS.find(desk, caller, e) is None]
    if missing:
        raise validation(f"The following alarms do not exist: {', '.join(missing)}.")


def mixed(
    before: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]], share: float
) -> list[dict[str, Any]]:
    """Return both fleets with their parts of the traffic; the new one last, so that callers stay.

    Parameters
    ----------
    share
        Of the new fleet, 0 to 1; its shadows are asked once it has all.
    """
    return [
        *_scaled(before, 1 - share),
        *_scaled([each for each in new if not each["shadow"] or share == 1], share),
    ]


def _scaled(variants: Sequence[Mapping[str, Any]], part: float) -> list[dict[str, Any]]:
    total = sum(each["weight"] for each in variants if not each["shadow"])
    return [
        {**each, "weight": each["weight"] if each["shadow"] else part * each["weight"] / total}
        for each in variants
    ]


def first_free(variants: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of the next variant's own name."""
    return 1 + max(int(str(each["own"]).removeprefix("v")) for each in variants)


def counted(desk: Desk, arn: str, variants: Sequence[Mapping[str, Any]]) -> VariantCounts:
    """Return what has been counted for some variants so far."""
    name = own_name(arn)
    folder = Endpoint(name, desk.workspace.endpoint_folder(name)).counts_folder
    known, found = variant_counts(folder), VariantCounts()
    for each in variants:
        found = found.plus(known.get(each["own"], VariantCounts()))
    return found


def looked_at(desk: Desk, caller: Caller, arn: str, change: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what speaks against a step, in words, and whether it has been watched for long enough."""
    baseline = msgspec.convert(change["baseline"], VariantCounts)
    seen = counted(desk, arn, change["new"]).since(baseline)
    raised = [
        name
        for name in alarm_names(change["deployment"])
        if (record := ALARMS.find(desk, caller, name)) is not None
        and state_of(desk, caller, record, seen=seen) == "ALARM"
    ]
    trouble = f"The following alarms are in ALARM state: {', '.join(raised)}" if raised else ""
    since = datetime.fromisoformat(change["since"])
    return trouble, (desk.now() - since).total_seconds() >= change["bake_s"]
