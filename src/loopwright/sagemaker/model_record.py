"""Models: where an archive lies, and what stands behind its image."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from loopwright.sagemaker.container import (
    check_containers,
    check_serverless,
    containers_of,
    data_uri,
)
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError, validation
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.s3.store import split_uri
from loopwright.sagemaker.shelf import Shelf, page_of
from loopwright.sagemaker.tag import drop_tags, keep_tags
from loopwright.store import Record

MODELS = Shelf(
    kind="model",
    missing='Could not find model "{arn}".',
    taken='Cannot create already existing model "{arn}".',
)


@serves("sagemaker", "CreateModel", note="VPC settings are kept and not applied.")
def create_model(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a model of one container or of several."""
    check_containers(given)
    containers = given.get("Containers") or [given["PrimaryContainer"]]
    resolved = [own for each in containers for own in _resolved(desk, caller, each)]
    if len(resolved) > 1:
        check_containers({**given, "Containers": resolved, "PrimaryContainer": None})
    for each in resolved:
        _check_data(desk, each)
    record = MODELS.create(desk, caller, given["ModelName"], given, containers=resolved)
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"ModelArn": record.body["arn"]}


def _resolved(desk: Desk, caller: Caller, container: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a container as it is served: one of a package with what the package says today."""
    if "ModelPackageName" not in container:
        return [container]
    from loopwright.sagemaker.model_package import containers_of_package

    return containers_of_package(desk, caller, container)


def _check_data(desk: Desk, container: Mapping[str, Any]) -> None:
    uri = data_uri(container)
    if not uri or container.get("Mode") == "MultiModel":
        return
    bucket, key = split_uri(uri)
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    try:
        if source.get("S3DataType") == "S3Prefix":
            found = next(iter(desk.objects.every(bucket, key)), None)
        else:
            found = desk.objects.find(bucket, key)
    except ApiError as error:
        raise validation(f"Could not find model data at {uri}.") from error
    if found is None:
        raise validation(f"Could not find model data at {uri}.")


@serves("sagemaker", "DescribeModel")
def describe_model(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return a model as it was created."""
    record = MODELS.get(desk, caller, given["ModelName"])
    request = {key: value for key, value in record.body["request"].items() if key != "Tags"}
    return {
        "EnableNetworkIsolation": False,
        **request,
        "ModelArn": record.body["arn"],
        "CreationTime": record.created_at,
    }


@serves("sagemaker", "ListModels")
def list_models(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List models."""
    page, token = page_of(
        MODELS.all(desk, caller),
        given,
        summary=lambda record: {
            "ModelName": record.body["name"],
            "ModelArn": record.body["arn"],
            "CreationTime": record.created_at,
        },
        name="ModelName",
    )
    return {"Models": page, "NextToken": token}


@serves("sagemaker", "DeleteModel")
def delete_model(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget a model; its archive stays, and so do endpoints that serve it."""
    record = MODELS.get(desk, caller, given["ModelName"])
    MODELS.delete(desk, record)
    drop_tags(desk, record.body["arn"])
    return {}


CONFIGS = Shelf(
    kind="endpoint-config",
    missing='Could not find endpoint configuration "{arn}".',
    taken='Cannot create already existing endpoint configuration "{arn}".',
)


@serves(
    "sagemaker",
    "CreateEndpointConfig",
    note="Topics of asynchronous endpoints are kept and not notified.",
)
def create_endpoint_config(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep an endpoint configuration whose models exist."""
    variants = given["ProductionVariants"] + given.get("ShadowProductionVariants", [])
    names = [each["VariantName"] for each in variants]
    if len(set(names)) < len(names):
        raise validation("Duplicate variant names are not allowed in an endpoint configuration.")
    for each in variants:
        if "ModelName" not in each:
            raise validation("A variant needs a ModelName; inference components are not supported.")
        model = MODELS.get(desk, caller, each["ModelName"])
        if "ServerlessConfig" in each:
            check_serverless(given, each, containers_of(model))
    if "DataCaptureConfig" in given:
        split_uri(given["DataCaptureConfig"]["DestinationS3Uri"])
    record = CONFIGS.create(desk, caller, given["EndpointConfigName"], given)
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"EndpointConfigArn": record.body["arn"]}


@serves("sagemaker", "DescribeEndpointConfig")
def describe_endpoint_config(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return an endpoint configuration as it was created."""
    record = CONFIGS.get(desk, caller, given["EndpointConfigName"])
    request = {key: value for key, value in record.body["request"].items() if key != "Tags"}
    return {
        **request,
        "EndpointConfigArn": record.body["arn"],
        "CreationTime": record.created_at,
    }


@serves("sagemaker", "ListEndpointConfigs")
def list_endpoint_configs(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List endpoint configurations."""
    page, token = page_of(
        CONFIGS.all(desk, caller),
        given,
        summary=lambda record: {
            "EndpointConfigName": record.body["name"],
            "EndpointConfigArn": record.body["arn"],
            "CreationTime": record.created_at,
        },
        name="EndpointConfigName",
    )
    return {"EndpointConfigs": page, "NextToken": token}


@serves("sagemaker", "DeleteEndpointConfig")
def delete_endpoint_config(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Forget an endpoint configuration; endpoints made of it go on."""
    record = CONFIGS.get(desk, caller, given["EndpointConfigName"])
    CONFIGS.delete(desk, record)
    drop_tags(desk, record.body["arn"])
    return {}


def modified_at(record: Record) -> datetime:
    """Return when a record was last changed."""
    return datetime.fromisoformat(record.body["modified_at"])
