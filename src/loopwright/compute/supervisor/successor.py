"""Starts the process that looks after the queue when a job has ended and nobody else does."""
# pathlib would double the time to start:
# ruff: noqa: PTH110, PTH112, PTH208

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SETTLED = ".settled"
"""The file in a job's folder by which a client says that it has seen to the end of the job."""
QUEUE = "queue"
"""The folder beside the jobs that holds one empty file for every job that waits."""
_ORDER_BYTES = 1 << 16
_CLIENT_TAKES_S = 0.5
_GLANCE_S = 0.02


def start_successor(*, will_retry: bool) -> None:
    """Start what standard input says, where jobs wait and no client sees to them in half a second.

    Called in the folder of a job whose end is written down; never raises.
    """
    try:
        waits = os.path.isdir(f"../{QUEUE}") and bool(os.listdir(f"../{QUEUE}"))
        if not (will_retry or waits):
            return
        text = os.read(0, _ORDER_BYTES)
        if not text or (not will_retry and _is_settled()):
            return
        import json

        _start(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError):
        # the job has ended well or not by itself; the next command that comes sees to the queue
        return


def _is_settled() -> bool:
    deadline = time.monotonic() + _CLIENT_TAKES_S
    while time.monotonic() < deadline:
        if os.path.exists(SETTLED) or not os.path.exists("exit.json"):
            return True
        time.sleep(_GLANCE_S)
    return False


def _start(order: dict[str, Any]) -> None:
    os.chdir(order["folder"])
    null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    out = [(os.POSIX_SPAWN_OPEN, n, os.devnull, os.O_WRONLY, 0) for n in (1, 2)]
    os.posix_spawn(
        order["command"][0],
        order["command"],
        order["environment"],
        file_actions=[null, *out],
        setsid=True,
        setsigmask=(),
    )
