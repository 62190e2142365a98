"""Chooses the implementations: the one place that knows which backend stands behind which name."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.clock import Clock, SystemClock
from loopwright.loop.schedule import Store
from loopwright.loop.workspace import Workspace
from loopwright.settings import Settings, read_settings

if TYPE_CHECKING:
    from loopwright.compute import Capacity, Compute
    from loopwright.compute.successor import Successor
    from loopwright.sagemaker.s3.place import StorePlace
    from loopwright.store import ArtifactStore, MetadataStore


def find_workspace(settings: Settings, *, clock: Clock | None = None) -> Workspace | None:
    """Return the workspace of a home that exists; None, with nothing written, where there is none."""
    if settings.database_url is None and not database_path(settings.home).exists():
        return None
    return open_workspace(settings, clock=clock)


def open_workspace(settings: Settings, *, clock: Clock | None = None) -> Workspace:
    """Return the workspace of a home, making what is not there yet.

    Raises
    ------
    BackendError
        If the database or the object store cannot be reached.
    """
    clock = clock or SystemClock()
    if settings.database_url is None:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    metadata = open_metadata(settings, clock)  # a database that cannot be reached leaves no folder
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Workspace(
        home=settings.home,
        metadata=metadata,
        artifacts=open_artifacts(settings),
        compute=_announced(settings, open_compute(settings, metadata, clock)),
        clock=clock,
        user=settings.user,
    )


def bucket_place(settings: Settings, *, url: str | None = None) -> StorePlace | None:
    """Return the store in which the buckets of clients of AWS lie; None for the home folder.

    Parameters
    ----------
    url
        Its address, given by hand, which wins.

    Raises
    ------
    InvalidInputError
        If the address cannot be used.
    """
    url = url or settings.s3.url
    if url is None:
        return None
    from loopwright.sagemaker.s3.place import store_place

    return store_place(url, region=settings.s3.region, profile=settings.s3.profile)


def kept_open(settings: Settings) -> Store:
    """Return a home whose stores are opened once and stay open, for a process that lives long."""
    held: list[Workspace] = []

    def opened() -> Workspace:
        if not held:
            held.append(open_workspace(settings))
        return held[0]

    def found() -> Workspace | None:
        is_there = settings.database_url is not None or database_path(settings.home).exists()
        return opened() if is_there else None

    return Store(home=settings.home, find_workspace=found, open_workspace=opened)


def _announced(settings: Settings, compute: Compute) -> Compute:
    """Return a backend whose jobs appear on the MLflow server too, where one is set."""
    if settings.mlflow_uri is None:
        return compute
    from loopwright.compute.announced import AnnouncedCompute
    from loopwright.tune.publisher import PublisherStarter

    return AnnouncedCompute(compute, PublisherStarter(settings.home, settings.mlflow_uri))


def database_path(home: Path) -> Path:
    """Return where the SQLite database of a home lies."""
    return home / "loopwright.db"


def open_metadata(settings: Settings, clock: Clock) -> MetadataStore:
    """Return the metadata store: SQLite in the home folder, or the database of a URL."""
    from loopwright.store.sql import SqlMetadataStore

    url = settings.database_url or f"sqlite:///{database_path(settings.home)}"
    return SqlMetadataStore(url, clock)


def open_artifacts(settings: Settings) -> ArtifactStore:
    """Return the artifact store: a folder in the home, or the object store of a URL."""
    from loopwright.store.objects import ObjectArtifactStore

    place = settings.artifacts_url or settings.home / "artifacts"
    return ObjectArtifactStore(place, settings.home / "cache")


def open_compute(settings: Settings, metadata: MetadataStore, clock: Clock) -> Compute:
    """Return where jobs run: this machine, or a Ray cluster with the services on this machine."""
    from loopwright.compute.local import LocalCompute

    folder = settings.home / "jobs"
    # a cluster's queue is looked after elsewhere, and a clock of one's own stays in the process
    is_alone = settings.ray is None and isinstance(clock, SystemClock)
    here = LocalCompute(
        metadata,
        folder,
        clock,
        capacity=_machine_share(settings),
        successor=_successor(settings) if is_alone else None,
    )
    if settings.ray is None:
        return here
    from loopwright.compute.ray_cluster import RayCluster
    from loopwright.compute.ray_jobs import RayCompute

    place = settings.ray.exchange or settings.artifacts_url or settings.home / "artifacts"
    return RayCompute(
        metadata,
        folder,
        clock,
        cluster=RayCluster(settings.ray.address, settings.ray.token_file),
        location=place,
        services=here,
        python=settings.ray.python or sys.executable,
    )


def _successor(settings: Settings) -> Successor:
    """Return how the process is started that goes on with the queue of a home."""
    from loopwright.compute.successor import Successor

    passed_on = ("PATH", "HOME", "USER", "LANG", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
    environment = {
        name: value
        for name, value in os.environ.items()
        # what the driver of a PostgreSQL database reads for itself
        if name in passed_on or name.startswith("PG")
    }
    # relative entries would be looked up in another folder
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment["PYTHONPATH"] = os.pathsep.join(str(Path(p).absolute()) for p in paths if p)
    environment["LOOPWRIGHT_HOME"] = str(settings.home)
    if settings.database_url:
        environment["LOOPWRIGHT_DATABASE_URL"] = settings.database_url
    if settings.cpus:
        environment["LOOPWRIGHT_CPUS"] = str(settings.cpus)
    code = "from loopwright.wiring import advance_queue; advance_queue()"
    return Successor(
        command=(sys.executable, "-P", "-c", code), folder=Path.cwd(), environment=environment
    )


def advance_queue() -> None:
    """Start the queued jobs of the home in the environment, and leave: the program of a `Successor`."""
    from loopwright.compute.local import LocalCompute

    settings = read_settings(os.environ)
    if not (settings.home / "jobs").is_dir():
        return
    if settings.database_url is None and not database_path(settings.home).exists():
        return
    clock = SystemClock()
    compute = open_compute(settings, open_metadata(settings, clock), clock)
    if isinstance(compute, LocalCompute):
        compute.advance_alone()


def compute_capacity(settings: Settings) -> Capacity:
    """Return what jobs may use: the machine, or as much of it as the operator gives; on a cluster,
    what its largest node has for one of them."""
    if settings.ray is not None:
        from loopwright.compute.ray_cluster import RayCluster
        from loopwright.compute.ray_placement import cluster_capacity

        return cluster_capacity(RayCluster(settings.ray.address, settings.ray.token_file).nodes())
    return _machine_share(settings)


def _machine_share(settings: Settings) -> Capacity:
    from loopwright.compute import machine_capacity

    capacity = machine_capacity()
    return replace(capacity, cpus=settings.cpus) if settings.cpus else capacity
