"""The servers that the serving benchmark asks, each in processes of its own, and what they use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from serving_peer import WITHOUT_LIBRARY

from loopwright.core.digest import digest_file
from loopwright.deploy import (
    CaptureSettings,
    DesiredState,
    Variant,
    read_actual,
    wait_until_serving,
    write_desired,
)

PEER = Path(__file__).with_name("serving_peer.py")
ECHO = """
import asyncio, httptools, uvloop
class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.parser = transport, httptools.HttpRequestParser(self)
    def data_received(self, data): self.parser.feed_data(data)
    def on_message_begin(self): self.body = b""
    def on_body(self, body): self.body += body
    def on_message_complete(self):
        self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(self.body) + self.body)
async def main():
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
uvloop.run(main())
"""
# how endpoints differ whose cost is compared
WAYS: Mapping[str, Mapping[str, Any]] = {
    "capture": {},
    "no capture": {"capture": False},
    "two variants": {"weights": (1.0, 1.0)},
    "shadow": {"weights": (1.0, None)},
    "no kernel": {"kernel": False},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answers: its first process, its port, and the seconds until its first answer."""

    process: psutil.Process
    port: int
    ready_s: float

    def processes(self) -> list[psutil.Process]:
        """Return all of its processes."""
        return [self.process, *self.process.children(recursive=True)]

    def spent_s(self) -> tuple[float, float]:
        """Return the processor time of all its processes: their own, the system's for them."""
        times = [each.cpu_times() for each in self.processes()]
        return sum(each.user for each in times), sum(each.system for each in times)

    def memory_mib(self) -> tuple[float, float]:
        """Return the resident memory of the largest process, and what all take together (PSS)."""
        each = [process.memory_full_info() for process in self.processes()]
        return max(one.rss for one in each) / 2**20, sum(one.pss for one in each) / 2**20


@contextmanager
def endpoint(
    bundle: Path,
    folder: Path,
    *,
    capture: bool = True,
    kernel: bool = True,
    weights: tuple[float | None, ...] = (),
    workers: int = 1,
) -> Iterator[Server]:
    """Serve a bundle with loopwright; `weights` make variants of it, None a shadow."""
    folder.mkdir(parents=True, exist_ok=True)
    file: dict[str, Any] = {
        "bundle": str(bundle),
        "version": "1",
        "bundle_digest": digest_file(bundle),
    }
    variants = tuple(
        Variant(name=f"v{at}", weight=weight or 0.0, shadow=weight is None, **file)
        for at, weight in enumerate(weights)
    )
    desired = DesiredState(
        name="lending",
        generation=1,
        workers=workers,
        capture=CaptureSettings(folder=str(folder / "capture")) if capture else None,
        variants=variants,
        **({} if variants else file),
    )
    write_desired(folder, desired)
    environment = {**os.environ, "LOOPWRIGHT_KERNEL": "on" if kernel else "off"}
    began_at = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "loopwright.deploy.server", str(folder)],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        actual = wait_until_serving(
            folder, generation=1, timeout_s=60, is_alive=lambda: process.poll() is None
        )
        assert actual.port is not None
        yield Server(
            process=psutil.Process(process.pid),
            port=actual.port,
            ready_s=time.perf_counter() - began_at,
        )
    finally:
        process.terminate()
        process.wait()


def until_replaced(folder: Path) -> float:
    """Kill a worker of an endpoint; return the seconds until another serves in its place."""
    before = set(read_actual(folder).workers)  # type: ignore[union-attr] # it serves
    os.kill(min(before), signal.SIGKILL)
    began_at = time.perf_counter()
    while True:
        for path in (folder / "workers").glob("[0-9]*.json"):
            told = read_worker(path)
            if told.get("pid") not in before and told.get("generation") == 1:
                return time.perf_counter() - began_at
        time.sleep(0.002)


def read_worker(path: Path) -> dict[str, Any]:
    """Return what a worker says of itself; nothing while it has said nothing."""
    import msgspec

    try:
        told: dict[str, Any] = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return told


@contextmanager
def echo() -> Iterator[Server]:
    """Serve what was sent, on the HTTP stack of the endpoint."""
    began_at = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        ready_s = time.perf_counter() - began_at
        yield Server(process=psutil.Process(process.pid), port=port, ready_s=ready_s)
    finally:
        process.terminate()
        process.wait()


def fitted(python: str, model: str, table: Path, folder: Path) -> bool:
    """Train a peer's pipeline into a folder; return whether its environment has the library."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([python, str(PEER), "fit", model, str(table), str(folder)], check=False)
    if done.returncode not in (0, WITHOUT_LIBRARY):
        raise SystemExit(f"the pipeline of {model} could not be trained by {python}")
    return done.returncode == 0


@contextmanager
def peer(name: str, python: str, folder: Path, body: bytes) -> Iterator[Server | None]:
    """Serve the like with another tool; nothing if it does not answer within two minutes."""
    port = _free_ports(3)
    folder.mkdir(parents=True, exist_ok=True)
    began_at = time.perf_counter()
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [python, str(PEER), name, str(folder), str(port)],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        answers = False
        while not answers and time.perf_counter() < began_at + 120 and process.poll() is None:
            answers = is_answering(port, body)
            time.sleep(0.02)
        ready_s = time.perf_counter() - began_at
        server = Server(process=psutil.Process(process.pid), port=port, ready_s=ready_s)
        yield server if answers else None
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a peer and what it has started; some of it has left its session."""
    with suppress(psutil.NoSuchProcess):
        for each in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                each.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_ports(n: int) -> int:
    """Return the first of some free ports that follow one another."""
    while True:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            first = int(found.getsockname()[1])
        if all(_is_free(port) for port in range(first, first + n)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return port < 65536 and probe.connect_ex(("127.0.0.1", port)) != 0


def is_answering(port: int, body: bytes) -> bool:
    """Tell whether a server answers a request with 200."""
    head = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, head)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 our own
            return bool(answer.status == 200)
    except OSError:
        return False
