from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

from loopwright.deploy.dispatch import WorkQueue

Steps = Generator[Callable[[], Any] | None, Any, str]


def turns(name: str, n_turns: int, trace: list[str]) -> Steps:
    for _ in range(n_turns):
        trace.append(name)
        yield None
    return name


def run(
    *requests: Steps, is_wanted: Callable[[], bool] = lambda: True, **settings: Any
) -> list[Any]:
    """Submit requests together and return what they ended with, in the order they ended."""

    async def main() -> list[Any]:
        queue: WorkQueue[str] = WorkQueue(**settings)
        ended: list[Any] = []
        for steps in requests:
            queue.submit(steps, done=ended.append, is_wanted=is_wanted)
        while len(queue):
            await asyncio.sleep(0.001)
        return ended

    return asyncio.run(main())


def test_requests_take_turns() -> None:
    trace: list[str] = []

    ended = run(turns("long", 4, trace), turns("short", 1, trace))

    assert ended == ["short", "long"]
    assert trace == ["long", "short", "long", "long", "long"]


def test_an_error_ends_one_request_only() -> None:
    def failing() -> Steps:
        yield None
        raise ZeroDivisionError

    ended = run(failing(), turns("other", 3, []))

    assert isinstance(ended[0], ZeroDivisionError)
    assert ended[1] == "other"


def test_what_blocks_runs_in_another_thread_and_its_result_comes_back() -> None:
    here = threading.get_ident()

    def blocking() -> Steps:
        there = yield threading.get_ident
        return "elsewhere" if there != here else "here"

    assert run(blocking()) == ["elsewhere"]


def test_an_error_in_what_blocks_comes_back_where_it_was_asked_for() -> None:
    def blocking() -> Steps:
        try:
            yield lambda: 1 / 0
        except ZeroDivisionError:
            return "caught"
        return "nothing"

    assert run(blocking()) == ["caught"]


def test_others_go_on_while_one_blocks() -> None:
    def blocking() -> Steps:
        yield lambda: time.sleep(0.05)
        return "blocked"

    assert run(blocking(), turns("quick", 20, [])) == ["quick", "blocked"]


def test_a_request_that_nobody_wants_any_more_is_dropped() -> None:
    trace: list[str] = []

    ended = run(turns("gone", 5, trace), is_wanted=lambda: len(trace) < 2)

    assert ended == []
    assert trace == ["gone", "gone"]


def test_there_is_room_for_so_many_and_no_more() -> None:
    async def main() -> list[bool]:
        queue: WorkQueue[str] = WorkQueue(max_waiting=2)
        room = []
        for _ in range(3):
            room.append(queue.has_room())
            queue.submit(turns("x", 1, []), done=lambda _: None, is_wanted=lambda: True)
        while len(queue):
            await asyncio.sleep(0)
        return [*room, queue.has_room()]

    assert asyncio.run(main()) == [True, True, False, True]


def test_there_is_no_room_when_the_wait_would_be_long() -> None:
    def slow() -> Steps:
        time.sleep(0.02)
        return "slow"
        yield

    async def main() -> tuple[bool, bool]:
        queue: WorkQueue[str] = WorkQueue(max_wait_s=0.01)
        for _ in range(20):
            queue.submit(slow(), done=lambda _: None, is_wanted=lambda: True)
        before = queue.has_room()
        while len(queue) > 8:
            await asyncio.sleep(0)
        during = queue.has_room()
        while len(queue):
            await asyncio.sleep(0)
        assert queue.has_room()  # nobody waits: whatever the pace was, one may come
        assert queue.retry_after_s() == 1
        return before, during

    assert asyncio.run(main()) == (True, False)


def test_a_short_request_is_answered_at_once_while_nobody_waits() -> None:
    async def main() -> list[str | None]:
        queue: WorkQueue[str] = WorkQueue()
        alone = queue.answer_now(turns("alone", 0, []))
        queue.submit(turns("before", 1, []), done=lambda _: None, is_wanted=lambda: True)
        behind = queue.answer_now(turns("behind", 0, []))
        return [alone, behind]

    assert asyncio.run(main()) == ["alone", None]


def test_a_request_of_several_turns_goes_on_in_the_queue_after_its_first() -> None:
    trace: list[str] = []

    async def main() -> list[Any]:
        queue: WorkQueue[str] = WorkQueue()
        steps, ended = turns("long", 2, trace), list[Any]()
        if queue.answer_now(steps) is None:
            queue.submit(steps, done=ended.append, is_wanted=lambda: True)
        while len(queue):
            await asyncio.sleep(0)
        return ended

    assert asyncio.run(main()) == ["long"]
    assert trace == ["long", "long"]


def test_slow_requests_take_their_turns() -> None:
    async def main() -> str | None:
        queue: WorkQueue[str] = WorkQueue()
        queue._turn_s = 0.01
        return queue.answer_now(turns("slow", 0, []))

    assert asyncio.run(main()) is None


def test_short_calls_go_before_those_that_wait_but_not_for_ever() -> None:
    async def main() -> tuple[int, str | None]:
        queue: WorkQueue[str] = WorkQueue(slice_s=0.002)
        queue.submit(turns("waits", 1, []), done=lambda _: None, is_wanted=lambda: True)

        def short(name: str) -> str:
            time.sleep(0.0002)
            return name

        n_before = 0
        while queue.call_now(short, "first") is not None:
            n_before += 1
        await asyncio.sleep(0)  # those that wait have their turn
        return n_before, queue.call_now(short, "again")

    n_before, again = asyncio.run(main())

    assert 1 <= n_before <= 10
    assert again == "again"


def test_calls_that_take_long_wait_their_turn_until_that_is_forgotten() -> None:
    async def main() -> list[str | None]:
        queue: WorkQueue[str] = WorkQueue()

        def slow(name: str) -> str:
            time.sleep(0.002)
            return name

        return [queue.call_now(slow, "slow") for _ in range(300)]

    found = asyncio.run(main())

    assert found[0] == "slow"
    n_made = sum(each is not None for each in found)
    assert 5 <= n_made < 60
    assert found[-100:].count("slow") >= 1
