"""Starts the nodes of a Ray cluster with its door locked.

`python -m loopwright.compute.ray_start head --token-file FILE`, and on every other machine
`python -m loopwright.compute.ray_start worker --token-file FILE --address HEAD:6379`; what follows
`--` goes to `ray start`. Ray by itself starts without a lock.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from loopwright.compute.ray_cluster import RayCluster, read_token
from loopwright.core.errors import BackendError

LOOPBACK = "127.0.0.1"
_START_TIMEOUT_S = 300.0
_TOKEN_BYTES = 32
# Ray takes 127.0.0.1 for "some address of this machine" and opens the node to the network. The name
# says otherwise, but this is what makes every process of a node stay on the loopback interface...
_LOOPBACK_ONLY = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# ... and this lets a second node join there
_ON_LOOPBACK = (
    "import sys\n"
    "import ray._private.ray_constants as constants\n"
    "import ray._private.services as services\n"
    "constants.ENABLE_RAY_CLUSTER = True\n"
    "services.resolve_ip_for_localhost = lambda host: host\n"
)
_RAY = "from ray.scripts.scripts import main\nsys.argv[0] = 'ray'\nmain()"


@dataclass(frozen=True, slots=True, kw_only=True)
class RayNodeStart:
    """How a node is started.

    Parameters
    ----------
    token_file
        The token of the cluster, made by `create_token`.
    host
        The address of this node in the cluster's network; on 127.0.0.1, the default, nobody else
        can reach it.
    head
        `HOST:PORT` of the head node to join; None to be the head.
    port, dashboard_port
        Where a head listens: for other nodes, and for `LOOPWRIGHT_RAY_ADDRESS`.
    options
        More arguments of `ray start`, such as `--num-cpus=8`.
    """

    token_file: Path
    host: str = LOOPBACK
    head: str | None = None
    port: int = 6379
    dashboard_port: int = 8265
    options: tuple[str, ...] = field(default=())

    def arguments(self) -> list[str]:
        """Return the arguments of `ray start`."""
        if self.head is not None:
            place = [f"--address={self.head}"]
        else:
            place = [
                "--head",
                f"--port={self.port}",
                f"--dashboard-host={self.host}",
                f"--dashboard-port={self.dashboard_port}",
                "--disable-usage-stats",
            ]
        # by default each node's agent wants the same port, and jobs are not taken without one
        agent = ["--dashboard-agent-listen-port=0"] if self.host == LOOPBACK else []
        return ["start", *place, f"--node-ip-address={self.host}", *agent, *self.options]


def create_token(path: Path) -> None:
    """Write a new random token of 256 bits to a file of its owner's; leave one that is there.

    Raises
    ------
    InvalidInputError
        If what is there is no token, or others may read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_TOKEN_BYTES))
    read_token(path)


def locked_environment(token_file: Path, around: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which every process of Ray asks for the token, and gives it.

    With the path set, Ray neither looks for a token in the user's home nor writes one there.
    """
    kept = {name: value for name, value in around.items() if name != "RAY_AUTH_TOKEN"}
    return {
        **kept,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file.absolute()),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def start_node(start: RayNodeStart, *, around: Mapping[str, str] = os.environ) -> None:
    """Start the processes of a node in the background.

    Raises
    ------
    BackendError
        If they did not start.
    """
    read_token(start.token_file)
    environment = locked_environment(start.token_file, around)
    if start.host == LOOPBACK:
        run_ray(_ON_LOOPBACK + _RAY, start.arguments(), environment | _LOOPBACK_ONLY)
    else:
        run_ray("import sys\n" + _RAY, start.arguments(), environment)
    if start.head is None:
        RayCluster(f"http://{start.host}:{start.dashboard_port}", start.token_file).check_door()


def run_ray(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a command of Ray's; `BackendError` with its last lines if it fails."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_START_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as cause:
        raise BackendError(
            f"`ray {arguments[0]}` did not end within {_START_TIMEOUT_S:g} s.",
            hint="The machine may be too busy; try again.",
            retryable=True,
        ) from cause
    if done.returncode != 0:
        lines = done.stdout.decode(errors="replace").strip().splitlines()
        raise BackendError(
            f"`ray {arguments[0]}` failed: {' '.join(lines[-2:])[-500:]}",
            hint="Its logs are in the folder of the session, by default below /tmp/ray.",
            retryable=True,
        )


def main(arguments: Sequence[str]) -> None:
    """Start a node as the arguments say."""
    own, _, rest = _split(list(arguments))
    parser = argparse.ArgumentParser(prog="python -m loopwright.compute.ray_start")
    parser.add_argument("role", choices=["head", "worker"])
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--host", default=LOOPBACK, help="address of this node")
    parser.add_argument("--address", help="HOST:PORT of the head node, for a worker")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--dashboard-port", type=int, default=8265)
    given = parser.parse_args(own)
    if (given.role == "worker") != (given.address is not None):
        parser.error("a worker needs --address, and a head takes none")
    if given.role == "head":
        create_token(given.token_file)
    start_node(
        RayNodeStart(
            token_file=given.token_file,
            host=given.host,
            head=given.address,
            port=given.port,
            dashboard_port=given.dashboard_port,
            options=tuple(rest),
        )
    )
    if given.role == "head":
        print(f"export LOOPWRIGHT_RAY_ADDRESS=http://{given.host}:{given.dashboard_port}")
        print(f"export LOOPWRIGHT_RAY_TOKEN_FILE={given.token_file.absolute()}")


def _split(arguments: list[str]) -> tuple[list[str], str, list[str]]:
    if "--" not in arguments:
        return arguments, "", []
    at = arguments.index("--")
    return arguments[:at], "--", arguments[at + 1 :]


if __name__ == "__main__":
    main(sys.argv[1:])
