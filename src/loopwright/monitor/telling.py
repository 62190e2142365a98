"""Telling a notice to a sink: one attempt, whatever the kind."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from loopwright.core.errors import BackendError
from loopwright.monitor.mail import mail_notice
from loopwright.monitor.notice import Notice
from loopwright.monitor.program import run_program
from loopwright.monitor.sink import AlarmSink, CommandSink, EmailSink, LogSink, WebhookSink
from loopwright.monitor.webhook import post_notice

_log = logging.getLogger("loopwright.alarms")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an attempt is made in.

    Parameters
    ----------
    home
        The folder of the store; relative log files lie in it.
    folder
        The folder of the loop file; programs start in it.
    environ
        Where secrets come from.
    """

    home: Path
    folder: Path
    environ: Mapping[str, str] = field(repr=False)


def tell(sink: AlarmSink, notice: Notice, *, around: Surroundings, now: datetime) -> None:
    """Tell a notice once; return when the sink has it.

    Raises
    ------
    LoopwrightError
        If it has not; the message holds no secret.
    """
    if isinstance(sink, WebhookSink):
        post_notice(sink, notice, environ=around.environ, now=now)
    elif isinstance(sink, EmailSink):
        mail_notice(sink, notice, environ=around.environ, now=now)
    elif isinstance(sink, CommandSink):
        run_program(sink, notice, environ=around.environ, folder=around.folder)
    else:
        _write_line(sink, notice, around.home)


def _write_line(sink: LogSink, notice: Notice, home: Path) -> None:
    _log.info("%s", notice.text)
    line = json.dumps(notice.to_json(), ensure_ascii=False).encode() + b"\n"
    path = home / sink.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # one write at the end of the file: lines of several processes do not mix
        written = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(written, line)
            os.fsync(written)
        finally:
            os.close(written)
    except OSError as cause:
        raise BackendError(
            f"The log {path.name!r} cannot be written: {cause.strerror}.",
            hint="Make room, or name another file.",
            retryable=True,
            field="path",
        ) from cause
