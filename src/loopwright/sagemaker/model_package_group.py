"""Model package groups: the models of one purpose, version by version, and who may use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.search import searchable
from loopwright.sagemaker.shelf import Shelf, page_of
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.store import Record

GROUPS = Shelf(
    kind="model-package-group",
    missing="ModelPackageGroup {arn} does not exist.",
    taken="Model Package Group already exists: {arn}",
)
_ARN = ":model-package-group/"


def group_name(text: str) -> str:
    """Return the name of a group that is given by name or ARN."""
    return text.partition(_ARN)[2] or text


@serves(
    "sagemaker", "CreateModelPackageGroup", note="ManagedConfiguration is kept and not applied."
)
def create_model_package_group(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a group."""
    record = GROUPS.create(desk, caller, given["ModelPackageGroupName"], given, latest=0)
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"ModelPackageGroupArn": record.body["arn"]}


@serves("sagemaker", "DescribeModelPackageGroup")
def describe_model_package_group(
    desk: Desk, caller: Caller, given: dict[str, Any]
) -> dict[str, Any]:
    """Return a group."""
    return _described(desk, GROUPS.get(desk, caller, group_name(given["ModelPackageGroupName"])))


def _described(desk: Desk, record: Record) -> dict[str, Any]:
    request = record.body["request"]
    return {
        **_summary(record),
        "ManagedConfiguration": request.get("ManagedConfiguration"),
        "CreatedBy": {"UserProfileName": desk.workspace.user},
    }


def _summary(record: Record) -> dict[str, Any]:
    return {
        "ModelPackageGroupName": record.body["name"],
        "ModelPackageGroupArn": record.body["arn"],
        "ModelPackageGroupDescription": record.body["request"].get("ModelPackageGroupDescription"),
        "CreationTime": record.created_at,
        "ModelPackageGroupStatus": "Completed",
    }


@serves("sagemaker", "ListModelPackageGroups")
def list_model_package_groups(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List groups."""
    page, token = page_of(
        GROUPS.all(desk, caller), given, summary=_summary, name="ModelPackageGroupName"
    )
    return {"ModelPackageGroupSummaryList": page, "NextToken": token}


@serves("sagemaker", "DeleteModelPackageGroup")
def delete_model_package_group(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a group that holds no versions."""
    from loopwright.sagemaker.model_package import versions_of

    with desk.workspace.metadata.transaction():
        record = GROUPS.get(desk, caller, group_name(given["ModelPackageGroupName"]))
        if versions_of(desk, caller, record.body["name"]):
            raise ApiError(
                "ConflictException",
                f"Model Package Group {record.body['arn']} cannot be deleted because it still contains "
                "Model Packages.",
            )
        GROUPS.delete(desk, record)
    drop_tags(desk, record.body["arn"])
    return {}


@serves(
    "sagemaker",
    "PutModelPackageGroupPolicy",
    state="recorded only",
    note="There is one account here, which may do everything.",
)
def put_policy(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep the policy of a group."""
    try:
        if not isinstance(json.loads(given["ResourcePolicy"]), dict):
            raise ValueError
    except (ValueError, RecursionError) as error:
        raise validation("Invalid policy: the resource policy is no JSON object.") from error
    with desk.workspace.metadata.transaction():
        record = GROUPS.get(desk, caller, group_name(given["ModelPackageGroupName"]))
        GROUPS.change(desk, record, policy=given["ResourcePolicy"])
    return {"ModelPackageGroupArn": record.body["arn"]}


@serves("sagemaker", "GetModelPackageGroupPolicy", state="recorded only")
def get_policy(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return the policy of a group."""
    name = group_name(given["ModelPackageGroupName"])
    record = GROUPS.get(desk, caller, name, missing="Cannot find Model Package Group: {arn}")
    if not record.body.get("policy"):
        raise validation(f"Cannot find resource policy for: {record.body['arn']}")
    return {"ResourcePolicy": record.body["policy"]}


@serves("sagemaker", "DeleteModelPackageGroupPolicy", state="recorded only")
def delete_policy(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget the policy of a group."""
    with desk.workspace.metadata.transaction():
        record = GROUPS.get(desk, caller, group_name(given["ModelPackageGroupName"]))
        GROUPS.change(desk, record, policy="")
    return {}


@searchable("ModelPackageGroup", arn="ModelPackageGroupArn")
def _groups(desk: Desk, caller: Caller) -> Iterator[dict[str, Any]]:
    for record in GROUPS.all(desk, caller):
        yield _described(desk, record)
