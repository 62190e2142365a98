"""Faults that only a real process shows: the system's own limits, and very many clients."""

from __future__ import annotations

import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from loopwright.deploy import read_capture

Start = Callable[..., Any]
N_IDLE = 10_000


def metric(site: Any, name: str) -> float:
    with site.dial() as line:
        _, _, text = line.get("/metrics").hear()
    found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text.decode(), re.MULTILINE)
    return sum(float(value) for value in found)


def until(is_so: Callable[[], bool], *, within_s: float = 20.0) -> None:
    end = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def ask(site: Any, n: int) -> list[float]:
    with site.client() as client:
        return [client.invoke([{"area": float(at)}])[0]["prediction"] for at in range(n)]


def test_a_full_disk_costs_captures_and_no_answer(site: Any, start_process: Start) -> None:
    site.desire(slope=2.0)
    endpoint = start_process()
    ask(site, 3)
    until(lambda: read_capture(site.folder / "capture").frame.height == 3)

    # no file may grow beyond it: what the system answers is what it answers on a full disk
    pid, (_, most) = endpoint.process.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (512, most))
    found = ask(site, 400)
    until(lambda: metric(site, "loopwright_endpoint_dropped_captures") > 0)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
    dropped = metric(site, "loopwright_endpoint_dropped_captures")
    again = ask(site, 5)

    assert found == [2.0 * at for at in range(400)]
    assert again == [2.0 * at for at in range(5)]
    assert endpoint.is_alive()
    kept = 408 - int(metric(site, "loopwright_endpoint_dropped_captures"))
    until(lambda: read_capture(site.folder / "capture").frame.height >= kept)
    # with room again nothing more was lost
    assert metric(site, "loopwright_endpoint_dropped_captures") == dropped
    assert endpoint.leave() == 0


@contextmanager
def many_files() -> Iterator[None]:
    """Let this process open as many files as it may at most."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.slow
def test_ten_thousand_connections_leave_room_for_others_and_nothing_behind(
    site: Any, start_process: Start
) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < N_IDLE + 500:
        pytest.skip("this system lets a process open too few files")
    site.desire(slope=2.0)
    lines: list[socket.socket] = []
    with many_files():
        endpoint = start_process()
        process = psutil.Process(endpoint.process.pid)
        before = (process.num_fds(), process.memory_info().rss)
        try:
            for _ in range(N_IDLE):
                lines.append(socket.create_connection(("127.0.0.1", site.port), timeout=20))
            # those that have just come are not turned out for others; after a second they are
            time.sleep(1.2)
            found = ask(site, 200)
            held = process.memory_info().rss
        finally:
            for line in lines:
                line.close()
        until(lambda: process.num_fds() <= before[0] + 2)

    assert found == [2.0 * at for at in range(200)]
    assert (held - before[1]) / 2**20 < 60
    assert ask(site, 1) == [0.0]
    assert endpoint.leave() == 0
