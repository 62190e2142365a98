"""Starts the command of a job.

This comes before all else that a supervisor does, so it uses what is built into the interpreter:
`signal` would bring `enum`, and `ctypes` `struct`, which take longer to load than all the rest.
"""
# ruff: noqa: PTH123, S606

from __future__ import annotations

import _ctypes
import _signal  # type: ignore[import-not-found]  # no stubs; signal imports enum
import os

ENDINGS = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)
"""The signals that ask a supervisor to end its job."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Become the parent of whatever descends from this process and loses its own."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def block_endings() -> None:
    """Let requests to end wait until they can be heeded."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, ENDINGS)


def start_command(command: list[str]) -> tuple[int, int]:
    """Start the job's command; return where its output is read, and its process id.

    What it sends out before the supervisor is ready waits in the pipe.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(reading, False)
    supervisor, pid = os.getpid(), os.fork()
    if pid:
        os.close(writing)
        return reading, pid
    try:
        _become_the_job(supervisor, writing)
        os.execvp(command[0], command)
    except OSError as error:
        text = f"The command {command[0]!r} cannot be started: {error.strerror}.\n"
        os.write(2, text.encode(errors="replace"))
    finally:
        os._exit(127)


def _become_the_job(supervisor: int, output: int) -> None:
    # whoever kills the supervisor kills the job
    _prctl(_PR_SET_PDEATHSIG, _signal.SIGKILL)
    if os.getppid() != supervisor:
        os._exit(127)
    os.setsid()
    for number in (*ENDINGS, _signal.SIGCHLD, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, ENDINGS)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, target)
    # when memory runs out all the same, the kernel should take the job before anything else
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass


def _prctl(option: int, value: int) -> None:
    library = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]  # None is the process itself
    _ctypes.call_function(_ctypes.dlsym(library, "prctl"), (option, value, 0, 0, 0))
