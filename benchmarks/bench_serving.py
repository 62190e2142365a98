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
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from serving_models import SETTINGS, packed, read_table

from loopwright.deploy import CaptureSettings, DesiredState, wait_until_serving, write_desired

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


def asked(served: Served, body: bytes, *, connections: int, seconds: int) -> str:
    """Return requests a second, the 99th percentile and the CPU time of a request, as text."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f'wrk.method = "POST"\nwrk.body = [==[{body.decode()}]==]\n'
            'wrk.headers["Content-Type"] = "application/json"\n'
        )
        script.flush()
        before = served.process.cpu_times()
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
        after = served.process.cpu_times()
    if "Non-2xx" in done:
        raise SystemExit(f"the server refused requests:\n{done}")
    n_requests = int(re.findall(r"(\d+) requests in", done)[0])
    rate = float(re.findall(r"Requests/sec:\s+([\d.]+)", done)[0])
    slowest = re.findall(r"99%\s+(\S+)", done)[0]
    user, system = (
        (getattr(after, kind) - getattr(before, kind)) / max(1, n_requests) * 1e6
        for kind in ("user", "system")
    )
    return f"{rate:9,.0f} /s  p99 {slowest:>8}  {user:6.0f} us CPU of its own, {system:4.0f} us the system's"


def main() -> None:
    """Measure every algorithm with and without the kernel, and the echo, side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--algorithms", nargs="+", default=list(SETTINGS))
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
