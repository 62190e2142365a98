"""A real Ray cluster of several nodes on this machine's loopback interface, for tests and benchmarks."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from loopwright.compute.ray_cluster import RayCluster, RayNode
from loopwright.compute.ray_start import RayNodeStart, create_token, start_node
from loopwright.core.errors import BackendError

_TRIES_TO_START = 3
_JOIN_S = 120.0
_GIB = 1 << 30
_TOKEN_PATH = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 the name of a variable


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedRayCluster:
    """A cluster on this machine, and how to add to it and take from it.

    `folder` holds its token, its logs and the home folder that its processes see; `address` is its
    dashboard, `head` where nodes join.
    """

    folder: Path
    token_file: Path
    address: str
    head: str

    def client(self) -> RayCluster:
        """Return a client with the token."""
        return RayCluster(self.address, self.token_file)

    def join(self, *, cpus: float, memory_gib: int) -> RayNode:
        """Start one more node, with as much to give as it says, and return it."""
        before = {node.id for node in self.client().nodes()}
        start = RayNodeStart(
            token_file=self.token_file, head=self.head, options=_options(cpus, memory_gib)
        )
        _persistently(lambda: start_node(start, around=_environment(self.folder)))
        deadline = time.monotonic() + _JOIN_S
        while time.monotonic() < deadline:
            for node in self.client().nodes():
                if node.id not in before and node.cpus == cpus:
                    return node
            time.sleep(0.2)
        raise BackendError(f"The node did not join within {_JOIN_S:g} s.", retryable=True)

    def kill_node(self, node: RayNode) -> None:
        """Kill Ray itself on a node, as a machine that vanishes does; what it runs is left to itself."""
        for process in self.processes():
            with suppress(psutil.Error):
                command = process.cmdline()
                if "raylet" in command[0] and any(f"--node_id={node.id}" in p for p in command):
                    os.kill(process.pid, signal.SIGKILL)

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the cluster and of its jobs' supervisors."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_TOKEN_PATH) == str(self.token_file):
                    found.append(process)
        return found

    def stop(self) -> None:
        """End every process of the cluster, and no other."""
        for _ in range(3):
            for process in self.processes():
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.3)


@contextmanager
def started_ray_cluster(*, cpus: float = 1, memory_gib: int = 2) -> Iterator[StartedRayCluster]:
    """Start the head of a cluster, with as much to give as it says, and stop all of it at the end."""
    # sockets below the folder must have short names
    with tempfile.TemporaryDirectory(prefix="lw-ray-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "home").mkdir()
        create_token(folder / "token")
        started: list[StartedRayCluster] = []

        def start() -> None:
            port, dashboard_port = _free_port(), _free_port()
            cluster = StartedRayCluster(
                folder=folder,
                token_file=folder / "token",
                address=f"http://127.0.0.1:{dashboard_port}",
                head=f"127.0.0.1:{port}",
            )
            node = RayNodeStart(
                token_file=cluster.token_file,
                port=port,
                dashboard_port=dashboard_port,
                options=(*_options(cpus, memory_gib), f"--temp-dir={folder / 'ray'}"),
            )
            try:
                start_node(node, around=_environment(folder))
            except BackendError:
                cluster.stop()
                raise
            started.append(cluster)

        _persistently(start)
        try:
            yield started[0]
        finally:
            started[0].stop()


def _persistently(start: Callable[[], None]) -> None:
    """Try again where Ray gave up waiting for itself, as it does on a busy machine."""
    for tries_left in reversed(range(_TRIES_TO_START)):
        try:
            start()
        except BackendError:
            if not tries_left:
                raise
        else:
            return


def _options(cpus: float, memory_gib: int) -> tuple[str, ...]:
    return (
        f"--num-cpus={cpus:g}",
        "--num-gpus=0",
        f"--memory={memory_gib * _GIB}",
        "--object-store-memory=80000000",
    )


def _environment(folder: Path) -> dict[str, str]:
    # a home of its own: Ray must not need, or leave, anything in the user's
    return {**os.environ, "HOME": str(folder / "home")}


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
