"""The watchdog looks more often at a job that comes near its memory, and not at one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from loopwright.compute.supervisor import watchdog
from loopwright.compute.supervisor.process import descendants, process_table, process_tree
from loopwright.compute.supervisor.watchdog import Watchdog

LIMIT_MIB = 1000


class Machine:
    """A clock and one process, whose memory grows at a pace."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, mib_per_s: float, start_mib: int
    ) -> None:
        self.now = 100.0
        self.mib_per_s, self.start_mib = mib_per_s, start_mib
        monkeypatch.setattr(watchdog, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(watchdog, "descendants", lambda _pid, _table: [7])
        monkeypatch.setattr(watchdog, "process_tree", lambda _pid: None)
        monkeypatch.setattr(watchdog, "own_share_bytes", lambda _tree: 0)
        monkeypatch.setattr(
            watchdog,
            "process_table",
            lambda: {7: SimpleNamespace(resident_bytes=int(self.used_mib() * 2**20))},
        )

    def used_mib(self) -> float:
        return self.start_mib + self.mib_per_s * (self.now - 100.0)

    def looks(self, dog: Watchdog, *, seconds: float) -> tuple[int, str]:
        """Look whenever the watchdog wants to; return how often, and what it said in the end."""
        count, said = 0, ""
        while self.now < 100.0 + seconds and not said:
            self.now = max(self.now, dog.next_look)
            said = dog.look()
            count += 1
        return count, said


def dog() -> Watchdog:
    return Watchdog(memory_mib=LIMIT_MIB, processes=10, disk_mib=0)


def test_a_job_that_grows_fast_is_ended_soon_after_its_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for mib_per_s in (100, 1000, 4000):
        watched = machine(monkeypatch, mib_per_s=mib_per_s)

        count, said = watched.looks(dog(), seconds=60)

        assert "its limit is 1,000 MiB (`resources.memory`)" in said
        # at most what comes in 20 ms
        assert LIMIT_MIB < watched.used_mib() <= LIMIT_MIB + 0.021 * mib_per_s
        assert count < 100


def test_a_job_that_stays_as_it_is_is_looked_at_five_times_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count, said = machine(monkeypatch, mib_per_s=0, start_mib=990).looks(dog(), seconds=20)

    assert said == ""
    assert 95 <= count <= 105


def machine(monkeypatch: pytest.MonkeyPatch, *, mib_per_s: float, start_mib: int = 20) -> Machine:
    return Machine(monkeypatch, mib_per_s=mib_per_s, start_mib=start_mib)


def test_a_tree_is_the_same_whether_one_looks_at_it_alone_or_at_the_whole_machine() -> None:
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen(
        [sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        while len(found := process_tree(process.pid) or {}) < 1:
            assert process.poll() is None

        table = process_table()

        assert list(found) == descendants(process.pid, table)
        assert [found[pid].parent for pid in found] == [process.pid]
        assert process.pid in (process_tree(os.getpid()) or {})
    finally:
        process.communicate(b"\n")


def test_of_a_process_that_is_gone_there_is_no_tree() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert process_tree(process.pid) is None
