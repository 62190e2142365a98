"""Tags: on anything that has an ARN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.shelf import cut

_KIND = "sagemaker/tags"
_MOST = 50


def check_tags(given: Mapping[str, Any]) -> None:
    """Refuse a request with tags that cannot be kept, before anything is made."""
    tags = given.get("Tags") or ()
    keys = [each["Key"] for each in tags]
    if len(set(keys)) < len(keys):
        raise validation("Duplicate tag keys are not allowed.")
    if any(each.lower().startswith("aws:") for each in keys):
        raise validation("Tag keys that start with 'aws:' are reserved for AWS.")


def keep_tags(desk: Desk, arn: str, tags: list[dict[str, str]]) -> None:
    """Add tags to an ARN; of a key that is there, the value is replaced."""
    if not tags:
        return
    with desk.workspace.metadata.transaction():
        known = tags_of(desk, arn) | {each["Key"]: each["Value"] for each in tags}
        if len(known) > _MOST:
            raise validation(f"A resource can have at most {_MOST} tags.")
        desk.workspace.metadata.put(_KIND, arn, {"tags": known})


def tags_of(desk: Desk, arn: str) -> dict[str, str]:
    """Return the tags of an ARN."""
    record = desk.workspace.metadata.find(_KIND, arn)
    return dict(record.body["tags"]) if record else {}


def drop_tags(desk: Desk, arn: str) -> None:
    """Forget the tags of something that is deleted."""
    desk.workspace.metadata.delete(_KIND, arn)


def _listed(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


@serves("sagemaker", "AddTags")
def add_tags(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Add tags."""
    keep_tags(desk, given["ResourceArn"], given["Tags"])
    return {"Tags": _listed(tags_of(desk, given["ResourceArn"]))}


@serves("sagemaker", "ListTags")
def list_tags(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List tags."""
    page, token = cut(_listed(tags_of(desk, given["ResourceArn"])), {"MaxResults": _MOST, **given})
    return {"Tags": page, "NextToken": token}


@serves("sagemaker", "DeleteTags")
def delete_tags(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Remove tags by their keys."""
    arn = given["ResourceArn"]
    with desk.workspace.metadata.transaction():
        left = {k: v for k, v in tags_of(desk, arn).items() if k not in given["TagKeys"]}
        desk.workspace.metadata.put(_KIND, arn, {"tags": left})
    return {}
