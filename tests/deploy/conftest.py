"""Running endpoints for the tests: in a thread, or as a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvloop

from loopwright.deploy import (
    ActualState,
    CaptureSettings,
    DesiredState,
    EndpointClient,
    read_actual,
    wait_until_serving,
    write_desired,
)
from loopwright.deploy.dispatch import WorkQueue
from loopwright.deploy.limits import Limits
from loopwright.deploy.serving import EndpointServer, Timing

STANDIN = Path(__file__).with_name("standin.py")


def _load_standin() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deploy_standin", STANDIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def standin() -> ModuleType:
    return _load_standin()


@dataclass
class Site:
    """The folder of an endpoint and how to ask for another model."""

    folder: Path
    standin: ModuleType
    generation: int = 0
    actual: ActualState | None = None

    @property
    def port(self) -> int:
        assert self.actual is not None
        assert self.actual.port is not None
        return self.actual.port

    def desire(self, *, slope: float = 2.0, model: dict[str, Any] | None = None, **changes: Any):
        """Write a bundle and ask for it; its version is `v<generation>`."""
        self.generation += 1
        version = f"v{self.generation}"
        path = self.standin.write_bundle(
            self.folder / f"{version}.json", slope=slope, **(model or {})
        )
        wanted = {
            "name": "prices",
            "bundle": str(path),
            "version": version,
            "generation": self.generation,
            "capture": CaptureSettings(folder=str(self.folder / "capture")),
        }
        desired = DesiredState(**(wanted | changes))
        write_desired(self.folder, desired)
        return desired

    def wait(self, is_alive: Callable[[], bool] = lambda: True) -> ActualState:
        self.actual = wait_until_serving(
            self.folder, generation=self.generation, timeout_s=20, is_alive=is_alive
        )
        return self.actual

    def until(self, is_so: Callable[[ActualState], bool]) -> ActualState:
        """Wait until the endpoint says something of itself."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            actual = read_actual(self.folder)
            if actual is not None and is_so(actual):
                return actual
            time.sleep(0.005)
        raise AssertionError(read_actual(self.folder))

    def client(self, **settings: Any) -> EndpointClient:
        return EndpointClient("127.0.0.1", self.port, **settings)

    def dial(self) -> Dialogue:
        return Dialogue(socket.create_connection(("127.0.0.1", self.port), timeout=10))


class Dialogue:
    """A raw connection, to say what no client library would say."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.unread = b""

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(self, *_error: object) -> None:
        self.line.close()

    def say(self, data: bytes) -> Dialogue:
        self.line.sendall(data)
        return self

    def post(self, row: Any, *, path: str = "/invocations", headers: str = "") -> Dialogue:
        body = json.dumps(row).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"{headers}Content-Length: {len(body)}\r\n\r\n"
        )
        return self.say(head.encode() + body)

    def get(self, path: str, *, method: str = "GET", headers: str = "") -> Dialogue:
        return self.say(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())

    def head(self) -> tuple[int, dict[str, str]]:
        """Return status and headers of the next answer."""
        while b"\r\n\r\n" not in self.unread:
            piece = self.line.recv(1 << 16)
            if not piece:
                raise EOFError(self.unread)
            self.unread += piece
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        return int(first.split()[1]), {name.lower(): value for name, value in pairs}

    def hear(self) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and JSON body of the next answer."""
        status, headers = self.head()
        n_bytes = int(headers.get("content-length", 0))
        while len(self.unread) < n_bytes:
            piece = self.line.recv(1 << 16)
            if not piece:
                raise EOFError(self.unread)
            self.unread += piece
        body, self.unread = self.unread[:n_bytes], self.unread[n_bytes:]
        is_json = body and headers["content-type"] == "application/json"
        return status, headers, json.loads(body) if is_json else body

    def is_closed(self) -> bool:
        """Return whether the endpoint closes the line without another byte."""
        try:
            return not self.unread and self.line.recv(1) == b""
        except ConnectionError:
            return True


@pytest.fixture
def site(tmp_path: Path, standin: ModuleType) -> Site:
    return Site(folder=tmp_path, standin=standin)


@pytest.fixture
def run_endpoint(site: Site) -> Iterator[Callable[..., Site]]:
    """Serve `site` from a thread of this process; short time limits can be given."""
    with contextlib.ExitStack() as stack:

        def run(
            *,
            limits: Limits | None = None,
            queue: WorkQueue[Any] | None = None,
            timing: Timing | None = None,
            **desired: Any,
        ) -> Site:
            site.desire(**desired)
            stack.enter_context(_in_thread(site, limits, queue, timing))
            site.wait()
            return site

        yield run


@contextlib.contextmanager
def _in_thread(
    site: Site, limits: Limits | None, queue: WorkQueue[Any] | None, timing: Timing | None
) -> Iterator[None]:
    running: list[tuple[EndpointServer, asyncio.AbstractEventLoop]] = []
    is_made = threading.Event()

    async def serve() -> None:
        server = EndpointServer(
            site.folder,
            site.standin.open_standin,
            limits=limits,
            queue=queue,
            timing=timing or Timing(watch_s=0.02, tick_s=0.02, quiet_s=0.05, drain_s=2.0),
        )
        running.append((server, asyncio.get_running_loop()))
        is_made.set()
        await server.run()

    def work() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=work)
    thread.start()
    assert is_made.wait(10)
    server, loop = running[0]
    site.stop = lambda: loop.call_soon_threadsafe(server.stop)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(server.stop)
        thread.join(10)
        assert not thread.is_alive()


@dataclass
class EndpointProcess:
    """An endpoint in a process of its own."""

    site: Site
    process: subprocess.Popen[bytes]
    log_path: Path

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def leave(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    def log(self) -> str:
        return self.log_path.read_text()


@pytest.fixture
def start_process(site: Site) -> Iterator[Callable[..., EndpointProcess]]:
    """Start the stand-in's process over `site`; `ready=False` does not wait for it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*, ready: bool = True) -> EndpointProcess:
        log_path = site.folder / f"log-{len(started)}.txt"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", str(STANDIN), str(site.folder)],
                stderr=log,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            )
        started.append(process)
        endpoint = EndpointProcess(site=site, process=process, log_path=log_path)
        if ready:
            try:
                site.wait(endpoint.is_alive)
            except Exception as error:
                raise AssertionError(
                    f"{error}\n{read_actual(site.folder)}\n{endpoint.log()}"
                ) from error
        return endpoint

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)
