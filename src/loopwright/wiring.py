"""Chooses the implementations: the one place that knows which backend stands behind which name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.clock import Clock, SystemClock
from loopwright.loop.workspace import Workspace
from loopwright.settings import Settings

if TYPE_CHECKING:
    from loopwright.compute import Capacity, Compute
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
    here = LocalCompute(metadata, folder, clock, capacity=_machine_share(settings))
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


def compute_capacity(settings: Settings) -> Capacity:
    """Return what jobs may use: the machine, or as much of it as the operator gives; on a cluster,
    what its largest node has for one of them."""
    if settings.ray is not None:
        from loopwright.compute.ray_cluster import RayCluster
        from loopwright.compute.ray_placement import largest_capacity

        return largest_capacity(RayCluster(settings.ray.address, settings.ray.token_file).nodes())
    return _machine_share(settings)


def _machine_share(settings: Settings) -> Capacity:
    from loopwright.compute import machine_capacity

    capacity = machine_capacity()
    return replace(capacity, cpus=settings.cpus) if settings.cpus else capacity
