"""Workers by load behind one port, down to none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from loopwright.core.errors import BackendError
from loopwright.deploy import read_actual
from loopwright.deploy.scale import Scale

Start = Callable[..., Any]


def asleep(site: Any) -> None:
    site.until(lambda actual: actual.generation == site.generation and not actual.workers)


def test_the_last_worker_leaves_and_the_next_request_waits_for_a_new_one(
    site: Any, start_process: Start
) -> None:
    site.desire(slope=2.0, workers=Scale(least=0, most=1, idle="0.6 seconds"))
    endpoint = start_process()
    with site.client() as client:
        (first,) = client.invoke([{"area": 3, "city": None}])
        asleep(site)

        began_at = time.monotonic()
        answers = client.invoke([{"area": 4, "city": None}])
        cold_s = time.monotonic() - began_at

    assert first["prediction"] == 6.0
    assert answers[0]["prediction"] == 8.0
    # one second is the aim; other tests run beside this one
    assert cold_s < 3
    asleep(site)
    assert endpoint.leave() == 0


def test_a_model_exchanged_while_nobody_serves_is_opened_and_told(
    site: Any, start_process: Start
) -> None:
    scale = Scale(least=0, most=1, idle="0.6 seconds")
    site.desire(slope=2.0, workers=scale)
    endpoint = start_process()
    asleep(site)

    site.desire(slope=3.0, workers=scale)
    site.wait(endpoint.is_alive)

    with site.client() as client:
        assert client.invoke([{"area": 2, "city": None}])[0]["prediction"] == 6.0
        asleep(site)
        site.desire(slope=4.0, workers=scale, model={"golden": 1.0})
        with pytest.raises(BackendError, match="golden"):
            site.wait(endpoint.is_alive)


def test_those_who_wait_for_a_model_that_cannot_be_opened_are_told(
    site: Any, start_process: Start
) -> None:
    site.desire(slope=2.0, workers=Scale(least=0, most=1, idle="0.6 seconds"))
    start_process()
    asleep(site)
    (site.folder / "v1.json").write_text("broken")

    with site.dial() as line:
        status, headers, said = line.post({"area": 1, "city": None}).hear()

    assert (status, headers["retry-after"]) == (503, "5")
    assert "cannot be opened" in said["error"]["message"]


def test_busy_workers_are_joined_by_others_and_no_request_fails(
    site: Any, start_process: Start
) -> None:
    site.desire(slope=2.0, workers=Scale(least=1, most=2), model={"delay_s": 0.002})
    start_process()
    is_over = threading.Event()
    answered: list[float] = []
    failed: list[Exception] = []

    def call() -> None:
        while not is_over.is_set():
            try:
                with site.client(timeout_s=10) as client:
                    for _ in range(50):
                        answered.append(client.invoke([{"area": 1, "city": None}])[0]["prediction"])
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    try:
        end = time.monotonic() + 15
        while len((read_actual(site.folder) or site.actual).workers) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        n_workers = len(read_actual(site.folder).workers)
        time.sleep(0.5)
    finally:
        is_over.set()
        for thread in threads:
            thread.join(15)

    assert n_workers == 2
    assert failed == []
    assert set(answered) == {2.0}


def test_the_port_is_free_when_a_supervisor_of_copies_was_killed(
    site: Any, start_process: Start
) -> None:
    site.desire(slope=2.0, workers=Scale(least=0, most=1))
    endpoint = start_process()
    endpoint.kill()

    # another takes over, as the lock and the port are given back
    site.desire(slope=3.0, workers=Scale(least=0, most=1))
    start_process()

    with site.client() as client:
        assert client.invoke([{"area": 2, "city": None}])[0]["prediction"] == 6.0
