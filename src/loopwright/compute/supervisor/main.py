"""The program of a supervisor: `main.main()` with FOLDER NAME=VALUE... -- COMMAND... as arguments.

In the folder, `shim.json` is claimed by the first supervisor to come; a second one leaves at once,
so starting one twice runs the job once. `stop.json` asks for the end; `exit.json` says how it
ended.
"""
# pathlib, contextlib and json would double the time to start:
# ruff: noqa: PTH108, PTH110, PTH208, SIM105

from __future__ import annotations

import os
import sys

from .child import adopt_orphans, block_endings, start_command
from .record import claim, exit_record, reserve_exit, write_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main() -> None:
    """Supervise as the arguments say: FOLDER NAME=VALUE... -- COMMAND..."""
    start = sys.argv.index("--")
    order = dict(argument.split("=", 1) for argument in sys.argv[2:start])
    supervise(sys.argv[1], order, sys.argv[start + 1 :])


def supervise(folder: str, order: dict[str, str], command: list[str]) -> None:
    """Run the job in a folder to its end, unless another supervisor has it.

    Parameters
    ----------
    order
        `number` of the try from 0, `time_limit_s` (0 for none), `memory_mib`, `processes`,
        `disk_mib` (0 for no limit), `log_bytes`, and 1 for `fail_when_log_full` and `keep_env`.
    """
    os.chdir(folder)
    _close_inherited()
    adopt_orphans()
    # who finds the claim may send a signal, which waits until it is heeded
    block_endings()
    if not claim(".", int(order["number"])):
        return
    if not int(order["keep_env"]):
        # only whoever starts the supervisor needs it, and it may hold secrets
        os.unlink("env.json")
    if os.path.exists("stop.json"):
        write_exit(_never_ran())
        _go_on(will_retry=False)
        return
    output, child = start_command(command)
    # while the job starts, what is needed to watch it is loaded
    reserve_exit()
    record = _watched(order, output=output, child=child)
    write_exit(record)
    _go_on(will_retry=record["is_lost"] and bool(int(order["keep_env"])))


def _go_on(*, will_retry: bool) -> None:
    from .successor import start_successor

    start_successor(will_retry=will_retry)


def _watched(order: dict[str, str], *, output: int, child: int) -> dict[str, Any]:
    from .log import Log
    from .supervision import Supervision
    from .watchdog import Watchdog

    supervision = Supervision(
        output=output,
        child=child,
        number=int(order["number"]),
        time_limit_s=float(order["time_limit_s"]),
        log=Log(limit_bytes=int(order["log_bytes"])),
        fail_when_log_full=bool(int(order["fail_when_log_full"])),
        watchdog=Watchdog(
            memory_mib=int(order["memory_mib"]),
            processes=int(order["processes"]),
            disk_mib=int(order["disk_mib"]),
        ),
    )
    return supervision.run()


def _close_inherited() -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.close(int(name))
            except OSError:
                # it was the one that listed them
                pass


def _never_ran() -> dict[str, Any]:
    return exit_record(
        outcome="stopped",
        reason="It was stopped before it started.",
        is_lost=False,
        exit_code=None,
        peak_memory_mib=None,
        cpu_s=None,
        log_left_out_bytes=0,
    )
