"""Models: where an archive lies, and what stands behind its image."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import validation
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


@serves("sagemaker", "CreateModel", note="One container; VPC settings are kept and not applied.")
def create_model(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a model."""
    if "PrimaryContainer" in given and given.get("Containers"):
        raise validation("Both PrimaryContainer and Containers cannot be specified.")
    containers = given.get("Containers") or [given.get("PrimaryContainer", {})]
    if not any(containers):
        raise validation("A PrimaryContainer or Containers is required.")
    if len(containers) > 1:
        raise validation("Inference pipelines of several containers are not supported yet.")
    resolved = [_resolved(desk, caller, each) for each in containers]
    record = MODELS.create(desk, caller, given["ModelName"], given, containers=resolved)
    keep_tags(desk, record.body["arn"], given.get("Tags", []))
    return {"ModelArn": record.body["arn"]}


def _resolved(desk: Desk, caller: Caller, container: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a container as it is served: one of a package with what the package says today."""
    if "ModelPackageName" not in container:
        return container
    from loopwright.sagemaker.model_package import container_of_package

    return container_of_package(desk, caller, container)


def container_of(record: Record) -> Mapping[str, Any]:
    """Return the one container of a model, as it is served."""
    request = record.body["request"]
    if record.body.get("containers"):
        resolved: Mapping[str, Any] = record.body["containers"][0]
        return resolved
    found: Mapping[str, Any] = (request.get("Containers") or [request.get("PrimaryContainer")])[0]
    return found


def data_uri(container: Mapping[str, Any]) -> str:
    """Return where the archive of a container lies; empty where there is none."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return str(container.get("ModelDataUrl") or source.get("S3Uri", ""))


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
    note="Asynchronous and serverless settings are kept and not applied.",
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
        MODELS.get(desk, caller, each["ModelName"])
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
