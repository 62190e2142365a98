"""The real server over a real home: it runs loops, survives kills, and leaves in order."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loopwright.loop.timetable import find_slot
from loopwright.loop.workspace import Workspace
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

LOOP = """\
name: {name}
problem: {{target: price, criteria: [{{metric: mape, at_most: 0.5}}]}}
data: {{source: {{kind: file, path: {source}}}}}
train: {{algorithms: [linear-learner], budget: {{minutes: 1, jobs: 1}}}}
monitor: {{every: 1 hour, alarms: [{{kind: log}}]}}
"""


class Server:
    """One `loopwright server` over a home."""

    def __init__(self, home: Path) -> None:
        words = [sys.executable, "-c", "from loopwright.cli import main; main()"]
        self.process = subprocess.Popen(
            [*words, "--home", str(home), "server", "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self.process.stdout is not None
        said = b""
        while not said.rstrip().endswith(b"}"):
            line = self.process.stdout.readline()
            assert line, "the server ended"
            said += line
        self.url = json.loads(said)["url"]

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:  # noqa: S310 ours
            assert answer.status == 200
            text: str = answer.read().decode()
        return text

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.get("/status"))
        return found

    def tasks(self) -> dict[str, str]:
        return {
            loop["name"]: task["state"]
            for loop in self.status()["loops"]
            for task in loop["tasks"]
            if task["task"] == "look"
        }

    def until(self, wanted: dict[str, str], limit_s: float = 120) -> dict[str, str]:
        end = time.monotonic() + limit_s
        while (found := self.tasks()) != wanted and time.monotonic() < end:
            time.sleep(0.3)
        return found


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = open_workspace(read_settings({}, home=tmp_path / "home"))
    rows = pl.DataFrame({"size": range(700)}).with_columns(price=pl.col("size") * 2.0 + 10.0)
    rows.write_csv(tmp_path / "sales.csv")
    for name, source in (("good", "sales.csv"), ("bad", "nothing.csv")):
        file = tmp_path / f"{name}.yaml"
        file.write_text(LOOP.format(name=name, source=source))
        workspace.metadata.put("loop", name, {"file": str(file), "question": "", "endpoint": None})
    return workspace


@contextlib.contextmanager
def _served(home: Path) -> Iterator[Server]:
    server = Server(home)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(20)
        assert server.process.stdout is not None
        server.process.stdout.close()


@pytest.mark.slow
def test_one_loop_runs_though_another_fails_and_after_a_kill_nothing_is_done_twice(
    workspace: Workspace,
) -> None:
    with _served(workspace.home) as server:
        first = server.until({"good": "well", "bad": "failing"})
        ping, text = server.get("/ping"), server.get("/metrics")
        server.process.send_signal(signal.SIGKILL)
    n_rounds = len(workspace.metadata.list_("round", prefix="good/"))
    fired = find_slot(workspace.metadata, "good", "look").started_at

    with _served(workspace.home) as server:
        second = server.until({"good": "well", "bad": "failing"})
        time.sleep(3)
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(40)

    assert first == second == {"good": "well", "bad": "failing"}
    assert json.loads(ping) == {"status": "ok"}
    assert 'loopwright_task_failures{loop="bad",task="look"}' in text
    assert len(workspace.metadata.list_("round", prefix="good/")) == n_rounds == 1
    assert find_slot(workspace.metadata, "good", "look").started_at == fired
    assert code == 0
    assert not (workspace.home / "server" / "address.json").exists()
