"""Decides which node of a cluster takes which job: pure functions over jobs and nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loopwright.compute.job import Job
from loopwright.compute.ray_cluster import RayNode
from loopwright.compute.resource import Capacity, Resources
from loopwright.core.errors import InvalidInputError

LARGEST = "the largest node of the cluster"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A queued job and the node that takes it now."""

    job: Job
    node: RayNode


def refuse_unplaceable(resources: Resources, nodes: Sequence[RayNode]) -> None:
    """Refuse what no node of the cluster could ever give, even when nothing else runs.

    Raises
    ------
    InvalidInputError
        Naming what falls short, with what was asked and what the nodes have.
    """
    short = shortage(resources, nodes)
    if not short:
        return
    field, asked, available = _greatest_gap(resources, nodes)
    raise InvalidInputError(
        f"The job asks for {short}.",
        hint="Ask for at most that in `resources`, or add a larger node to the cluster.",
        field=f"resources.{field}",
        value=asked,
        available=available,
    )


def cluster_capacity(nodes: Sequence[RayNode]) -> Capacity:
    """Return the most that any node has of each, for a first look, and what each of them has.

    See `refuse_unplaceable` for the last word on a job.
    """
    n_gpus = max((node.n_gpus for node in nodes), default=0)
    return Capacity(
        cpus=max((node.cpus for node in nodes), default=0.0),
        memory_mib=max((node.memory_mib for node in nodes), default=0),
        gpu_ids=tuple(map(str, range(n_gpus))),
        where=LARGEST,
        nodes=tuple(
            Capacity(
                cpus=node.cpus,
                memory_mib=node.memory_mib,
                gpu_ids=tuple(map(str, range(node.n_gpus))),
                where=node.ip,
            )
            for node in nodes
        ),
    )


def shortage(resources: Resources, nodes: Sequence[RayNode]) -> str:
    """Return what no node can give and what there is, as a phrase; empty if one could give it."""
    if any(_could_give(node, resources) for node in nodes):
        return ""
    if not nodes:
        return f"{_amounts(resources)}; the cluster has no node"
    amounts = _asked_and_most(resources, nodes)
    beyond = [amount for amount in amounts if amount[1] > amount[2]]
    if beyond:
        asked = " and ".join(unit.format(wanted) for _, wanted, _, unit in beyond)
        most = " and ".join(unit.format(found) for _, _, found, unit in beyond)
        return f"{asked}; {LARGEST} has {most}"
    have = "; ".join(f"{node.ip}: {_node_amounts(node)}" for node in nodes)
    return f"{_amounts(resources)} together, which no node of the cluster has ({have})"


def placements(
    queued: Iterable[Job], nodes: Sequence[RayNode], assigned: Mapping[str, Sequence[Job]]
) -> list[Placement]:
    """Return which queued jobs may start now and where, in the order of submission.

    A job goes to the node that has the least room left beside it, so that large jobs find room
    later. One that must wait for room keeps all later ones waiting; one that no node can ever give
    does not. One that keeps room for others starts when there is room for all of them, and those
    that join it come first.

    Parameters
    ----------
    queued
        Jobs that were not given to the cluster yet, the first submitted first.
    nodes
        The living nodes with what the cluster says is in use.
    assigned
        By the id of a node, our jobs that were given to it and have not ended. The cluster may not
        know of the latest ones yet, so the greater of both counts.
    """
    room = _Room(nodes, assigned)
    given = [job for jobs in assigned.values() for job in jobs]
    kept = {job.id: job.keeps_room_for for job in given if job.keeps_room_for}
    for job in given:
        if job.joins in kept:
            kept[job.joins] -= 1
    chosen: dict[str, Placement] = {}
    waiting = list(queued)
    for job in waiting:
        if kept.get(job.joins, 0) > 0 and job.id not in chosen:
            kept[job.joins] -= 1
            if (taken := room.take(job.resources, 1)) is None:
                return list(chosen.values())
            chosen[job.id] = Placement(job=job, node=taken[0])
    for job in given:
        # so many have still to come; identical places fit again however they were chosen before
        if kept.get(job.id, 0) > 0 and room.take(job.resources, kept[job.id]) is None:
            return list(chosen.values())
    for job in waiting:
        n_places = 1 + job.keeps_room_for
        if job.id in chosen or shortage(job.resources, nodes):
            continue
        if n_places > 1 and cluster_capacity(nodes).at_once(job.resources) < n_places:
            continue
        taken = room.take(job.resources, n_places)
        if taken is None:
            break
        chosen[job.id] = Placement(job=job, node=taken[0])
    return list(chosen.values())


class _Room:
    """What the nodes have left, as jobs are given to them."""

    def __init__(self, nodes: Sequence[RayNode], assigned: Mapping[str, Sequence[Job]]) -> None:
        self._nodes = nodes
        self._free = {node.id: _free(node, assigned.get(node.id, ())) for node in nodes}

    def take(self, resources: Resources, n_places: int) -> list[RayNode] | None:
        """Take room for so many jobs; return where, or None, and nothing taken, if it falls short."""
        free, found = dict(self._free), []
        wanted = _demand(resources)
        for _ in range(n_places):
            fitting = [node for node in self._nodes if _fits(wanted, free[node.id])]
            if not fitting:
                return None
            node = min(fitting, key=lambda node: (free[node.id], node.id))
            left = tuple(have - take for have, take in zip(free[node.id], wanted, strict=True))
            free[node.id] = left
            found.append(node)
        self._free = free
        return found


def waiting_reason(job: Job, nodes: Sequence[RayNode], *, n_before: int) -> str:
    """Return what a queued job waits for."""
    short = shortage(job.resources, nodes)
    together = (
        f" for each of {job.keeps_room_for + 1} jobs at once, each" if job.keeps_room_for else ""
    )
    if short:
        return f"a node that is large enough: it asks for {short}"
    if n_before:
        return f"{n_before} job{'s' if n_before > 1 else ''} submitted before it"
    used = "; ".join(
        f"{node.ip}: {node.used_cpus:g} of {node.cpus:g} CPUs and {node.used_memory_mib:,} of "
        f"{node.memory_mib:,} MiB in use"
        for node in nodes
    )
    return f"{_amounts(job.resources)}{together} on one node ({used})"


def _demand(resources: Resources) -> tuple[int, ...]:
    """Return GPUs, thousandths of CPUs and MiB; GPUs first, since they are the scarcest."""
    # thousandths, since sums of fractions of a CPU must come out exactly
    return (resources.gpus * 1000, max(1, round(resources.cpus * 1000)), resources.memory_mib)


def _free(node: RayNode, jobs: Sequence[Job]) -> tuple[int, ...]:
    total = (node.n_gpus * 1000, round(node.cpus * 1000), node.memory_mib)
    theirs = (round(node.used_gpus * 1000), round(node.used_cpus * 1000), node.used_memory_mib)
    ours = [sum(amounts) for amounts in zip((0, 0, 0), *map(_job_demand, jobs), strict=True)]
    return tuple(
        there - max(used, own) for there, used, own in zip(total, theirs, ours, strict=True)
    )


def _job_demand(job: Job) -> tuple[int, ...]:
    return _demand(job.resources)


def _fits(wanted: tuple[int, ...], free: tuple[int, ...]) -> bool:
    return all(take <= have for take, have in zip(wanted, free, strict=True))


def _could_give(node: RayNode, resources: Resources) -> bool:
    return (
        resources.cpus <= node.cpus
        and resources.memory_mib <= node.memory_mib
        and resources.gpus <= node.n_gpus
    )


def _asked_and_most(
    resources: Resources, nodes: Sequence[RayNode]
) -> list[tuple[str, float, float, str]]:
    return [
        ("cpus", resources.cpus, max(node.cpus for node in nodes), "{:g} CPUs"),
        (
            "memory",
            resources.memory_mib,
            max(node.memory_mib for node in nodes),
            "{:,} MiB of memory",
        ),
        ("gpus", resources.gpus, max(node.n_gpus for node in nodes), "{:g} GPUs"),
    ]


def _greatest_gap(resources: Resources, nodes: Sequence[RayNode]) -> tuple[str, float, float]:
    if not nodes:
        return ("cpus", resources.cpus, 0.0)
    amounts = _asked_and_most(resources, nodes)
    beyond = [amount for amount in amounts if amount[1] > amount[2]] or amounts
    name, asked, most, _ = beyond[0]
    return (name, asked, most)


def _amounts(resources: Resources) -> str:
    gpus = f", {resources.gpus} GPUs" if resources.gpus else ""
    return f"{resources.cpus:g} CPUs and {resources.memory_mib:,} MiB of memory{gpus}"


def _node_amounts(node: RayNode) -> str:
    gpus = f", {node.n_gpus} GPUs" if node.n_gpus else ""
    return f"{node.cpus:g} CPUs, {node.memory_mib:,} MiB{gpus}"
