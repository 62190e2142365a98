"""Looks at what a job's processes hold together: memory, their number, the disk."""

from __future__ import annotations

import os
import time

from .process import descendants, own_share_bytes, process_table, process_tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .process import Process

_SAMPLE_EVERY_S = 0.2
_DISK_EVERY_S = 2.0
# a tree that multiplies, or comes near its memory, is looked at more often
_GROWING_S = 0.02
# a small tree is mostly looked at alone; a look at the whole machine misses nobody
_SMALL, _WHOLE_EVERY_S = 16, 2.0
# where thousands of processes make a sample dear, it is taken less often
_MOST_TIME_SAMPLING = 0.02


class Watchdog:
    """Samples the process tree of a supervisor and says which limit it goes beyond.

    Parameters
    ----------
    memory_mib, processes, disk_mib
        The limits; 0 for no limit of the disk.
    """

    def __init__(self, *, memory_mib: int, processes: int, disk_mib: int) -> None:
        self._memory_mib = memory_mib
        self._processes = processes
        self._disk_mib = disk_mib
        self._n_before = 1
        self._bytes_before = 0
        self._until_limit_s = _SAMPLE_EVERY_S
        now = time.monotonic()
        self._next_disk = now + _DISK_EVERY_S
        self._looked_at = self._next_whole = now
        self.next_look = now + _SAMPLE_EVERY_S / 4
        self.peak_bytes = 0

    def look(self) -> str:
        """Return which limit is passed, in words for the job's record; empty for none."""
        now = time.monotonic()
        if now < self.next_look:
            return ""
        tree, table = self._seen(now)
        said = self._too_many(tree) or self._too_much(tree, table) or self._too_full(now)
        took = time.monotonic() - now
        is_growing = len(tree) > 16 and len(tree) > 1.5 * self._n_before
        pause = _GROWING_S if is_growing else max(_SAMPLE_EVERY_S, took / _MOST_TIME_SAMPLING)
        pause = min(pause, max(_GROWING_S, 4 * took, self._until_limit_s))
        self._n_before = len(tree)
        self.next_look = now + took + pause
        return said

    def _seen(self, now: float) -> tuple[list[int], Mapping[int, Process]]:
        if now < self._next_whole and self._n_before <= _SMALL:
            found = process_tree(os.getpid())
            if found is not None:
                return list(found), found
        self._next_whole = now + _WHOLE_EVERY_S
        table = process_table()
        return descendants(os.getpid(), table), table

    def _too_many(self, tree: list[int]) -> str:
        if len(tree) <= self._processes:
            return ""
        return (
            f"It was ended because it had {len(tree):,} processes; "
            f"its limit is {self._processes:,} (`limits.processes`)."
        )

    def _too_much(self, tree: list[int], table: Mapping[int, Process]) -> str:
        used = sum(table[pid].resident_bytes for pid in tree)
        limit_mib = self._memory_mib
        if used > limit_mib << 20:
            # pages that forked processes share were counted for each
            used = min(used, own_share_bytes(tree) or used)
        self.peak_bytes = max(self.peak_bytes, used)
        self._foresee(used)
        if used <= limit_mib << 20:
            return ""
        return (
            f"It was ended because it used {used >> 20:,} MiB of memory; "
            f"its limit is {limit_mib:,} MiB (`resources.memory`)."
        )

    def _foresee(self, used: int) -> None:
        """Note in how many seconds half of what is left would be used up, at the pace so far."""
        now = time.monotonic()
        grown, took = used - self._bytes_before, now - self._looked_at
        left = (self._memory_mib << 20) - used
        self._until_limit_s = left / 2 / grown * took if grown > 0 else _SAMPLE_EVERY_S
        self._bytes_before, self._looked_at = used, now

    def _too_full(self, now: float) -> str:
        if not self._disk_mib or now < self._next_disk:
            return ""
        used = folder_bytes(".")
        took = time.monotonic() - now
        self._next_disk = now + max(_DISK_EVERY_S, took / _MOST_TIME_SAMPLING)
        if used <= self._disk_mib << 20:
            return ""
        return (
            f"It was ended because its folder held {used >> 20:,} MiB; "
            f"its limit is {self._disk_mib:,} MiB (`limits.disk`)."
        )


def folder_bytes(folder: str) -> int:
    """Return what the files below a folder take of the disk, those that vanish meanwhile left out."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        total += folder_bytes(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                except OSError:
                    continue
    except OSError:
        pass
    return total
