"""Servers as processes: one for a home, many clients at once, told to end in the middle of calls."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .conftest import Server, key_for, started


def test_a_second_server_is_kept_off_a_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    command = [sys.executable, "-m", "loopwright", "--home", str(home)]

    with started(home) as (process, url):
        server = Server(url=url, home=home, key=key_for(home), pid=process.pid)
        second = subprocess.run(
            [*command, "sagemaker", "--port", "0"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        found = subprocess.run(
            [*command, "env"], capture_output=True, text=True, timeout=60, check=False
        )
        answered = server.client("sts").get_caller_identity()
    with started(home, port=0):
        pass  # and it is free again

    assert second.returncode != 0
    assert "Another server answers for" in second.stderr
    assert "Traceback" not in second.stderr
    assert url in found.stdout
    assert answered["Account"]


@pytest.mark.slow
def test_a_server_that_is_told_to_end_has_done_what_it_said(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    told: list[str] = []
    lock = threading.Lock()
    with started(home) as (process, url):
        server = Server(url=url, home=home, key=key_for(home), pid=process.pid)
        server.client("s3").create_bucket(Bucket="box")

        def put(worker: int) -> None:
            s3: Any = server.client("s3")
            for n in range(10_000):
                key = f"{worker}/{n}"
                try:
                    s3.put_object(Bucket="box", Key=key, Body=key.encode() * 100)
                except Exception:
                    return
                with lock:
                    told.append(key)
                    if len(told) == 60:
                        process.terminate()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(put, range(8)))
        ended = process.wait(20)
    with started(home) as (process, url):
        again = Server(url=url, home=home, key=server.key, pid=process.pid).client("s3")
        kept = {
            each["Key"]
            for page in again.get_paginator("list_objects_v2").paginate(Bucket="box")
            for each in page["Contents"]
        }

    assert ended == 0
    assert len(told) >= 60
    assert set(told) <= kept
