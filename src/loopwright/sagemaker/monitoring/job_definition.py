"""Job definitions of Model Monitor: created, described, listed, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.monitoring.plan import (
    BIAS,
    DATA,
    EXPLAINABILITY,
    KINDS,
    MODEL,
    OF_CLARIFY,
    MonitoringPlan,
    baseline_uris,
    plan_of,
    watched_capture,
)
from loopwright.sagemaker.processing_order import refuse_unknown_program
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.shelf import Shelf, page_of
from loopwright.sagemaker.staging import refuse_missing_output
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.store import Record

_WORDS = {
    DATA: "data-quality-job-definition",
    MODEL: "model-quality-job-definition",
    BIAS: "model-bias-job-definition",
    EXPLAINABILITY: "model-explainability-job-definition",
}
DEFINITIONS = {
    kind: Shelf(
        kind=word,
        missing="Could not find job definition with name: {name}",
        taken="A job definition with this name already exists ({arn})",
        missing_code="ResourceNotFound",
        taken_code="ResourceInUse",
    )
    for kind, word in _WORDS.items()
}


def checked_plan(desk: Desk, caller: Caller, plan: MonitoringPlan) -> None:
    """Refuse a plan that could never run: no endpoint, no capture, no bucket, no program."""
    refuse_unknown_program(plan.app)
    watched_capture(desk, caller, plan.endpoint)
    refuse_missing_output(desk, plan.output["S3Uri"])
    baseline_uris(desk, caller, plan)
    if plan.kind in OF_CLARIFY:
        desk.objects.get(*split_uri(plan.app["ConfigUri"]))


def _create(kind: str, desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    checked_plan(desk, caller, plan_of(given, kind))
    record = DEFINITIONS[kind].create(desk, caller, given["JobDefinitionName"], given)
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"JobDefinitionArn": record.body["arn"]}


def _describe(kind: str, desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    record = DEFINITIONS[kind].get(desk, caller, given["JobDefinitionName"])
    request = {name: value for name, value in record.body["request"].items() if name != "Tags"}
    return {
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        **request,
        "JobDefinitionArn": record.body["arn"],
        "CreationTime": record.created_at,
    }


def _list(kind: str, desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    endpoint = given.get("EndpointName")
    kept = [
        each
        for each in DEFINITIONS[kind].all(desk, caller)
        if endpoint in (None, plan_of(each.body["request"], kind).endpoint)
    ]
    page, token = page_of(
        kept, given, summary=lambda each: _summary(kind, each), name="MonitoringJobDefinitionName"
    )
    return {"JobDefinitionSummaries": page, "NextToken": token}


def _summary(kind: str, record: Record) -> dict[str, Any]:
    return {
        "MonitoringJobDefinitionName": record.body["name"],
        "MonitoringJobDefinitionArn": record.body["arn"],
        "CreationTime": record.created_at,
        "EndpointName": plan_of(record.body["request"], kind).endpoint,
    }


def _delete(kind: str, desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    record = DEFINITIONS[kind].get(desk, caller, given["JobDefinitionName"])
    DEFINITIONS[kind].delete(desk, record)
    drop_tags(desk, record.body["arn"])
    return {}


def find_definition(desk: Desk, caller: Caller, kind: str, name: str) -> Mapping[str, Any]:
    """Return the request of a definition; `ApiError` if there is none."""
    found: Mapping[str, Any] = DEFINITIONS[kind].get(desk, caller, name).body["request"]
    return found


def _serve(kind: str) -> None:
    """Enter the four operations of a kind."""
    note = "Of endpoints; batch transform is not watched."

    @serves("sagemaker", f"Create{kind}JobDefinition", note=note)
    def create(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return _create(kind, desk, caller, given)

    @serves("sagemaker", f"Describe{kind}JobDefinition")
    def describe(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return _describe(kind, desk, caller, given)

    @serves("sagemaker", f"List{kind}JobDefinitions")
    def list_(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return _list(kind, desk, caller, given)

    @serves("sagemaker", f"Delete{kind}JobDefinition")
    def delete(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
        return _delete(kind, desk, caller, given)


for _kind in KINDS:
    _serve(_kind)
