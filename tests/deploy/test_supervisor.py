"""Several workers behind one port: one truth about them, and none that is missed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopwright.core.digest import digest_file
from loopwright.core.errors import BackendError
from loopwright.deploy import ActualState, read_actual, read_capture
from loopwright.deploy.counts import Counts, VariantCounts, keep_counts, kept_counts, retire_counts
from loopwright.deploy.supervisor import Seat, Supervisor, Worker

Start = Callable[..., Any]


def pids(actual: ActualState | None) -> set[int]:
    assert actual is not None
    return set(actual.workers)


def serving(site: Any, n: int = 60) -> set[int]:
    """Return the processes that answer, asked over one connection each."""
    found = set()
    for _ in range(n):
        with site.dial() as line:
            found.add(line.get("/ping").hear()[2]["pid"])
    return found


def test_workers_share_a_port_and_one_file_tells_of_all(site: Any, start_process: Start) -> None:
    site.desire(slope=2.0, workers=2)

    endpoint = start_process()

    actual = read_actual(site.folder)
    assert actual is not None
    assert actual.pid == endpoint.process.pid
    assert (actual.version, actual.generation, actual.error) == ("v1", 1, None)
    assert len(pids(actual)) == 2
    assert serving(site) == pids(actual)
    with site.client() as client:
        assert client.invoke([{"area": 10.0}])[0]["prediction"] == 20.0
    assert endpoint.leave() == 0
    assert not any(is_running(pid) for pid in pids(actual))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_change_is_told_of_when_every_worker_serves_it(site: Any, start_process: Start) -> None:
    site.desire(slope=1.0, workers=2)
    start_process()

    for number in range(2, 5):
        site.desire(slope=float(number), workers=2)
        site.wait()
        versions = set()
        for _ in range(20):
            with site.dial() as line:
                versions.add(line.get("/ping").hear()[2]["model_version"])
        assert versions == {f"v{number}"}


def test_a_change_that_no_worker_can_carry_out_is_told_and_the_old_model_stays(
    site: Any, start_process: Start
) -> None:
    site.desire(slope=2.0, workers=2)
    start_process()
    site.desire(slope=3.0, workers=2, model={"golden": -1.0})

    try:
        site.wait()
    except BackendError as error:
        told = error
    assert "golden row" in told.message
    assert "still serves version v1" in told.hint
    assert len(serving(site, 20)) == 2


def test_a_worker_killed_while_a_change_is_broken_comes_back_with_what_is_served(
    site: Any, start_process: Start
) -> None:
    site.desire(slope=2.0, workers=2)
    start_process()
    site.desire(slope=3.0, workers=2, model={"golden": -1.0})
    before = pids(site.until(lambda actual: actual.error_generation == 2))

    for pid in before:
        os.kill(pid, signal.SIGKILL)
    actual = site.until(lambda actual: len(pids(actual) - before) == 2)
    with site.client() as client:
        answer = client.invoke([{"area": 1.0}])[0]

    assert (answer["prediction"], answer["model_version"]) == (2.0, "v1")
    assert site.until(lambda actual: actual.error_generation == 2).version == "v1"
    assert actual.generation == 1


def test_a_model_that_does_not_open_ends_all_with_the_code_of_a_worker(
    site: Any, start_process: Start
) -> None:
    site.desire(slope=2.0, workers=2, model={"golden": -1.0})

    endpoint = start_process(ready=False)

    assert endpoint.process.wait(20) != 0
    actual = read_actual(site.folder)
    assert actual is not None
    assert "golden row" in str(actual.error)


def test_kill_9_of_a_worker_under_load_loses_at_most_what_it_was_answering(
    site: Any, start_process: Start
) -> None:
    site.desire(slope=2.0, workers=2)
    start_process()
    is_over = threading.Event()
    answered: list[str] = []
    failed: list[BackendError] = []

    def ask() -> None:
        while not is_over.is_set():
            # a connection for a few requests, as callers come and go
            with site.client(timeout_s=10) as client:
                for _ in range(5):
                    try:
                        answers = client.invoke([{"area": 3.0}])
                    except BackendError as error:
                        failed.append(error)
                        break
                    assert answers[0]["prediction"] == 6.0
                    answered.extend(each["inference_id"] for each in answers)

    n_threads = 4
    threads = [threading.Thread(target=ask) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    first = pids(read_actual(site.folder))
    while len(answered) < 100:
        time.sleep(0.005)
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    after = site.until(
        lambda actual: len(actual.workers) == 2 and victim not in actual.workers
    ).workers
    n_then = len(answered)
    end = time.monotonic() + 15
    while len(answered) < n_then + 100 and time.monotonic() < end:
        time.sleep(0.005)
    is_over.set()
    for thread in threads:
        thread.join(10)

    assert len(answered) >= n_then + 100
    # each thread had one request under way at most
    assert len(failed) <= n_threads
    assert len(first & set(after)) == 1
    page = read_capture(site.folder / "capture")
    assert set(answered) <= set(page.frame["inference_id"])
    assert page.n_unreadable == 0
    # captured, but killed before the answer was out, and asked again under the same id
    assert page.n_repeated <= n_threads
    with site.dial() as line:
        text = line.get("/metrics").hear()[2].decode()
    count = next(row for row in text.splitlines() if 'route="/invocations",code="200"' in row)
    # the killed worker's last second may be missing, all others are counted once
    assert 0 < int(count.rsplit(" ", 1)[1]) <= page.frame.height


def killed_one(site: Any) -> None:
    """Kill a worker and wait until another answers in its place."""
    before = pids(read_actual(site.folder))
    os.kill(min(before), signal.SIGKILL)
    new = site.until(lambda actual: len(pids(actual) - before) == 1)
    (pid,) = pids(new) - before
    end = time.monotonic() + 20
    while pid not in serving(site, n=5) and time.monotonic() < end:
        time.sleep(0.01)


def test_a_worker_in_the_place_of_a_killed_one_has_its_model_at_once(
    site: Any, start_process: Start
) -> None:
    digest = digest_file(site.standin.write_bundle(site.folder / "v1.json", slope=2.0))
    site.desire(slope=2.0, workers=2, bundle_digest=digest)
    endpoint = start_process()
    # copies of a process with threads may wait for ever for what a thread held
    assert len(list(Path(f"/proc/{endpoint.process.pid}/task").iterdir())) == 1
    (site.folder / "v1.json").unlink()

    killed_one(site)

    digest = digest_file(site.standin.write_bundle(site.folder / "v2.json", slope=3.0))
    site.desire(slope=3.0, workers=2, bundle_digest=digest)
    site.wait()
    killed_one(site)
    (site.folder / "v2.json").unlink()
    killed_one(site)
    for _ in range(10):
        with site.client() as client:
            answer = client.invoke([{"area": 10.0}])[0]
            assert (answer["prediction"], answer["model_version"]) == (30.0, "v2")


def test_workers_leave_with_a_supervisor_that_was_killed(site: Any, start_process: Start) -> None:
    site.desire(slope=2.0, workers=2)
    endpoint = start_process()
    workers = pids(read_actual(site.folder))

    endpoint.kill()

    end = time.monotonic() + 10
    while any(is_running(pid) for pid in workers) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(is_running(pid) for pid in workers)


class _Process:
    """A process that lives."""

    pid = 7

    def poll(self) -> None:
        return None


def told_by(*workers: Worker) -> ActualState:
    supervisor = Supervisor(Path("nowhere"), ("true",))
    supervisor._workers = list(workers)
    return supervisor._together(ActualState(pid=1, host="127.0.0.1", port=1))


def state(
    generation: int | None, error: str | None = None, about: int | None = None
) -> ActualState:
    return ActualState(
        pid=7, host="127.0.0.1", generation=generation, error=error, error_generation=about
    )


def test_a_worker_that_could_not_start_on_what_is_replaced_by_now_tells_nothing_false() -> None:
    waiting = Worker(number=0, actual=state(None, "no bundle", about=7))
    serving_8: Any = Worker(number=1, process=_Process(), actual=state(8))  # type: ignore[arg-type]

    actual = told_by(waiting, serving_8)

    assert (actual.generation, actual.error, actual.error_generation) == (8, None, None)


def test_of_two_failures_the_newest_is_told() -> None:
    waiting = Worker(number=0, actual=state(None, "no bundle", about=9))
    refusing: Any = Worker(
        number=1,
        process=_Process(),  # type: ignore[arg-type]
        actual=state(8, "broken shadow", about=10),
    )

    actual = told_by(waiting, refusing)

    assert (actual.generation, actual.error, actual.error_generation) == (8, "broken shadow", 10)


def test_a_worker_that_cannot_start_on_what_the_others_serve_says_so() -> None:
    waiting = Worker(number=0, actual=state(None, "the file is gone", about=8))
    serving_8: Any = Worker(number=1, process=_Process(), actual=state(8))  # type: ignore[arg-type]

    assert told_by(waiting, serving_8).error == "the file is gone"


def test_a_seat_is_handed_over_as_text() -> None:
    seat = Seat(number=3, listener=7, line=9)

    assert Seat.parse(str(seat)) == seat


def test_what_a_worker_that_ended_had_counted_stays_counted_once(tmp_path: Any) -> None:
    mine = Counts(
        requests=[("/ping", 200, 4)],
        variants={"next": VariantCounts(n_requests=2)},
        gauges={"open_connections": 3.0, "captured_predictions": 5.0},
    )
    for _ in range(2):
        keep_counts(tmp_path, mine)
        retire_counts(tmp_path, os.getpid())
    retire_counts(tmp_path, os.getpid())

    (kept,) = kept_counts(tmp_path)

    assert kept.requests == [("/ping", 200, 8)]
    assert kept.variants["next"].n_requests == 4
    assert kept.gauges == {"captured_predictions": 10.0, "dropped_captures": 0.0}
