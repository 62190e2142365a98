"""Model packages: versions of a group, or models that stand alone; what they need, who approved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from loopwright.core.digest import digest_value
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.model_package_group import GROUPS, group_name
from loopwright.sagemaker.model_record import modified_at
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.search import searchable
from loopwright.sagemaker.shelf import Shelf, page_of, plain
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.store import Record

PACKAGES = Shelf(
    kind="model-package",
    missing="ModelPackage {arn} does not exist.",
    taken="ModelPackage already exists: {arn}",
)
_ARN = ":model-package/"
_TOKENS = "sagemaker/model-package-token"
_MOST_PROPERTIES = 50
_NOT_TOLD = frozenset({"ClientToken", "Tags", "ModelPackageName", "ModelPackageGroupName"})


@serves(
    "sagemaker",
    "CreateModelPackage",
    note="ValidationSpecification is kept; no validation job is run for it.",
)
def create_model_package(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a model as the next version of a group, or by a name of its own."""
    named, grouped = given.get("ModelPackageName"), given.get("ModelPackageGroupName")
    if named and grouped:
        raise validation(
            "Both ModelPackageName and ModelPackageGroupName are provided in the input. "
            "Cannot determine which one to use."
        )
    if not named and not grouped:
        raise validation("Missing ARN.")
    if grouped and given.get("Tags"):
        raise validation("Tags are not supported for versioned model packages: tag the group.")
    if named and given.get("ModelApprovalStatus"):
        raise validation("ModelApprovalStatus is not supported for unversioned model packages.")
    told = ("InferenceSpecification", "SourceAlgorithmSpecification", "SourceUri", "ModelCard")
    if not any(each in given for each in told[: 2 if named else 4]):
        raise validation(
            "Either InferenceSpecification or SourceAlgorithmSpecification must be provided."
        )
    with desk.workspace.metadata.transaction():
        record = _kept(desk, caller, given)
    return {"ModelPackageArn": record.body["arn"]}


def _kept(desk: Desk, caller: Caller, given: Mapping[str, Any]) -> Record:
    """Keep a package once for each client token."""
    store, token = desk.workspace.metadata, given.get("ClientToken")
    key = digest_value([caller.account, caller.region, token])
    known = store.find(_TOKENS, key) if token else None
    found = PACKAGES.find(desk, caller, known.body["name"]) if known else None
    if found is not None:
        asked = {name: each for name, each in plain(given).items() if name != "ClientToken"}
        if asked != {k: v for k, v in found.body["request"].items() if k != "ClientToken"}:
            raise ApiError(
                "ConflictException", "The ClientToken was used for another request already."
            )
        return found
    more: dict[str, Any] = {"approval_note": ""}
    if grouped := given.get("ModelPackageGroupName"):
        group = GROUPS.get(desk, caller, group_name(grouped))
        version = group.body["latest"] + 1
        GROUPS.change(desk, group, latest=version)
        name = f"{group.body['name']}/{version}"
        more |= {
            "group": group.body["name"],
            "version": version,
            "approval": given.get("ModelApprovalStatus", "PendingManualApproval"),
        }
    else:
        name = given["ModelPackageName"]
    record = PACKAGES.create(desk, caller, name, given, **more)
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    if token:
        store.put(_TOKENS, key, {"name": name})
    return record


def find_package(desk: Desk, caller: Caller, text: str) -> Record:
    """Return a package by its ARN or its name.

    Raises
    ------
    ApiError
        If there is none.
    """
    start, slash, name = text.partition(_ARN)
    if slash and start != caller.arn("", "").removesuffix(":/"):
        raise validation(f"ModelPackage {text} does not exist.")
    return PACKAGES.get(desk, caller, name if slash else text)


def versions_of(desk: Desk, caller: Caller, group: str) -> list[Record]:
    """Return the versions of a group, the first first."""
    found = [each for each in PACKAGES.all(desk, caller) if each.body.get("group") == group]
    return sorted(found, key=lambda record: int(record.body["version"]))


@serves("sagemaker", "DescribeModelPackage")
def describe_model_package(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return a package."""
    return described(desk, find_package(desk, caller, given["ModelPackageName"]))


def described(desk: Desk, record: Record) -> dict[str, Any]:
    """Return the description of a package."""
    body = record.body
    request = {name: each for name, each in body["request"].items() if name not in _NOT_TOLD}
    by = {"UserProfileName": desk.workspace.user}
    if "InferenceSpecification" in request:
        request["InferenceSpecification"] = _with_sources(desk, request["InferenceSpecification"])
    return {
        "CertifyForMarketplace": False,
        **request,
        **_told(_summary(record)),
        "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
        "CreatedBy": by,
        "LastModifiedTime": modified_at(record),
        "LastModifiedBy": by,
        "ApprovalDescription": body["approval_note"] or None,
    }


def _with_sources(desk: Desk, specification: Mapping[str, Any]) -> dict[str, Any]:
    """Return a specification with what AWS adds to its containers: the source, and its ETag."""
    containers = []
    for each in specification.get("Containers", ()):
        uri = each.get("ModelDataUrl")
        if uri and "ModelDataSource" not in each:
            kind = "S3Prefix" if uri.endswith("/") else "S3Object"
            packing = "Gzip" if uri.endswith(".gz") else "None"
            source = {"S3Uri": uri, "S3DataType": kind, "CompressionType": packing}
            each = {**each, "ModelDataSource": {"S3DataSource": source}}
        etag = _etag(desk, uri) if uri else ""
        containers.append({**each, "ModelDataETag": etag} if etag else each)
    return {**specification, "Containers": containers}


def _etag(desk: Desk, uri: str) -> str:
    try:
        bucket, key = split_uri(uri)
    except ApiError:
        return ""
    entry = desk.objects.find(bucket, key) if key else None
    return entry.etag if entry else ""


def _summary(record: Record) -> dict[str, Any]:
    body = record.body
    return {
        "ModelPackageName": body.get("group") or body["name"],
        "ModelPackageGroupName": body.get("group"),
        "ModelPackageVersion": body.get("version"),
        "ModelPackageArn": body["arn"],
        "ModelPackageDescription": body["request"].get("ModelPackageDescription"),
        "CreationTime": record.created_at,
        "ModelPackageStatus": "Completed",
        "ModelApprovalStatus": body.get("approval"),
        "ModelLifeCycle": body["request"].get("ModelLifeCycle"),
        "ModelPackageRegistrationType": body["request"].get("ModelPackageRegistrationType"),
    }


def _told(summary: dict[str, Any]) -> dict[str, Any]:
    """Leave out the name of a version: the SDK 3 would ask for the version by it."""
    hidden = "ModelPackageName" if summary["ModelPackageGroupName"] else ""
    return {name: each for name, each in summary.items() if name != hidden}


@serves("sagemaker", "ListModelPackages")
def list_model_packages(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List packages: those without versions unless a group or a type is asked for."""
    group = given.get("ModelPackageGroupName")
    if group:
        found = versions_of(desk, caller, GROUPS.get(desk, caller, group_name(group)).body["name"])
    else:
        kind = given.get("ModelPackageType", "Unversioned")
        found = [
            each
            for each in PACKAGES.all(desk, caller)
            if kind == "Both" or (each.body.get("group") is not None) == (kind == "Versioned")
        ]
    wanted = given.get("ModelApprovalStatus")
    page, token = page_of(
        [each for each in found if wanted in (None, each.body.get("approval"))],
        given,
        summary=_summary,
        name="ModelPackageName",
    )
    return {"ModelPackageSummaryList": [_told(each) for each in page], "NextToken": token}


@serves("sagemaker", "BatchDescribeModelPackage")
def batch_describe(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return several packages, and of those that are not there, why not."""
    found, missing = {}, {}
    for arn in given["ModelPackageArnList"]:
        try:
            about = described(desk, find_package(desk, caller, arn))
        except ApiError as error:
            missing[arn] = {"ErrorCode": error.code, "ErrorResponse": error.message}
        else:
            about.setdefault("InferenceSpecification", {"Containers": []})
            found[arn] = about
    return {"ModelPackageSummaries": found, "BatchDescribeModelPackageErrorMap": missing or None}


@serves("sagemaker", "UpdateModelPackage")
def update_model_package(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Approve or reject a version, or change what is known of a package."""
    with desk.workspace.metadata.transaction():
        record = find_package(desk, caller, given["ModelPackageArn"])
        if "ModelApprovalStatus" in given and "version" not in record.body:
            raise validation("ModelApprovalStatus is not supported for unversioned model packages.")
        changes: dict[str, Any] = {"request": _changed(record.body["request"], given)}
        if "ModelApprovalStatus" in given:
            changes["approval"] = given["ModelApprovalStatus"]
        if "ApprovalDescription" in given:
            changes["approval_note"] = given["ApprovalDescription"]
        PACKAGES.change(desk, record, **changes)
    return {"ModelPackageArn": record.body["arn"]}


def _changed(request: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(request)
    for name in (
        "InferenceSpecification",
        "SourceUri",
        "ModelCard",
        "ModelLifeCycle",
        "ModelPackageRegistrationType",
    ):
        if name in given:
            found[name] = given[name]
    removed = given.get("CustomerMetadataPropertiesToRemove", ())
    known = request.get("CustomerMetadataProperties", {})
    properties = {name: each for name, each in known.items() if name not in removed}
    properties |= given.get("CustomerMetadataProperties", {})
    if len(properties) > _MOST_PROPERTIES:
        raise validation(
            f"A model package can have at most {_MOST_PROPERTIES} CustomerMetadataProperties."
        )
    found["CustomerMetadataProperties"] = properties
    if not properties:
        del found["CustomerMetadataProperties"]
    if more := given.get("AdditionalInferenceSpecificationsToAdd"):
        names = {each["Name"] for each in more}
        kept = [
            each
            for each in request.get("AdditionalInferenceSpecifications", ())
            if each["Name"] not in names
        ]
        found["AdditionalInferenceSpecifications"] = [*kept, *more]
    return found


@serves("sagemaker", "DeleteModelPackage")
def delete_model_package(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a package; its archive stays, and so do the models made of it."""
    record = find_package(desk, caller, given["ModelPackageName"])
    PACKAGES.delete(desk, record)
    drop_tags(desk, record.body["arn"])
    return {}


def containers_of_package(
    desk: Desk, caller: Caller, container: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Return what stands for a container of a model that names a package: the package's own, in order.

    Raises
    ------
    ApiError
        If there is no such package, it was rejected, or it has no container that can serve.
    """
    record = find_package(desk, caller, container["ModelPackageName"])
    arn = record.body["arn"]
    if record.body.get("approval") == "Rejected":
        raise validation(f"Cannot create model: the model package {arn} was rejected.")
    request = record.body["request"]
    specification = request.get("InferenceSpecification") or {}
    if name := container.get("InferenceSpecificationName"):
        others = request.get("AdditionalInferenceSpecifications", ())
        matching = [each for each in others if each["Name"] == name]
        if not matching:
            raise validation(f"{arn} has no inference specification named {name!r}.")
        specification = matching[0]
    found = specification.get("Containers", ())
    if not found:
        raise validation(f"{arn} has no containers to serve.")
    given = container.get("Environment", {})
    # a name for one container cannot be that of several
    own = {k: v for k, v in container.items() if len(found) == 1 or k != "ContainerHostname"}
    return [
        {**each, **own, "Environment": {**each.get("Environment", {}), **given}} for each in found
    ]


@searchable("ModelPackage", arn="ModelPackageArn")
def _packages(desk: Desk, caller: Caller) -> Iterator[dict[str, Any]]:
    for record in PACKAGES.all(desk, caller):
        yield described(desk, record)
