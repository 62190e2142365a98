"""Buckets: made, found, listed, deleted."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.s3.embedded import embedded

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


def owner(caller: Caller) -> dict[str, str]:
    """Return who owns what the caller has."""
    return {"DisplayName": "loopwright", "ID": caller.account}


@serves("s3", "ListBuckets")
def list_buckets(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the buckets of the account."""
    found = [
        each
        for each in embedded(desk).index.buckets()
        if each.account == caller.account
        and each.name.startswith(given.get("Prefix", ""))
        and each.name > given.get("ContinuationToken", "")
        and given.get("BucketRegion") in (None, each.region)
    ]
    most = given.get("MaxBuckets", 10_000)
    page = found[:most]
    return {
        "Buckets": [
            {
                "Name": each.name,
                "CreationDate": datetime.fromtimestamp(each.created, UTC),
                "BucketRegion": each.region,
            }
            for each in page
        ],
        "Owner": owner(caller),
        "Prefix": given.get("Prefix"),
        "ContinuationToken": page[-1].name if len(found) > most else None,
    }


@serves("s3", "CreateBucket", note="ACLs and object locks are not kept.")
def create_bucket(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Make a bucket."""
    name = given["Bucket"]
    if not _NAME.fullmatch(name) or ".." in name or _ADDRESS.fullmatch(name):
        raise ApiError("InvalidBucketName", "The specified bucket is not valid.", BucketName=name)
    asked = given.get("CreateBucketConfiguration", {}).get("LocationConstraint")
    region = asked or caller.region
    if not embedded(desk).make_bucket(name, account=caller.account, region=region):
        known = desk.objects.bucket(name)
        if known.account != caller.account:
            raise ApiError(
                "BucketAlreadyExists",
                "The requested bucket name is not available. The bucket namespace is shared by all "
                "users of the system. Please select a different name and try again.",
                BucketName=name,
            )
        # as Amazon does in its first region
        if caller.region != "us-east-1":
            raise ApiError(
                "BucketAlreadyOwnedByYou",
                "Your previous request to create the named bucket succeeded and you already own it.",
                BucketName=name,
            )
    return {"Location": f"/{name}"}


@serves("s3", "HeadBucket")
def head_bucket(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell whether there is a bucket."""
    found = desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    if found.account != caller.account:
        raise ApiError("AccessDenied", "Access Denied")
    return {"BucketRegion": found.region}


@serves("s3", "GetBucketLocation")
def get_bucket_location(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell the region of a bucket; that of the first region is empty."""
    found = desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    return {"LocationConstraint": "" if found.region == "us-east-1" else found.region}


@serves("s3", "GetBucketVersioning")
def get_bucket_versioning(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Tell that no versions are kept."""
    desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    return {}


@serves("s3", "DeleteBucket")
def delete_bucket(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Delete an empty bucket."""
    name = given["Bucket"]
    desk.objects.bucket(name, owner=given.get("ExpectedBucketOwner"))
    with embedded(desk).index.writing() as database:
        if database.execute("select 1 from object where bucket = ? limit 1", (name,)).fetchone():
            raise ApiError(
                "BucketNotEmpty", "The bucket you tried to delete is not empty", BucketName=name
            )
        parts = database.execute(
            "select file from part where upload in (select id from upload where bucket = ?)",
            (name,),
        ).fetchall()
        database.execute(
            "delete from part where upload in (select id from upload where bucket = ?)", (name,)
        )
        database.execute("delete from upload where bucket = ?", (name,))
        database.execute("delete from bucket where name = ?", (name,))
    for (file,) in parts:
        embedded(desk).files.drop(file)
    return {"__status": 204}
