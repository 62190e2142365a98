"""What is to be told is told: at least once, in order, after kills and failures, and never twice
while one process lives."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loopwright.core.clock import FixedClock
from loopwright.core.errors import BackendError
from loopwright.loop.alarm import LOOK_KINDS, keep_conditions, list_alarms
from loopwright.loop.condition import Condition
from loopwright.loop.file import ReadFile, read_loop_file
from loopwright.loop.outbox import backoff_s, list_outbox, put_notice, tell_due
from loopwright.loop.workspace import Workspace
from loopwright.settings import read_settings
from loopwright.wiring import open_workspace

LOOP = """\
name: shop
problem: {target: price, criteria: [{metric: mape, at_most: 0.5}]}
data: {source: {kind: file, path: sales.csv}}
monitor: {alarms: [{kind: log}, {kind: webhook, url: "env:HOOK", allow_private: true}]}
"""


class Sinks:
    """What was told to sinks of each kind, and which of them fail now."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.failing: dict[str, Exception] = {}

    def __call__(self, sink: Any, notice: Any, **_: Any) -> None:
        kind = type(sink).__name__
        if kind in self.failing:
            raise self.failing[kind]
        self.told.append((kind, notice.event))


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def workspace(tmp_path: Path, clock: FixedClock) -> Workspace:
    return open_workspace(read_settings({}, home=tmp_path / "home"), clock=clock)


@pytest.fixture
def read(tmp_path: Path) -> ReadFile:
    (tmp_path / "loop.yaml").write_text(LOOP)
    return read_loop_file(tmp_path / "loop.yaml")


def _raise(workspace: Workspace, read: ReadFile, number: int = 1) -> None:
    wrong = Condition(kind="data", mark=str(number), subject="price", message="price moved up.")
    keep_conditions(workspace, read.content, [wrong], kinds=LOOK_KINDS)


def test_an_alarm_is_told_to_every_sink_once(workspace: Workspace, read: ReadFile) -> None:
    sinks = Sinks()
    _raise(workspace, read)

    for _ in range(3):
        tell_due(workspace, read, send=sinks)

    assert sorted(sinks.told) == [("LogSink", "opened"), ("WebhookSink", "opened")]
    assert list_alarms(workspace, "shop")[0].n_told == 2


def test_a_sink_that_is_down_is_tried_later_and_later_and_holds_up_no_other(
    workspace: Workspace, read: ReadFile, clock: FixedClock
) -> None:
    sinks = Sinks()
    sinks.failing["WebhookSink"] = BackendError("It is down.")
    _raise(workspace, read)
    attempts = []
    for _ in range(5 * 60):
        before = list_outbox(workspace)
        tell_due(workspace, read, send=sinks)
        if list_outbox(workspace)[-1].n_attempts != before[-1].n_attempts:
            attempts.append(clock.at)
        clock.advance(seconds=60)

    gaps = [(b - a).total_seconds() for a, b in pairwise(attempts)]
    assert sinks.told == [("LogSink", "opened")]
    assert gaps == sorted(gaps)
    assert gaps[0] == 60
    assert gaps[-1] == 3_600
    assert list_outbox(workspace)[0].error == "It is down."


def test_a_sink_that_comes_back_gets_all_in_the_order_it_happened(
    workspace: Workspace, read: ReadFile, clock: FixedClock
) -> None:
    sinks = Sinks()
    sinks.failing["WebhookSink"] = OSError("what nobody foresaw")
    _raise(workspace, read)
    tell_due(workspace, read, send=sinks)
    clock.advance(hours=3)
    keep_conditions(workspace, read.content, [], kinds=LOOK_KINDS)
    sinks.failing.clear()

    tell_due(workspace, read, send=sinks)

    assert [event for kind, event in sinks.told if kind == "WebhookSink"] == ["opened", "closed"]


def test_after_a_week_it_is_given_up_and_that_is_on_record(
    workspace: Workspace, read: ReadFile, clock: FixedClock
) -> None:
    sinks = Sinks()
    sinks.failing["WebhookSink"] = BackendError("It is down.")
    _raise(workspace, read)
    for _ in range(9):
        tell_due(workspace, read, send=sinks)
        clock.advance(days=1)

    ended = [record.body["state"] for record in workspace.metadata.list_("told")]
    assert sorted(ended) == ["given up", "sent"]
    assert not list_outbox(workspace)


def test_a_sink_that_left_the_file_is_no_longer_told(
    workspace: Workspace, read: ReadFile, tmp_path: Path
) -> None:
    _raise(workspace, read)
    (tmp_path / "loop.yaml").write_text(LOOP.replace("{kind: log}, ", ""))
    sinks = Sinks()

    tell_due(workspace, read_loop_file(tmp_path / "loop.yaml"), send=sinks)

    assert sinks.told == [("WebhookSink", "opened")]


def test_a_clock_that_was_set_back_does_not_silence_an_alarm(
    workspace: Workspace, read: ReadFile, clock: FixedClock
) -> None:
    clock.advance(days=365)
    _raise(workspace, read)
    clock.advance(days=-365)
    sinks = Sinks()

    tell_due(workspace, read, send=sinks)

    assert len(sinks.told) == 2


def test_two_processes_do_not_send_at_once(workspace: Workspace, read: ReadFile) -> None:
    sinks = Sinks()
    inside, go_on = threading.Event(), threading.Event()

    def slow(sink: Any, notice: Any, **more: Any) -> None:
        inside.set()
        go_on.wait(10)
        sinks(sink, notice, **more)

    _raise(workspace, read)
    first = threading.Thread(target=lambda: tell_due(workspace, read, send=slow))
    first.start()
    inside.wait(10)
    second = Sinks()
    tell_due(workspace, read, send=second)
    go_on.set()
    first.join(10)

    assert sorted([*sinks.told, *second.told]) == [("LogSink", "opened"), ("WebhookSink", "opened")]


def _killed_while_sending(home: Path, file: Path, after: bool) -> None:
    def send(sink: Any, notice: Any, **_: Any) -> None:
        if after:
            with (home / "received").open("a") as received:
                received.write(json.dumps([type(sink).__name__, notice.key]) + "\n")
        os.kill(os.getpid(), signal.SIGKILL)

    workspace = open_workspace(read_settings({}, home=home), clock=FixedClock())
    tell_due(workspace, read_loop_file(file), send=send)


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_in_the_middle_of_sending_loses_nothing_and_repeats_under_the_same_key(
    workspace: Workspace, read: ReadFile, clock: FixedClock, after: bool
) -> None:
    _raise(workspace, read)
    context = multiprocessing.get_context("fork")
    killed = context.Process(target=_killed_while_sending, args=(workspace.home, read.path, after))
    killed.start()
    killed.join(60)
    received = workspace.home / "received"

    def send(sink: Any, notice: Any, **_: Any) -> None:
        with received.open("a") as file:
            file.write(json.dumps([type(sink).__name__, notice.key]) + "\n")

    # the claim of the process that was killed stands for a while
    tell_due(workspace, read, send=send)
    clock.advance(minutes=5)
    tell_due(workspace, read, send=send)

    assert killed.exitcode == -signal.SIGKILL
    told = [tuple(json.loads(line)) for line in received.read_text().splitlines()]
    assert len(set(told)) == 2  # each sink has it, and could tell a double by its key
    assert len(told) == (3 if after else 2)
    assert not list_outbox(workspace)


def test_secrets_are_in_no_record(workspace: Workspace, read: ReadFile) -> None:
    _raise(workspace, read)
    environ = {"HOOK": "http://127.0.0.1:9/T0PSECRET"}

    tell_due(workspace, read, environ=environ)

    kept = [r.body for kind in ("outbox", "told", "alarm") for r in workspace.metadata.list_(kind)]
    assert list_outbox(workspace)[0].error.startswith("the webhook cannot be told")
    assert "T0PSECRET" not in json.dumps(kept)


def test_a_notice_that_was_sent_is_not_put_again(workspace: Workspace, read: ReadFile) -> None:
    _raise(workspace, read)
    notice = list_outbox(workspace)[0].notice
    tell_due(workspace, read, send=Sinks())

    put_notice(workspace, read.content, notice)

    assert not list_outbox(workspace)


def test_waits_grow_to_an_hour_and_never_overflow() -> None:
    waits = [backoff_s(n) for n in (1, 2, 3, 9, 10_000)]

    assert waits == [15.0, 30.0, 60.0, 3_600.0, 3_600.0]
    assert timedelta(seconds=waits[-1])


def test_a_real_command_is_given_the_alarm(
    workspace: Workspace, tmp_path: Path, read: ReadFile
) -> None:
    said = "{kind: command, run: [sh, -c, 'cat > told.json']}"
    (tmp_path / "loop.yaml").write_text(
        LOOP[: LOOP.index("monitor")] + f"monitor: {{alarms: [{said}]}}\n"
    )
    own = read_loop_file(tmp_path / "loop.yaml")
    _raise(workspace, own)

    delivered = tell_due(workspace, own)

    assert delivered.n_sent == 1
    assert json.loads((tmp_path / "told.json").read_bytes())["loop"] == "shop"


def test_a_real_receiver_that_was_down_gets_the_message_once_it_is_back(
    workspace: Workspace, read: ReadFile, clock: FixedClock
) -> None:
    keys: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            keys.append(self.headers["idempotency-key"])
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environ = {"HOOK": f"http://127.0.0.1:{port}/"}
    _raise(workspace, read)
    down = tell_due(workspace, read, environ=environ)
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        too_early = tell_due(workspace, read, environ=environ)
        clock.advance(seconds=20)
        back = tell_due(workspace, read, environ=environ)
        again = tell_due(workspace, read, environ=environ)
        server.shutdown()

    assert [each.n_waiting for each in (down, too_early, back, again)] == [1, 1, 0, 0]
    assert len(keys) == 1
