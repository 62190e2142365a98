"""A run that is killed goes on from the last finished step and repeats nothing that was done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import loopwright as lw

MakeLoop = Callable[..., lw.Loop]

STAGES = ["data", "explore", "decide", "prepare", "train", "choose", "evaluate", "pack", "verify"]


def started(loop: lw.Loop) -> list[str]:
    return [event["stage"] for event in loop.history() if event["what"] == "step started"]


def killed_at(loop: lw.Loop, stage: str, *, sent: signal.Signals = signal.SIGKILL) -> None:
    """Run the loop in a process of its own and kill that when a step has begun."""
    environment = {**os.environ, "LOOPWRIGHT_HOME": str(loop.settings.home)}
    process = subprocess.Popen(
        [sys.executable, "-m", "loopwright", "run", str(loop.read.path)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 90
    while time.monotonic() < end and process.poll() is None:
        if (loop.settings.home / "loopwright.db").exists() and stage in _started_safely(loop):
            break
        time.sleep(0.005)
    process.send_signal(sent)
    process.wait()


def _started_safely(loop: lw.Loop) -> list[str]:
    try:
        return started(loop)
    except lw_errors():
        return []


def lw_errors() -> tuple[type[Exception], ...]:
    from loopwright.core.errors import LoopwrightError

    return (LoopwrightError,)


def check_that_nothing_is_repeated(make_loop: MakeLoop, stage: str, sent: signal.Signals) -> None:
    loop = make_loop(n_rows=800)
    killed_at(loop, stage, sent=sent)
    done = {event["stage"] for event in loop.history() if event["what"] == "step done"}
    before = len(started(loop))
    jobs_before = {job.key: job.id for job in loop.jobs() if job.kind == "training"}

    outcome = loop.run(on_news=lambda _: None).outcome

    assert outcome.state == "live", outcome.message
    repeated = [each for each in started(loop)[before:] if each in done]
    assert repeated == []
    jobs_after = {job.key: job.id for job in loop.jobs() if job.kind == "training"}
    assert len(jobs_after) == 2
    assert jobs_before.items() <= jobs_after.items()
    champions = [event for event in loop.history() if event["what"] == "champion"]
    assert len(champions) == 1
    assert loop.run(on_news=lambda _: None).outcome.n_steps == 0


@pytest.mark.parametrize("stage", ["train"])
def test_a_killed_run_goes_on_where_it_was(make_loop: MakeLoop, stage: str) -> None:
    check_that_nothing_is_repeated(make_loop, stage, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "train"])
def test_a_run_killed_at_any_step_goes_on_where_it_was(make_loop: MakeLoop, stage: str) -> None:
    check_that_nothing_is_repeated(make_loop, stage, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "verify"])
def test_ctrl_c_is_no_different(make_loop: MakeLoop, stage: str) -> None:
    check_that_nothing_is_repeated(make_loop, stage, signal.SIGINT)


def test_a_killed_endpoint_comes_back_at_its_address_with_every_answer_captured(
    make_loop: MakeLoop, tmp_path: Path
) -> None:
    from loopwright.deploy import read_actual, read_capture

    from .conftest import sales

    loop = make_loop(n_rows=800)
    loop.run(on_news=lambda _: None)
    url = loop.url
    rows = sales(50).drop("price")
    ids = [f"kept-{n}" for n in range(rows.height)]
    loop.predict(rows, inference_ids=ids)
    folder = tmp_path / "home" / "endpoints" / "houses"
    actual = read_actual(folder)
    assert actual is not None
    os.kill(actual.pid, signal.SIGKILL)

    outcome = loop.run(on_news=lambda _: None).outcome

    assert outcome.state == "live"
    assert loop.url == url
    assert set(ids) <= set(read_capture(folder / "capture").frame["inference_id"])
    assert loop.predict(rows)[0]["prediction"] > 0


def test_two_runs_of_one_loop_do_not_work_at_once(make_loop: MakeLoop) -> None:
    from loopwright.core.errors import WrongStateError
    from loopwright.loop.workspace import locked_loop

    loop = make_loop(n_rows=800)
    with (
        locked_loop(loop.settings.home, loop.name),
        pytest.raises(WrongStateError, match="run by another process"),
    ):
        loop.run(on_news=lambda _: None)
