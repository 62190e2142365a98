"""The instances of a job as hosts, and the objects that each of them gets."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from loopwright.compute import Capacity, Resources
from loopwright.sagemaker.error import validation
from loopwright.sagemaker.instance import placed_together, resources_of
from loopwright.train.script_host import GROUP, Host, host_name

Each = TypeVar("Each")


def groups_of(asked: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """Return name, instance type and number of each instance group of a `ResourceConfig`.

    Raises
    ------
    ApiError
        If it has neither an instance type nor groups, or both.
    """
    groups = asked.get("InstanceGroups")
    if not groups:
        if "InstanceType" not in asked:
            raise validation("ResourceConfig needs an InstanceType, or InstanceGroups.")
        return [(GROUP, asked["InstanceType"], asked.get("InstanceCount", 1))]
    if "InstanceType" in asked or "InstanceCount" in asked:
        raise validation(
            "InstanceGroups cannot be combined with InstanceType and InstanceCount in ResourceConfig."
        )
    names = [each["InstanceGroupName"] for each in groups]
    if len(set(names)) < len(names):
        raise validation("Instance group names must be unique within a training job.")
    return [
        (each["InstanceGroupName"], each["InstanceType"], each["InstanceCount"]) for each in groups
    ]


def resources_for(
    asked: Mapping[str, Any], capacity: Capacity, *, usage: str = "training job"
) -> tuple[Resources, str]:
    """Return what all instances get here together; see `placed_together`."""
    pairs = [(instance, n) for _, instance, n in groups_of(asked)]
    return placed_together(pairs, capacity, usage=usage)


def hosts_of(asked: Mapping[str, Any], given: Resources) -> list[Host]:
    """Return the hosts of a job, `algo-1` first; each may use its part of what the job is given."""
    instances = [(group, instance) for group, instance, n in groups_of(asked) for _ in range(n)]
    wanted = [resources_of(instance) for _, instance in instances]
    share = given.cpus / sum(each.cpus for each in wanted)
    return [
        Host(
            name=host_name(number),
            instance=instance,
            group=group,
            cpus=max(1, int(each.cpus * share)),
            gpus=each.gpus,
        )
        for number, ((group, instance), each) in enumerate(
            zip(instances, wanted, strict=True), start=1
        )
    ]


def first_instance(asked: Mapping[str, Any]) -> str:
    """Return the type of the first instance."""
    return groups_of(asked)[0][1]


def parts(
    entries: Sequence[Each], source: Mapping[str, Any], hosts: Sequence[Host], *, seed: int | None
) -> dict[str, list[Each]] | None:
    """Return what each host gets of a source, by its name; None if all get everything.

    With `ShardedByS3Key` the objects are dealt out one by one, in the order of their keys, or in
    one that a seed decides; with `InstanceGroupNames`, among the hosts of these groups alone.

    Raises
    ------
    ApiError
        If there is no group of a name.
    """
    groups = set(source.get("InstanceGroupNames", ()))
    unknown = groups - {each.group for each in hosts}
    if unknown:
        raise validation(f"There is no instance group {sorted(unknown)[0]!r} in ResourceConfig.")
    own = [each.name for each in hosts if not groups or each.group in groups]
    is_divided = source.get("S3DataDistributionType") == "ShardedByS3Key" and len(own) > 1
    if not is_divided:
        return None if len(own) == len(hosts) else {name: list(entries) for name in own}
    dealt = list(entries)
    if seed is not None:
        random.Random(seed).shuffle(dealt)  # noqa: S311 no secret
    return {name: dealt[number :: len(own)] for number, name in enumerate(own)}
