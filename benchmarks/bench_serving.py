"""One row and a hundred rows over HTTP: with the kernel, without it, and a bare echo as the limit.

Asks endpoints that run as in production (capture on) by `wrk`, which has to be installed. What is to
be compared is the processor time of a request, all of the server's; requests a second depend on
what else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from serving_models import SETTINGS, packed, read_table
from serving_peer import BODIES

from loopwright.deploy import CaptureSettings, DesiredState, wait_until_serving, write_desired

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


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers: its process and its port."""

    process: psutil.Process
    port: int


@contextmanager
def endpoint(bundle: Path, folder: Path, *, kernel: bool) -> Iterator[Served]:
    """Serve a bundle in a process of its own."""
    capture = CaptureSettings(folder=str(folder / "capture"))
    desired = DesiredState(
        name="lending", bundle=str(bundle), version="1", generation=1, capture=capture
    )
    write_desired(folder, desired)
    process = subprocess.Popen(
        [sys.executable, "-m", "loopwright.deploy.server", str(folder)],
        env={**os.environ, "LOOPWRIGHT_KERNEL": "on" if kernel else "off"},
        stderr=subprocess.DEVNULL,
    )
    try:
        actual = wait_until_serving(
            folder, generation=1, timeout_s=60, is_alive=lambda: process.poll() is None
        )
        assert actual.port is not None
        yield Served(psutil.Process(process.pid), actual.port)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def echo() -> Iterator[Served]:
    """Serve what was sent, on the HTTP stack of the endpoint."""
    process = subprocess.Popen([sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Served(psutil.Process(process.pid), int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait()


@contextmanager
def peer(name: str, python: str, folder: Path, body: bytes) -> Iterator[Served | None]:
    """Serve the like with another tool; nothing if it does not answer within two minutes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, str(PEER), name, str(folder), str(port)]
    log = (folder / f"{name}.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + 120
        answers = False
        while not answers and time.monotonic() < end and process.poll() is None:
            answers = is_answering(port, body)
            time.sleep(0.5)
        yield Served(psutil.Process(process.pid), port) if answers else None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_answering(port: int, body: bytes) -> bool:
    """Tell whether a server answers a request with 200."""
    head = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, head)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 our own
            return bool(answer.status == 200)
    except OSError:
        return False


def asked(served: Served, body: bytes, *, connections: int, seconds: int) -> str:
    """Return requests a second, the 99th percentile and the CPU time of a request, as text."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f'wrk.method = "POST"\nwrk.body = [==[{body.decode()}]==]\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
        )
        script.flush()
        before = spent(served)
        url = f"http://127.0.0.1:{served.port}/invocations"
        done = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds}s",
                "-s",
                script.name,
                "--latency",
                url,
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        after = spent(served)
    if "Non-2xx" in done:
        raise SystemExit(f"the server refused requests:\n{done}")
    n_requests = int(re.findall(r"(\d+) requests in", done)[0])
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", done)[0])
    slowest = re.findall(r"99%\s+(\S+)", done)[0]
    user, system = ((b - a) / max(1, n_requests) * 1e6 for a, b in zip(before, after, strict=True))
    return f"{rate:9,.0f} /s  p99 {slowest:>8}  {user:6.0f} us CPU of its own, {system:4.0f} us the system's"


def spent(served: Served) -> tuple[float, float]:
    """Return the processor time of a server, all its processes together: its own, the system's."""
    times = [
        each.cpu_times() for each in (served.process, *served.process.children(recursive=True))
    ]
    return sum(each.user for each in times), sum(each.system for each in times)


def ask_peers(pythons: dict[str, str], table: Path, rows: dict[str, str], seconds: int) -> None:
    """Measure other tools with LightGBM behind scikit-learn's columns, the same rows."""
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, python) in enumerate(pythons.items()):
            if not number:
                subprocess.run([python, str(PEER), "fit", str(table), folder], check=True)
            bodies = {size: (BODIES[name] % text).encode() for size, text in rows.items()}
            with peer(name, python, Path(folder), bodies["1 row"]) as served:
                if served is None:
                    print(f"{name:15} did not answer", flush=True)
                    continue
                for size, body in bodies.items():
                    found = asked(served, body, connections=16, seconds=max(5, seconds))
                    print(f"{name:15} {size:9}  16 connections  {name:10} {found}", flush=True)


def main() -> None:
    """Measure every algorithm with and without the kernel, and the echo, side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--algorithms", nargs="+", default=list(SETTINGS))
    parser.add_argument(
        "--peers", nargs="*", default=[], metavar="NAME=PYTHON", help=", ".join(BODIES)
    )
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("install wrk first (on Debian: apt install wrk)")
    table = read_table()
    rows = table.drop("Class")
    bodies = {
        "1 row": json.dumps(rows.row(5, named=True)).encode(),
        "100 rows": json.dumps(rows.head(100).to_dicts()).encode(),
    }
    with tempfile.TemporaryDirectory() as name, echo() as bare:
        table.write_parquet(Path(name, "table.parquet"))
        pythons = dict(each.split("=", 1) for each in options.peers)
        texts = {"1 row": f"[{bodies['1 row'].decode()}]", "100 rows": bodies["100 rows"].decode()}
        ask_peers(pythons, Path(name, "table.parquet"), texts, options.seconds)
        for algorithm in options.algorithms:
            bundle = Path(name, f"{algorithm}.tar.gz")
            bundle.write_bytes(packed(algorithm, table))
            folders = {kernel: Path(name, f"{algorithm}-{kernel}") for kernel in (True, False)}
            for folder in folders.values():
                folder.mkdir()
            with (
                endpoint(bundle, folders[True], kernel=True) as compiled,
                endpoint(bundle, folders[False], kernel=False) as plain,
            ):
                for size, body in bodies.items():
                    for connections in (1, 16, 64):
                        for title, served in (
                            ("kernel", compiled),
                            ("no kernel", plain),
                            ("echo", bare),
                        ):
                            found = asked(
                                served, body, connections=connections, seconds=options.seconds
                            )
                            print(
                                f"{algorithm:15} {size:9} {connections:3} connections  "
                                f"{title:10} {found}",
                                flush=True,
                            )


if __name__ == "__main__":
    main()
