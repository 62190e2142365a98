"""One turn at one loop, in a process of its own: `python -m loopwright.server.attending NAME`.

What a loop does, and what becomes of it, cannot harm the server or other loops this way: it may use
up its memory, hang or crash. The home comes from the environment.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from loopwright.core.clock import SystemClock
from loopwright.core.errors import LoopwrightError
from loopwright.loop.file import read_loop_file
from loopwright.loop.step import StepNews
from loopwright.loop.unattended import Help, attend, note_crash
from loopwright.server.keeper import BUSY, DONE, FAILED
from loopwright.settings import Settings, read_settings
from loopwright.wiring import compute_capacity, kept_open

_log = logging.getLogger(__name__)


def help_in(settings: Settings) -> Help:
    """Return what attending a loop of a home needs; the store is opened once."""

    return Help(
        store=kept_open(settings),
        capacity=compute_capacity(settings),
        on_news=_logged,
        clock=SystemClock(),
    )


def main(arguments: list[str]) -> int:
    """Attend the loop named, or note that the process before died; return the exit code."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    if len(arguments) not in (1, 2):
        _log.error("Use: python -m loopwright.server.attending NAME [HOW THE ONE BEFORE DIED]")
        return 2
    settings = read_settings(os.environ)
    try:
        given = help_in(settings)
        workspace = given.store.find_workspace()
        if workspace is None:
            return FAILED
        file = Path(workspace.metadata.get("loop", arguments[0]).body["file"])
        read = read_loop_file(file)
        if len(arguments) > 1:
            note_crash(read, given, arguments[1])
            return DONE
        done = attend(read, given)
    except LoopwrightError as error:
        _log.error("%s", error)
        return FAILED
    for each in done:
        _log.info("%s %s. %s", each.task, each.state, each.told)
    return BUSY if any(each.state == "busy" for each in done) else DONE


def _logged(news: StepNews) -> None:
    if news.state not in ("started", "progress"):
        _log.info("%s: %s %s %s", news.loop, news.stage, news.state, news.summary)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
