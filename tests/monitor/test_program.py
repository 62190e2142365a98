"""Alarms reach a real program: no shell between, and it ends in time with all that it started."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from loopwright.core.errors import BackendError
from loopwright.monitor.notice import Notice, Told
from loopwright.monitor.program import run_program
from loopwright.monitor.sink import CommandSink

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTICE = Notice(
    key="shop-1-opened",
    event="opened",
    loop="shop",
    at=NOW,
    alarms=(Told(id="a1", kind="data", subject="price; rm -rf .", message="price moved up."),),
)
ENVIRON = {"PATH": "/usr/bin:/bin"}


def _run(sink: CommandSink, folder: Path) -> None:
    run_program(sink, NOTICE, environ=ENVIRON, folder=folder)


def test_the_program_reads_the_alarms_as_json(tmp_path: Path) -> None:
    _run(
        CommandSink(run=("sh", "-c", 'cat > got.json; echo "$LOOPWRIGHT_ALARM_KEY" > key')),
        tmp_path,
    )

    assert json.loads((tmp_path / "got.json").read_bytes())["alarms"][0]["id"] == "a1"
    assert (tmp_path / "key").read_text().strip() == "shop-1-opened"


def test_no_shell_reads_the_words(tmp_path: Path) -> None:
    _run(CommandSink(run=("touch", "a; touch b", "$(touch c)")), tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["$(touch c)", "a; touch b"]


def test_a_program_that_fails_is_told_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="ended with 3: no pager"):
        _run(CommandSink(run=("sh", "-c", "echo first >&2; echo no pager >&2; exit 3")), tmp_path)


def test_a_program_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot be started"):
        _run(CommandSink(run=("no-such-program-here",)), tmp_path)


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    sink = CommandSink(run=("sh", "-c", "sleep 60 & echo $! > child; wait"), timeout="1 second")

    with pytest.raises(BackendError, match="did not end within 1 second"):
        _run(sink, tmp_path)

    child = int((tmp_path / "child").read_text())
    end = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != "zombie":
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_program_that_writes_without_end_fills_no_memory(tmp_path: Path) -> None:
    words = "import sys\nfor _ in range(200): sys.stderr.write('x' * 100_000)\nsys.exit(1)"
    before = psutil.Process().memory_info().rss

    with pytest.raises(BackendError, match="ended with 1") as caught:
        _run(CommandSink(run=(sys.executable, "-c", words)), tmp_path)

    assert len(str(caught.value)) < 500
    assert psutil.Process().memory_info().rss - before < 15_000_000


def test_a_program_need_not_read(tmp_path: Path) -> None:
    _run(CommandSink(run=("true",)), tmp_path)
