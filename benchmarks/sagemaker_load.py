"""Calls of the compatible API beside the endpoint's own port, and beside moto where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from loopwright.core.clock import SystemClock
from loopwright.sagemaker.key import AccessKey
from loopwright.sagemaker.serving_plan import own_name
from loopwright.store.sql import SqlMetadataStore

PATH = "/endpoints/bench-0/invocations"
N_CALLS = 200
Client = Callable[[str], Any]


def tell(what: str, values: Any, unit: str) -> None:
    """Print a median, and the least and the most."""
    found = sorted(values)
    middle = statistics.median(found)
    print(f"{what}: {middle:.3g} {unit} ({found[0]:.3g} to {found[-1]:.3g})", flush=True)


def timed(times: int, call: Callable[[int], object]) -> list[float]:
    """Return the seconds of each call."""
    found = []
    for number in range(times):
        start = time.perf_counter()
        call(number)
        found.append(time.perf_counter() - start)
    return found


def cpu_s(*pids: int) -> float:
    """Return the CPU seconds that some processes have used."""
    total = 0
    for pid in pids:
        try:
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        total += int(words[11]) + int(words[12])
    return total / os.sysconf("SC_CLK_TCK")


def beside_own_port(
    home: Path, url: str, key: AccessKey, gateway: int, *, seconds: int, rounds: int
) -> None:
    """Print what an invocation takes through the gateway, in boto3, and at the endpoint's own port.

    Both are asked with requests that are made beforehand, by `wrk`, in turns.
    """
    port, workers = _endpoint(home)
    where = {"gateway": urlsplit(url).port or 0, "own port": port}
    runtime = boto3.client(
        "sagemaker-runtime",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key.id,
        aws_secret_access_key=key.secret,
    )
    for n_rows in (1, 100):
        body = "\n".join(["3,4"] * n_rows)
        asked = {"EndpointName": "bench-0", "Body": body, "ContentType": "text/csv"}
        single: dict[str, list[float]] = {name: [] for name in (*where, "boto3")}
        loads: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
        for _ in range(rounds):
            heads = {
                "gateway": _signed(url, key, body),
                "own port": {
                    "content-type": "text/csv; header=absent",
                    "accept": "application/json",
                },
            }
            for name, at in where.items():
                path = PATH if name == "gateway" else "/invocations"
                single[name] += _alone(at, path, heads[name], body)
                if shutil.which("wrk") is None:
                    continue
                for connections in (1, 16):
                    before = cpu_s(gateway), cpu_s(*workers)
                    n, rate = _load(at, path, heads[name], body, connections, seconds)
                    after = cpu_s(gateway), cpu_s(*workers)
                    used = [1e6 * (b - a) / n for a, b in zip(before, after, strict=True)]
                    loads.setdefault((name, connections), []).append((rate, used[0], used[1]))
            single["boto3"] += timed(
                N_CALLS, lambda _, asked=asked: runtime.invoke_endpoint(**asked)["Body"].read()
            )
        for name, found in single.items():
            tell(f"InvokeEndpoint of {n_rows} rows, {name}", [1e3 * each for each in found], "ms")
        for (name, connections), rows in loads.items():
            rate, own, theirs = (statistics.median(each) for each in zip(*rows, strict=True))
            print(
                f"InvokeEndpoint of {n_rows} rows, {name}, {connections} connections: "
                f"{rate:,.0f}/s, CPU of the gateway {own:.0f} us, of the endpoint {theirs:.0f} us",
                flush=True,
            )


def _endpoint(home: Path) -> tuple[int, list[int]]:
    """Return the port of the endpoint, and its processes."""
    store = SqlMetadataStore(f"sqlite:///{home / 'loopwright.db'}", SystemClock())
    try:
        every = store.list_("sagemaker/endpoint")
    finally:
        store.close()
    record = next(each for each in every if each.body["name"] == "bench-0")
    port = int(record.body["live"]["variants"][0]["port"])
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if own_name(record.body["arn"]).encode() in words:
            pids.append(int(path.parent.name))
    return port, pids


def _signed(url: str, key: AccessKey, body: str) -> dict[str, str]:
    asked = AWSRequest("POST", url + PATH, data=body, headers={"Content-Type": "text/csv"})
    SigV4Auth(Credentials(key.id, key.secret), "sagemaker", "us-east-1").add_auth(asked)
    return {**{name: str(value) for name, value in asked.headers.items()}, "Host": url[7:]}


def _alone(port: int, path: str, headers: dict[str, str], body: str) -> list[float]:
    """Return the seconds of requests that follow one another on one connection."""
    lines = [f"POST {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    if "Host" not in headers:
        lines.append("host: 127.0.0.1")
    data = "\r\n".join([*lines, f"content-length: {len(body)}", "", body]).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def call(_: int) -> None:
            wire.sendall(data)
            found = b""
            while b"\r\n\r\n" not in found:
                found += wire.recv(65_536)
            head, _, rest = found.partition(b"\r\n\r\n")
            if b" 200 " not in head[:20]:
                raise SystemExit(found.decode(errors="replace"))
            size = int(re.findall(rb"content-length: (\d+)", head.lower())[0])
            while len(rest) < size:
                rest += wire.recv(65_536)

        timed(20, call)
        return timed(N_CALLS, call)


def _load(
    port: int, path: str, headers: dict[str, str], body: str, connections: int, seconds: int
) -> tuple[int, float]:
    """Return how many requests were answered, and how many a second."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\n')
        script.writelines(f'wrk.headers["{k}"] = "{v}"\n' for k, v in headers.items())
        script.flush()
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=30s"]
        said = subprocess.run(
            ["wrk", *options, "-s", script.name, f"http://127.0.0.1:{port}{path}"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    if "Non-2xx" in said:
        raise SystemExit(said)
    n = int(re.findall(r"(\d+) requests in", said)[0])
    return n, float(re.findall(r"Requests/sec:\s+([\d.]+)", said)[0])


def beside_peers(client: Client, folder: Path, *, rounds: int) -> None:
    """Print what objects and descriptions take, beside moto's server, and beside copies on the disk."""
    found: dict[str, dict[str, list[float]]] = {}
    with _moto() as moto:
        makers = {"loopwright": client, **({"moto": moto} if moto else {})}
        tools = {name: (make("s3"), make("sagemaker")) for name, make in makers.items()}
        for s3, sagemaker in tools.values():
            s3.create_bucket(Bucket="beside")
            sagemaker.create_model_package_group(ModelPackageGroupName="beside")
        small, large = os.urandom(1024), os.urandom(64 << 20)
        for number in range(rounds):
            for name, (s3, sagemaker) in tools.items():
                steps = _steps(s3, sagemaker, number, small, large)
                for what, (times, scale, call) in steps.items():
                    taken = [scale * each for each in timed(times, call)]
                    found.setdefault(what, {}).setdefault(name, []).extend(taken)
            disk = found.setdefault("PutObject of 64 MiB, s", {}).setdefault("a synced copy", [])
            disk += timed(1, lambda _: _copied(folder / "copy", large))
    for what, each in found.items():
        told = ", ".join(f"{name} {statistics.median(v):.3g}" for name, v in each.items())
        print(f"{what}: {told}", flush=True)


Step = tuple[int, float, Callable[[int], object]]


def _steps(s3: Any, sagemaker: Any, number: int, small: bytes, large: bytes) -> dict[str, Step]:
    """Return what is measured: how often, by what its seconds are multiplied, and the call."""
    return {
        "PutObject of 1 KiB, ms": (
            50,
            1e3,
            lambda n: s3.put_object(Bucket="beside", Key=f"{number}/{n}", Body=small),
        ),
        "GetObject of 1 KiB, ms": (
            50,
            1e3,
            lambda n: s3.get_object(Bucket="beside", Key=f"{number}/{n}")["Body"].read(),
        ),
        "ListObjectsV2, ms": (20, 1e3, lambda _: s3.list_objects_v2(Bucket="beside")),
        "DescribeModelPackageGroup, ms": (
            50,
            1e3,
            lambda _: sagemaker.describe_model_package_group(ModelPackageGroupName="beside"),
        ),
        "PutObject of 64 MiB, s": (
            1,
            1.0,
            lambda _: s3.put_object(Bucket="beside", Key="large", Body=large),
        ),
        "GetObject of 64 MiB, s": (
            1,
            1.0,
            lambda _: s3.get_object(Bucket="beside", Key="large")["Body"].read(),
        ),
    }


def _copied(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _moto() -> Iterator[Client | None]:
    """Start moto's server where it is installed; yield what makes clients of it."""
    program = Path(sys.executable).with_name("moto_server")
    if not program.exists():
        print("moto is not installed here, so that nothing is beside the objects.")
        yield None
        return
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    process = subprocess.Popen(
        [str(program), "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        yield lambda service: boto3.client(
            service,
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="moto",
            aws_secret_access_key="moto",  # noqa: S106 moto asks for none
            config=Config(retries={"total_max_attempts": 1}),
        )
    finally:
        process.terminate()
        process.wait(20)
