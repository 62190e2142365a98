"""What stands behind an endpoint: one endpoint of loopwright's, its variants bundles or users' code.

A variant whose model has several containers is several variants there, which are asked one by one. The
models of a multi-model container are served by processes of their own; see `model_host.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
from loopwright.deploy.scale import Scale
from loopwright.sagemaker.container import MULTI_MODEL, containers_of, data_uri, host_of, mode_of
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.instance import resources_of
from loopwright.sagemaker.model_place import code_settings, model_of
from loopwright.sagemaker.model_record import MODELS
from loopwright.store import Record
from loopwright.train.script_contract import installer_environment

# installing what a script requires takes its time
_START_S = 660.0
_MOST_MEMORY_MIB = 16 << 10
_MOST_WORKERS = 8
# as long as SageMaker keeps a serverless endpoint warm, roughly
_IDLE = "5 minutes"
_ACCEPT = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"
_OF_PREFIX = frozenset({"ModelDataUrl", "ModelDataSource", "Mode", "MultiModelConfig"})


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
            own = f"v{first + len(variants)}"
            variants.append(
                {
                    "name": each["VariantName"],
                    "own": own,
                    "weight": each.get("InitialVariantWeight", 1.0),
                    "shadow": is_shadow,
                    "count": each.get("InitialInstanceCount", 1),
                    **_serverless(each),
                    **_startup(each),
                    **models_of(
                        desk,
                        MODELS.get(desk, caller, each["ModelName"]),
                        own=own,
                        memory_mib=_memory_mib(desk, each),
                    ),
                }
            )
    return variants


def models_of(
    desk: Desk,
    record: Record,
    *,
    own: str,
    environment: Mapping[str, str] | None = None,
    memory_mib: int = 0,
) -> dict[str, Any]:
    """Return what a model is, and where it lies on this machine.

    That of one container is as `model_of` has it. Any other has a `mode` and its `containers`, each
    with its own name here, its name in the model, and what `model_of` says of it; one of many models
    is of the kind `models` and has their `prefix`.

    Parameters
    ----------
    own
        The name of the variant here.
    environment
        Variables for all containers, beside their own.
    memory_mib
        What a container of many models may hold of them at once.
    """
    containers = [_with(each, environment) for each in containers_of(record)]
    if len(containers) == 1 and containers[0].get("Mode") != MULTI_MODEL:
        return model_of(desk, containers[0])
    found = [
        {
            "own": f"{own}-{place}" if place else own,
            "host": host_of(each, place),
            "accept": each.get("Environment", {}).get(_ACCEPT, ""),
            **(
                _many(each, memory_mib) if each.get("Mode") == MULTI_MODEL else model_of(desk, each)
            ),
        }
        for place, each in enumerate(containers)
    ]
    return {"kind": "several", "mode": mode_of(record.body["request"]), "containers": found}


def _with(container: Mapping[str, Any], environment: Mapping[str, str] | None) -> dict[str, Any]:
    own = container.get("Environment", {})
    return {**container, "Environment": {**own, **(environment or {})}}


def _many(container: Mapping[str, Any], memory_mib: int) -> dict[str, Any]:
    cached = container.get("MultiModelConfig", {}).get("ModelCacheSetting", "Enabled")
    return {
        "kind": "models",
        "prefix": f"{data_uri(container).rstrip('/')}/",
        "container": {k: each for k, each in container.items() if k not in _OF_PREFIX},
        "keeps": cached == "Enabled",
        "memory_mib": memory_mib,
    }


def _startup(variant: Mapping[str, Any]) -> dict[str, Any]:
    limit_s = variant.get("ContainerStartupHealthCheckTimeoutInSeconds")
    return {} if limit_s is None else {"startup_s": limit_s}


def _memory_mib(desk: Desk, variant: Mapping[str, Any]) -> int:
    """Return what the instance of a variant has, or what this machine has where that is less."""
    most = min(int(desk.workspace.compute.capacity().memory_mib * 0.9), _MOST_MEMORY_MIB)
    if "InstanceType" not in variant:
        return most
    return min(most, resources_of(variant["InstanceType"]).memory_mib)


def _serverless(variant: Mapping[str, Any]) -> dict[str, Any]:
    config = variant.get("ServerlessConfig")
    if config is None:
        return {}
    return {
        "serverless": {
            "memory_mib": config["MemorySizeInMB"],
            "most": config["MaxConcurrency"],
            "least": config.get("ProvisionedConcurrency", 0),
        }
    }


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
    hosts = hosts_of(arn, variants)
    before = hosts_of(arn, live["variants"] if live else ())
    _stop_strays(desk, arn, live["jobs"] if live else (), hosts={*hosts, *before})
    own = variants_of(desk, caller, variants)
    if not own:
        # each model of a multi-model container starts when it is asked for
        _stop_strays(desk, arn, (), hosts=hosts)
        return {"jobs": [], "variants": [dict(each) for each in variants]}
    is_fixed = live is not None and bool(live["jobs"]) and is_alive(desk, live)
    workers = workers_of(desk, variants)
    found = _served(desk, arn, own, None if is_fixed else workers)
    if isinstance(found.workers, Scale) != isinstance(workers, Scale):
        # how a process scales is settled when it starts; the models have proved to work
        _stop_strays(desk, arn, (), hosts=hosts)
        found = _served(desk, arn, own, workers)
    _stop_strays(desk, arn, (found.job,), hosts=hosts)
    return {"jobs": [found.job], "variants": [{**each, "port": found.port} for each in variants]}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Serving:
    """A process that serves: its job, its port, and by how many workers."""

    job: str
    port: int
    workers: int | Scale


def _served(
    desk: Desk, arn: str, own: tuple[Variant, ...], workers: int | Scale | None
) -> _Serving:
    """Have the process of an endpoint serve some variants; `workers` of None leaves those it has."""
    name = own_name(arn)
    folder = desk.workspace.endpoint_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    endpoint = Endpoint(name, folder)
    known = read_desired(folder) if endpoint.desired_path.exists() else None
    if workers is None:
        workers = known.workers if known else 1
    wanted = DesiredState(
        name=name,
        generation=known.generation + 1 if known else 1,
        port=known.port if known else free_port(),
        variants=own,
        workers=workers,
        # what is captured goes to S3, in the words of the request
        capture=None,
    )
    write_desired(folder, wanted)
    job = desk.workspace.compute.submit(job_of(desk, endpoint, key=name, arn=arn))
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
    return _Serving(job=job.id, port=state.port or 0, workers=workers)


def job_of(desk: Desk, endpoint: Endpoint, *, key: str, arn: str, models: str = "") -> JobSpec:
    """Return the job that runs a process of an endpoint.

    Parameters
    ----------
    models
        Which models of a multi-model container it serves, in one word.
    """
    capacity = desk.workspace.compute.capacity()
    memory = min(int(capacity.memory_mib * 0.9), _MOST_MEMORY_MIB)
    labels = {"endpoint": endpoint.name, "arn": arn}
    return JobSpec(
        key=f"endpoint/{key}",
        name=endpoint.name,
        kind="endpoint",
        command=endpoint.command,
        # where the packages of own code come from; the code itself does not see it
        env=installer_environment(),
        resources=Resources(cpus=1, memory=f"{memory} MiB"),
        counted=False,
        labels={**labels, "models": models} if models else labels,
    )


def variants_of(
    desk: Desk, caller: Caller, variants: Sequence[Mapping[str, Any]]
) -> tuple[Variant, ...]:
    """Return what the process of an endpoint serves: of several containers each by itself."""
    # what the process is asked is no whole request then, so that shadows are asked by this server
    is_whole = not any("containers" in each for each in variants)
    found: list[Variant] = []
    for each in variants:
        weight = each["weight"] if is_whole or not each["shadow"] else 0.0
        shadow = each["shadow"] and is_whole
        for place, container in enumerate(each.get("containers", (each,))):
            if container["kind"] != "models":
                own = {**each, **container}
                part = 0.0 if place else weight
                found.append(variant_of(desk, caller, own, weight=part, shadow=shadow))
    if found and not any(each.weight > 0 for each in found if not each.shadow):
        found[0] = msgspec.structs.replace(found[0], weight=1.0)
    return tuple(found)


def variant_of(
    desk: Desk, caller: Caller, each: Mapping[str, Any], *, weight: float, shadow: bool
) -> Variant:
    """Return a model as a variant of a process: its name, its archive, and how its code is run."""
    code = code_settings(desk, caller, each, n_instances=each["count"])
    if code is not None and "serverless" in each:
        memory = f"{each['serverless']['memory_mib']} MiB"
        code = msgspec.structs.replace(code, memory=memory)
    if code is not None and "startup_s" in each:
        code = msgspec.structs.replace(code, start_timeout_s=float(each["startup_s"]))
    return Variant(
        name=each["own"],
        bundle=each["path"],
        version=each["digest"].removeprefix("sha256:")[:12],
        bundle_digest=each["digest"],
        weight=weight,
        shadow=shadow,
        code=code,
    )


def workers_of(desk: Desk, variants: Sequence[Mapping[str, Any]]) -> int | Scale:
    """Return how many processes answer for an endpoint; a script has processes of its own beside.

    A serverless one has none while nobody asks it.
    """
    cpus = max(1, int(desk.workspace.compute.capacity().cpus))
    asked = [each["serverless"] for each in variants if "serverless" in each]
    if asked:
        most = min(cpus, max(each["most"] for each in asked), _MOST_WORKERS)
        least = min(most, max(each["least"] for each in asked))
        return Scale(least=least, most=most, idle=_IDLE)
    containers = [part for each in variants for part in each.get("containers", (each,))]
    if any(each["kind"] == "script" for each in containers):
        return 1
    n_instances: int = max(each["count"] for each in variants)
    return min(cpus, n_instances, _MOST_WORKERS)


def host_name(arn: str, variant: Mapping[str, Any], container: Mapping[str, Any]) -> str:
    """Return the name of what serves the models of a container; another for other settings."""
    about = [arn, variant["name"], variant["count"], container["prefix"], container["container"]]
    return f"mm-{digest_value(about).removeprefix('sha256:')[:24]}"


def hosts_of(arn: str, variants: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the names of what serves the multi-model containers of some variants."""
    return {
        host_name(arn, each, container)
        for each in variants
        for container in each.get("containers", ())
        if container["kind"] == "models"
    }


def stop(desk: Desk, arn: str) -> None:
    """End the processes of an endpoint, those that nobody noted too."""
    _stop_strays(desk, arn, ())
    names = {own_name(arn)}
    for job in desk.workspace.compute.list_(kind="endpoint", labels={"arn": arn}):
        names.add(job.labels["endpoint"])
    for name in names:
        shutil.rmtree(desk.workspace.endpoint_folder(name), ignore_errors=True)


def _stop_strays(
    desk: Desk, arn: str, known: Collection[str], *, hosts: Collection[str] = ()
) -> None:
    """End processes that a server started for an endpoint, and was killed before it noted them.

    Parameters
    ----------
    known
        Those that stay, by the ids of their jobs.
    hosts
        Those of multi-model containers that stay, by their names.
    """
    for job in desk.workspace.compute.list_(kind="endpoint", labels={"arn": arn}):
        stays = job.id in known or job.labels.get("models") in hosts
        if not stays and not job.state.has_ended:
            desk.workspace.compute.stop(job.id, grace_s=5.0)


def is_alive(desk: Desk, live: Mapping[str, Any]) -> bool:
    """Tell whether all processes of an endpoint run."""
    return all(not desk.workspace.compute.get(each).state.has_ended for each in live["jobs"])
