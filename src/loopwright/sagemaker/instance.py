"""Instance types as what they are made of: CPUs, memory and GPUs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from loopwright.compute import Capacity, Resources
from loopwright.sagemaker.error import ApiError

# GiB of memory for each CPU, by family
_GIB_PER_CPU = {"t": 4, "m": 4, "c": 2, "r": 8, "g": 4, "p": 8, "inf": 4, "trn": 4}
_GPU_CPUS = {
    "ml.p2.xlarge": (4, 1),
    "ml.p3.2xlarge": (8, 1),
    "ml.p3.8xlarge": (32, 4),
    "ml.p3.16xlarge": (64, 8),
    "ml.p4d.24xlarge": (96, 8),
    "ml.p5.48xlarge": (192, 8),
    "ml.g4dn.12xlarge": (48, 4),
    "ml.g5.12xlarge": (48, 4),
    "ml.g5.24xlarge": (96, 4),
    "ml.g5.48xlarge": (192, 8),
}
MOST_HOSTS = 20
"""How many instances a job may have here at most."""

# an instance with less could not start a script
_LEAST_MIB = 256
_TYPE = re.compile(r"ml\.([a-z]+)\d+[a-z]*\.(?:(\d+)?xlarge|medium|large)")


def resources_of(instance: str) -> Resources:
    """Return what an instance type has.

    A size of `Nxlarge` has 4 N CPUs, and each CPU the memory of its family: `ml.m5.xlarge` has 4
    CPUs and 16 GiB, as Amazon's price list says.

    Raises
    ------
    ApiError
        If it is no instance type.
    """
    if instance in ("local", "local_gpu"):
        return Resources(cpus=1, memory="2 GiB", gpus=int(instance == "local_gpu"))
    match = _TYPE.fullmatch(instance)
    if match is None:
        raise ApiError("ValidationException", f"{instance[:80]!r} is no instance type.")
    family = match[1]
    cpus = 4 * int(match[2] or 1) if instance.endswith("xlarge") else 2
    gpus = 0
    if family in ("p", "g"):
        cpus, gpus = _GPU_CPUS.get(instance, (cpus, 1))
    memory = cpus * _GIB_PER_CPU.get(family, 4)
    if instance.endswith(".medium") and family == "t":
        memory = 4
    return Resources(cpus=cpus, memory=f"{memory} GiB", gpus=gpus)


def placed(
    instance: str, n_instances: int, capacity: Capacity, *, usage: str = "training job"
) -> tuple[Resources, str]:
    """Return what a job on instances of one type gets here; see `placed_together`."""
    return placed_together([(instance, n_instances)], capacity, usage=usage)


def placed_together(
    instances: Sequence[tuple[str, int]], capacity: Capacity, *, usage: str = "training job"
) -> tuple[Resources, str]:
    """Return what all instances of a job get here together, and what was scaled down, in words.

    A job may be given fewer CPUs and less memory than its instances have, since it then only takes
    longer; a GPU that is not there cannot be made up for. All instances start at once, or none.

    Parameters
    ----------
    instances
        Types, and how many of each.
    usage
        What it is for, in SageMaker's words.

    Raises
    ------
    ApiError
        `ResourceLimitExceeded`, in SageMaker's words, for GPUs or instances that are not there.
    """
    memory_mib = int(capacity.memory_mib * 0.9)
    cpus = wanted_mib = gpus = 0.0
    n_all = sum(n for _, n in instances)
    most = max(1, min(MOST_HOSTS, memory_mib // _LEAST_MIB))
    for instance, n in instances:
        wanted = resources_of(instance)
        gpus += n * wanted.gpus
        cpus, wanted_mib = cpus + n * wanted.cpus, wanted_mib + n * wanted.memory_mib
        limit = len(capacity.gpu_ids) // wanted.gpus if wanted.gpus else most
        if n_all > most or gpus > len(capacity.gpu_ids):
            raise _beyond(f"{instance} for {usage} usage", limit=min(limit, most), asked=n)
    given = Resources(
        cpus=min(cpus, capacity.cpus),
        memory=f"{int(min(wanted_mib, memory_mib))} MiB",
        gpus=int(gpus),
    )
    is_less = given.cpus < cpus or given.memory_mib < wanted_mib
    if n_all == 1:
        return given, (
            f"{instances[0][0]} has {cpus:g} CPUs and {wanted_mib:g} MiB; this job gets "
            f"{given.cpus:g} CPUs and {given.memory_mib} MiB, which is what there is."
            if is_less
            else ""
        )
    note = f"The {n_all} instances are processes on one machine."
    if is_less:
        note += (
            f" They have {cpus:g} CPUs and {wanted_mib:g} MiB; this job gets {given.cpus:g} CPUs "
            f"and {given.memory_mib} MiB for all of them, which is what there is."
        )
    return given, note


def _beyond(name: str, *, limit: int, asked: int) -> ApiError:
    return ApiError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{name}' is {limit} Instances, with current utilization "
        f"of 0 Instances and a request delta of {asked} Instances. Please use AWS Service Quotas to "
        "request an increase for this quota. If AWS Service Quotas is not available, contact AWS "
        "support to request an increase for this quota.",
    )
