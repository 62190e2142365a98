"""Telling alarms to a program: no shell, the alarms as JSON on its input, an end in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from loopwright.core.errors import BackendError
from loopwright.core.quantity import seconds
from loopwright.monitor.notice import Notice, one_line
from loopwright.monitor.sink import CommandSink

_LAST_BYTES = 2_000


def run_program(
    sink: CommandSink, notice: Notice, *, environ: Mapping[str, str], folder: Path
) -> None:
    """Run a program with a notice on its input; return when it has ended with 0.

    It also finds the notice's key, the same in every attempt, as `LOOPWRIGHT_ALARM_KEY`.

    Raises
    ------
    BackendError
        If it cannot be started, fails or takes too long; then it is ended with all that it started.
    """
    name = one_line(sink.run[0], longest=100)
    known = {**environ, "LOOPWRIGHT_ALARM_KEY": notice.key, "LOOPWRIGHT_ALARM_EVENT": notice.event}
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps(notice.to_json(), ensure_ascii=False).encode())
        given.seek(0)
        try:
            process = subprocess.Popen(
                sink.run,
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd=folder,
                env=known,
                start_new_session=True,  # so that all that it starts can be ended with it
            )
        except (OSError, ValueError) as cause:
            reason = one_line(getattr(cause, "strerror", None) or str(cause), longest=200)
            raise _failed(f"The program {name!r} cannot be started: {reason}") from cause
    said = _Said(process.stderr)
    try:
        code = process.wait(timeout=seconds(sink.timeout, field="timeout"))
    except subprocess.TimeoutExpired as cause:
        raise _failed(f"The program {name!r} did not end within {sink.timeout}") from cause
    finally:
        # children that outlive it would also keep its output open
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        said.ended()
    if code:
        raise _failed(f"The program {name!r} ended with {code}: {said.text() or 'it said nothing'}")


class _Said:
    """The end of what a program writes; the rest is read and thrown away."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream = stream
        self._last = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        if self._stream is None:
            return
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._stream.fileno(), 65_536):
                self._last = (self._last + chunk)[-_LAST_BYTES:]

    def ended(self) -> None:
        self._thread.join(timeout=1.0)
        if self._stream is not None and not self._thread.is_alive():
            self._stream.close()

    def text(self) -> str:
        lines = self._last.decode(errors="replace").strip().splitlines()
        return one_line(lines[-1], longest=200) if lines else ""


def _failed(told: str) -> BackendError:
    return BackendError(
        f"{told.rstrip('.')}.", hint="It is tried again later.", retryable=True, field="run"
    )
