"""Processes whose wall clock a test sets: the product runs as it is, in another year.

A library loaded before all others adds a number of seconds, kept in a file, to the time of day, and
cuts long sleeps short. Jobs get no `LD_PRELOAD`, but they do get `PYTHONPATH`, where a
`sitecustomize.py` starts them anew with it. What measures durations goes by the monotonic clock and
is left alone.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *shift;

__attribute__((constructor)) static void begin(void) {
    Dl_info here;
    char path[4096];
    if (!dladdr((void *)begin, &here)) return;
    snprintf(path, sizeof path, "%s.shift", here.dli_fname);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *found = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (found != MAP_FAILED) shift = found;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, id, at);
    if (!failed && shift && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += *shift;
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}

/* whoever sleeps for more than a second sleeps a fifth of one: time is passing quickly */
int clock_nanosleep(clockid_t id, int flags, const struct timespec *span, struct timespec *left) {
    struct timespec now, brief = {0, 200000000};
    long long ns = span->tv_sec * 1000000000LL + span->tv_nsec;
    if (flags & TIMER_ABSTIME) {
        clock_gettime(id, &now);
        ns -= now.tv_sec * 1000000000LL + now.tv_nsec;
    }
    if (ns > 1000000000LL) return syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &brief, left) ? errno : 0;
    return syscall(SYS_clock_nanosleep, id, flags, span, left) ? errno : 0;
}
"""

_SITE = """\
import os, sys
_library = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock.so")
if os.environ.get("LD_PRELOAD") != _library and sys.orig_argv:
    os.environ["LD_PRELOAD"] = _library
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
"""


def can_simulate() -> bool:
    """Tell whether this machine can run processes by another clock."""
    return sys.platform == "linux" and shutil.which("cc") is not None


@dataclass(frozen=True, slots=True)
class SimulatedTime:
    """A clock that processes started with its environment go by; it runs on from where it is set."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> SimulatedTime:
        """Build what is needed in a new folder."""
        folder.mkdir()
        (folder / "clock.c").write_text(_LIBRARY)
        (folder / "sitecustomize.py").write_text(_SITE)
        (folder / "clock.so.shift").write_bytes(struct.pack("q", 0))
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"]
        subprocess.run(command, cwd=folder, check=True)
        return cls(folder)

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that goes by this clock."""
        paths = [str(self.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, paths)),
            "LD_PRELOAD": str(self.folder / "clock.so"),
        }

    def set(self, at: datetime) -> None:
        """Let it be that time now."""
        shift = round(at.timestamp() - time.time())
        with (self.folder / "clock.so.shift").open("r+b") as file:
            file.write(struct.pack("q", shift))

    def now(self) -> datetime:
        """Return what the processes take for the present."""
        (shift,) = struct.unpack("q", (self.folder / "clock.so.shift").read_bytes())
        return datetime.fromtimestamp(time.time() + shift, UTC)
