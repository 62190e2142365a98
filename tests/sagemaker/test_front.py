"""The HTTP front under requests that are none, too large, torn or slow."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from .conftest import Server, key_for, started


@pytest.fixture
def wire(server: Server) -> Iterator[socket.socket]:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        yield connection


def answer(wire: socket.socket) -> bytes:
    found = b""
    while piece := wire.recv(65_536):
        found += piece
        head, _, body = found.partition(b"\r\n\r\n")
        lengths = [
            line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        if lengths and len(body) >= int(lengths[0].partition(b":")[2]):
            break
    return found


def head_of(server: Server, method: str, path: str, *, secret: str = "", **headers: str) -> bytes:
    """Return the signed head of a request of S3."""
    asked = AWSRequest(method, server.url + path, headers=headers)
    asked.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"

    class Signer(S3SigV4Auth):  # type: ignore[misc]
        def payload(self, request: Any) -> str:
            return "UNSIGNED-PAYLOAD"

    Signer(Credentials(server.key.id, secret or server.key.secret), "s3", "us-east-1").add_auth(
        asked
    )
    lines = [f"{method} {path} HTTP/1.1", f"host: {urlsplit(server.url).netloc}"]
    lines += [
        f"{name}: UNSIGNED-PAYLOAD"
        if name.lower() == "x-amz-content-sha256"
        else f"{name}: {value}"
        for name, value in asked.headers.items()
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"hello there\r\n\r\n"])
def test_what_is_no_request_is_refused(wire: socket.socket, data: bytes) -> None:
    wire.sendall(data)

    assert answer(wire).startswith(b"HTTP/1.1 400 ")


def test_headers_without_end_are_refused(wire: socket.socket) -> None:
    wire.sendall(b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000)

    assert answer(wire).startswith(b"HTTP/1.1 431 ")


def test_an_upload_of_20_gb_with_a_wrong_signature_is_refused_before_it_comes(
    server: Server, wire: socket.socket
) -> None:
    head = head_of(server, "PUT", "/box/huge", secret="wrong", **{"content-length": str(20 << 30)})

    wire.sendall(head + b"x" * 1000)

    found = answer(wire)
    assert found.partition(b"\r\n\r\n")[0].startswith(b"HTTP/1.1 403 "), found[:300]


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a disk is made small by mounting one")
def test_a_disk_that_is_full_is_told_and_nothing_stays(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(small)], check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        home = small / "home"
        home.mkdir(mode=0o700)
        with started(home) as (process, url):
            server = Server(url=url, home=home, key=key_for(home), pid=process.pid)
            s3 = server.client("s3")
            s3.create_bucket(Bucket="box")
            with pytest.raises(ClientError) as caught:
                s3.put_object(Bucket="box", Key="large", Body=b"x" * (30 << 20))
            s3.put_object(Bucket="box", Key="little", Body=b"x")
            listed = [each["Key"] for each in s3.list_objects_v2(Bucket="box")["Contents"]]
            left = list((home / "s3" / "files" / "incoming").iterdir())
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)

    assert caught.value.response["Error"]["Code"] == "ServiceUnavailable"
    assert "No space left on device" in caught.value.response["Error"]["Message"]
    assert listed == ["little"]
    assert left == []


def test_an_upload_that_breaks_off_leaves_nothing(server: Server, s3: Any, bucket: str) -> None:
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as wire:
        wire.sendall(head_of(server, "PUT", f"/{bucket}/torn", **{"content-length": str(5 << 20)}))
        wire.sendall(b"x" * (3 << 20))
    incoming = server.home / "s3" / "files" / "incoming"

    end = time.monotonic() + 10
    while list(incoming.iterdir()):
        assert time.monotonic() < end
        time.sleep(0.05)

    assert s3.list_objects_v2(Bucket=bucket, Prefix="torn")["KeyCount"] == 0


def test_requests_that_come_together_are_answered_in_order(
    server: Server, s3: Any, bucket: str, wire: socket.socket
) -> None:
    for name in ("one", "two"):
        s3.put_object(Bucket=bucket, Key=f"order/{name}", Body=name.encode())

    wire.sendall(
        b"".join(head_of(server, "GET", f"/{bucket}/order/{name}") for name in ("one", "two"))
    )

    first = answer(wire)
    rest = first.partition(b"\r\n\r\n")[2][3:] or answer(wire)
    assert first.partition(b"\r\n\r\n")[2][:3] == b"one"
    assert rest.endswith(b"two")


def test_one_connection_carries_many_requests(
    server: Server, s3: Any, bucket: str, wire: socket.socket
) -> None:
    s3.put_object(Bucket=bucket, Key="again", Body=b"again")
    head = head_of(server, "GET", f"/{bucket}/again", **{"x-amz-meta-long": "x" * 4000})

    for _ in range(30):  # together more than one head may have
        wire.sendall(head)
        assert answer(wire).endswith(b"again")


def test_nothing_is_answered_without_a_signature(wire: socket.socket) -> None:
    wire.sendall(b"GET /jobs?list-type=2 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")

    assert answer(wire).startswith(b"HTTP/1.1 403 ")
