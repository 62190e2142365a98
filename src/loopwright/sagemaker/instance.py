"""Instance types as what they are made of: CPUs, memory and GPUs."""

from __future__ import annotations

import re

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
    """Return what a job on an instance gets here, and what was scaled down, in words.

    A job may be given fewer CPUs and less memory than the instance type names, since it then only
    takes longer; a GPU that is not there cannot be made up for.

    Parameters
    ----------
    usage
        What it is for, in SageMaker's words.

    Raises
    ------
    ApiError
        `ResourceLimitExceeded`, in SageMaker's words, for GPUs or instances that are not there.
    """
    wanted = resources_of(instance)
    if n_instances > 1:
        raise _beyond(f"{instance} for {usage} usage", limit=1, asked=n_instances)
    if wanted.gpus > len(capacity.gpu_ids):
        raise _beyond(f"{instance} for {usage} usage", limit=0, asked=n_instances)
    memory_mib = min(wanted.memory_mib, int(capacity.memory_mib * 0.9))
    cpus = min(wanted.cpus, capacity.cpus)
    given = Resources(cpus=cpus, memory=f"{memory_mib} MiB", gpus=wanted.gpus)
    if cpus == wanted.cpus and memory_mib == wanted.memory_mib:
        return given, ""
    return given, (
        f"{instance} has {wanted.cpus:g} CPUs and {wanted.memory_mib} MiB; "
        f"this job gets {cpus:g} CPUs and {memory_mib} MiB, which is what there is."
    )


def _beyond(name: str, *, limit: int, asked: int) -> ApiError:
    return ApiError(
        "ResourceLimitExceeded",
        f"The account-level service limit '{name}' is {limit} Instances, with current utilization "
        f"of 0 Instances and a request delta of {asked} Instances. Please use AWS Service Quotas to "
        "request an increase for this quota. If AWS Service Quotas is not available, contact AWS "
        "support to request an increase for this quota.",
    )
