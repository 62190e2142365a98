"""What stands behind an endpoint: one endpoint of loopwright's, its variants bundles or users' code."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from loopwright.compute import JobSpec, Resources
from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError
from loopwright.deploy import (
    DesiredState,
    Endpoint,
    Variant,
    free_port,
    read_desired,
    wait_until_serving,
    write_desired,
)
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.model_place import code_settings, model_of
from loopwright.sagemaker.model_record import MODELS, container_of

# installing what a script requires takes its time
_START_S = 660.0
_MOST_MEMORY_MIB = 16 << 10


def own_name(arn: str) -> str:
    """Return the name under which an endpoint is known to the loop's own services."""
    return f"sm-{digest_value(arn).removeprefix('sha256:')[:24]}"


def planned(
    desk: Desk, caller: Caller, config: Mapping[str, Any], *, first: int = 0
) -> list[dict[str, Any]]:
    """Return the variants of a configuration as they are served, their models on this machine.

    Parameters
    ----------
    first
        The number of the first; its own name here is made of it.
    """
    variants: list[dict[str, Any]] = []
    for is_shadow, group in ((False, "ProductionVariants"), (True, "ShadowProductionVariants")):
        for each in config.get(group, ()):
            model = MODELS.get(desk, caller, each["ModelName"])
            variants.append(
                {
                    "name": each["VariantName"],
                    "own": f"v{first + len(variants)}",
                    "weight": each.get("InitialVariantWeight", 1.0),
                    "shadow": is_shadow,
                    "count": each.get("InitialInstanceCount", 1),
                    **model_of(desk, container_of(model)),
                }
            )
    return variants


def deployed(
    desk: Desk, caller: Caller, arn: str, config: Mapping[str, Any], live: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Have an endpoint serve the variants of a configuration; return what is live then.

    Raises
    ------
    ApiError, LoopwrightError
        If it cannot; what was live before still is.
    """
    return served(desk, caller, arn, planned(desk, caller, config), live)


def served(
    desk: Desk,
    caller: Caller,
    arn: str,
    variants: Sequence[Mapping[str, Any]],
    live: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Have an endpoint serve some variants; see `deployed`."""
    _stop_strays(desk, arn, live["jobs"] if live else ())
    name = own_name(arn)
    folder = desk.workspace.endpoint_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    endpoint = Endpoint(name, folder)
    known = read_desired(folder) if endpoint.desired_path.exists() else None
    wanted = DesiredState(
        name=name,
        generation=known.generation + 1 if known else 1,
        port=known.port if known else free_port(),
        variants=tuple(_variant(desk, caller, each) for each in variants),
        # what is captured goes to S3, in the words of the request
        capture=None,
    )
    write_desired(folder, wanted)
    capacity = desk.workspace.compute.capacity()
    memory = min(int(capacity.memory_mib * 0.9), _MOST_MEMORY_MIB)
    job = desk.workspace.compute.submit(
        JobSpec(
            key=f"endpoint/{name}",
            name=name,
            kind="endpoint",
            command=endpoint.command,
            resources=Resources(cpus=1, memory=f"{memory} MiB"),
            counted=False,
            labels={"endpoint": name, "arn": arn},
        )
    )
    try:
        state = wait_until_serving(
            folder,
            generation=wanted.generation,
            timeout_s=_START_S,
            is_alive=lambda: not desk.workspace.compute.get(job.id).state.has_ended,
        )
    except BackendError:
        if known is not None:
            # a process that starts again later must find what did serve
            back = msgspec.structs.replace(known, generation=wanted.generation + 1)
            write_desired(folder, back)
        raise
    _stop_strays(desk, arn, (job.id,))
    return {"jobs": [job.id], "variants": [{**each, "port": state.port} for each in variants]}


def _variant(desk: Desk, caller: Caller, each: Mapping[str, Any]) -> Variant:
    return Variant(
        name=each["own"],
        bundle=each["path"],
        version=each["digest"].removeprefix("sha256:")[:12],
        bundle_digest=each["digest"],
        weight=each["weight"],
        shadow=each["shadow"],
        code=code_settings(desk, caller, each, n_instances=each["count"]),
    )


def stop(desk: Desk, arn: str) -> None:
    """End the processes of an endpoint, those that nobody noted too."""
    _stop_strays(desk, arn, ())
    shutil.rmtree(desk.workspace.endpoint_folder(own_name(arn)), ignore_errors=True)


def _stop_strays(desk: Desk, arn: str, known: Collection[str]) -> None:
    """End processes that a server started for an endpoint, and was killed before it noted them."""
    for job in desk.workspace.compute.list_(kind="endpoint", labels={"arn": arn}):
        if job.id not in known and not job.state.has_ended:
            desk.workspace.compute.stop(job.id, grace_s=5.0)


def is_alive(desk: Desk, live: Mapping[str, Any]) -> bool:
    """Tell whether all processes of an endpoint run."""
    return all(not desk.workspace.compute.get(each).state.has_ended for each in live["jobs"])
