"""The containers of a model: whether they fit together, and how a request goes through them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from loopwright.sagemaker.error import validation
from loopwright.store import Record

Mode: TypeAlias = Literal["Serial", "Direct"]

MOST_CONTAINERS = 15
MULTI_MODEL = "MultiModel"
_MIB_STEP = 1024


def check_containers(given: Mapping[str, Any]) -> None:
    """Check the containers of a request that creates a model.

    Raises
    ------
    ApiError
        If there are none, too many, or those that are asked for by name have none.
    """
    if given.get("PrimaryContainer") is not None and given.get("Containers"):
        raise validation("Both PrimaryContainer and Containers cannot be specified.")
    containers = given.get("Containers") or [given.get("PrimaryContainer") or {}]
    if not any(containers):
        raise validation("A PrimaryContainer or Containers is required.")
    if len(containers) > MOST_CONTAINERS:
        raise validation(
            f"A model can have at most {MOST_CONTAINERS} containers; {len(containers)} were given."
        )
    _check_names([each.get("ContainerHostname", "") for each in containers], mode_of(given))
    if sum(each.get("Mode") == MULTI_MODEL for each in containers) > 1:
        raise validation("Only one container of a model can have the mode MultiModel.")
    for each in containers:
        if each.get("Mode") == MULTI_MODEL and not each.get("ModelDataUrl"):
            raise validation(
                "A container of the mode MultiModel needs ModelDataUrl, the S3 prefix of its models."
            )


def _check_names(names: Sequence[str], mode: Mode) -> None:
    known = [name for name in names if name]
    if len(set(known)) < len(known):
        raise validation("The ContainerHostname of each container in a model must be unique.")
    if mode == "Direct" and len(known) < len(names):
        raise validation(
            "InferenceExecutionConfig Direct needs a ContainerHostname for each container."
        )


def check_serverless(
    config: Mapping[str, Any], variant: Mapping[str, Any], containers: Sequence[Mapping[str, Any]]
) -> None:
    """Check a variant of an endpoint configuration that is serverless.

    Raises
    ------
    ApiError
        If it asks for an instance as well, or for what SageMaker has for instances alone.
    """
    both = [name for name in ("InstanceType", "InitialInstanceCount") if name in variant]
    if both:
        raise validation(f"A variant with ServerlessConfig cannot have {' and '.join(both)}.")
    settings = variant["ServerlessConfig"]
    if settings["MemorySizeInMB"] % _MIB_STEP:
        raise validation(
            f"MemorySizeInMB is {settings['MemorySizeInMB']}; it must be a multiple of {_MIB_STEP}."
        )
    if settings.get("ProvisionedConcurrency", 0) > settings["MaxConcurrency"]:
        raise validation("ProvisionedConcurrency must not be more than MaxConcurrency.")
    beside = ("DataCaptureConfig", "AsyncInferenceConfig", "ShadowProductionVariants")
    is_more = any(config.get(name) for name in beside) or len(config["ProductionVariants"]) > 1
    if is_more or any(each.get("Mode") == MULTI_MODEL for each in containers):
        raise validation(
            "One or more endpoint features are not supported using this configuration."
        )


def mode_of(request: Mapping[str, Any]) -> Mode:
    """Return how a request goes through the containers: one after the other, or to one alone."""
    found = request.get("InferenceExecutionConfig", {}).get("Mode", "Serial")
    return "Direct" if found == "Direct" else "Serial"


def containers_of(record: Record) -> list[Mapping[str, Any]]:
    """Return the containers of a model in their order, as they are served."""
    request = record.body["request"]
    found: list[Mapping[str, Any]] = (
        record.body.get("containers")
        or request.get("Containers")
        or [request.get("PrimaryContainer", {})]
    )
    return found


def host_of(container: Mapping[str, Any], place: int) -> str:
    """Return what a container is called, as SageMaker calls those that were given no name."""
    return str(container.get("ContainerHostname") or f"container-{place + 1}")


def data_uri(container: Mapping[str, Any]) -> str:
    """Return where the archive of a container lies; empty where there is none."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    return str(container.get("ModelDataUrl") or source.get("S3Uri", ""))
