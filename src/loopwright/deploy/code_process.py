"""One process of a user's own code, as the endpoint sees it: started, asked, ended with all it began."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.quantity import mebibytes
from loopwright.deploy.code_frame import EXIT_FILE, FrameError, receive_message, send_message
from loopwright.deploy.code_settings import CodeSettings

_LOOK_S = 0.25
# what has ended by itself says so in a moment; what is ended is given longer
_MOMENT_S, _LEAVE_S = 0.3, 15.0
_STOP = json.dumps({"grace_s": 0})


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request: a status; the answer if it is 200, else why there is none."""

    status: int
    body: bytes = b""
    content_type: str = ""
    message: str = ""


class CodeProcess:
    """One process of the code: its guard, its line, its folder."""

    def __init__(
        self, settings: CodeSettings, *, archive: Path, unpacked: Path, folder: Path
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        self._settings = settings
        self._run = Path(tempfile.mkdtemp(prefix=f"run-{os.getpid()}-", dir=folder))
        self._line, theirs = socket.socketpair()
        self._told = ""
        try:
            order = self._run / "order.json"
            order.write_text(json.dumps(self._order(archive, unpacked, folder)))
            boot = str(Path(__file__).with_name("code_boot.py"))
            command = [sys.executable, "-I", "-S", boot, "guard", str(order)]
            self._guard = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            self._line.close()
            raise
        finally:
            theirs.close()

    def _order(self, archive: Path, unpacked: Path, folder: Path) -> dict[str, Any]:
        settings = self._settings
        paths = sysconfig.get_paths()
        return {
            "run": str(self._run),
            "archive": str(archive),
            "unpacked": str(unpacked),
            "most_bytes": mebibytes(settings.max_unpacked, field="max_unpacked") << 20,
            "python": sys.executable,
            "packages": list(dict.fromkeys((paths["purelib"], paths["platlib"]))),
            "framework": list(settings.framework),
            "environments": settings.environments or str(folder / "environments"),
            "program": settings.program,
            "most_answer": settings.max_answer_bytes,
            "memory_mib": mebibytes(settings.memory, field="memory"),
            "processes": settings.most_processes + 1,
            "disk_mib": mebibytes(settings.disk, field="disk"),
            "variables": dict(settings.variables),
        }

    def wait_until_ready(self, *, is_over: Callable[[], bool]) -> None:
        """Return when `model_fn` has returned.

        Raises
        ------
        InvalidInputError
            If it fails, ends, or takes too long.
        """
        limit_s = self._settings.start_timeout_s
        end = time.monotonic() + limit_s
        while not self._has_something_to_say():
            if is_over():
                raise InvalidInputError("The endpoint is leaving.")
            if time.monotonic() > end:
                raise _failed(f"It was not ready after {limit_s:g} seconds.")
        try:
            message = receive_message(
                self._line, most_bytes=0, until=max(end, time.monotonic() + 1.0)
            )
        except (FrameError, TimeoutError) as error:
            raise _failed(f"What it said cannot be understood: {error}.") from error
        if message is None:
            raise _failed(self.end())
        if not message[0].get("ready"):
            said = str(message[0].get("failed", ""))[:2000]
            raise _failed(f"It says: {said}", hint=str(message[0].get("hint", ""))[:500])

    def _has_something_to_say(self) -> bool:
        return bool(select.select([self._line], [], [], _LOOK_S)[0])

    def has_ended(self) -> bool:
        """Return whether the process has gone, or says something it was not asked for."""
        return self._guard.poll() is not None or bool(select.select([self._line], [], [], 0)[0])

    def ask(self, head: dict[str, Any], body: bytes, *, until: float) -> Reply:
        """Return the answer to one request.

        Raises
        ------
        TimeoutError
            If it takes longer; the process can be used no more.
        FrameError, OSError
            If it says what is no answer, or ends.
        """
        send_message(self._line, head, body, until=until)
        most_bytes = self._settings.max_answer_bytes
        message = receive_message(self._line, most_bytes=most_bytes, until=until)
        if message is None:
            raise ConnectionError("the code has ended")
        said, answer = message
        if said.get("id") != head["id"] or type(said.get("status")) is not int:
            raise FrameError("it answers another request")
        if not (said["status"] == 200 or 400 <= said["status"] < 600):
            raise FrameError(f"it answers with status {said['status']}")
        return Reply(
            status=said["status"],
            body=answer,
            content_type=str(said.get("content_type", "")),
            message=f"The code of this endpoint failed. {said['message']}"
            if said["status"] >= 500
            else str(said.get("message", "")),
        )

    def end(self) -> str:
        """End the whole process tree, remove its folder, and return how it ended."""
        if self._told:
            return self._told
        self._line.close()
        if not self._has_left(_MOMENT_S):
            (self._run / "stop.json").write_text(_STOP)
            self._guard.send_signal(signal.SIGTERM)
        if not self._has_left(_LEAVE_S):
            self._guard.kill()
            self._guard.wait()
        self._told = self._last_words()
        shutil.rmtree(self._run, ignore_errors=True)
        return self._told

    def _has_left(self, timeout_s: float) -> bool:
        try:
            self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _last_words(self) -> str:
        try:
            record = json.loads((self._run / EXIT_FILE).read_bytes())
        except (OSError, ValueError):
            return "It ended without a word."
        reason = str(record.get("reason") or "It ended by itself.")
        lines = [line for line in str(record.get("tail", "")).splitlines() if line.strip()]
        return f"{reason} Its last line: {lines[-1][:300]}" if lines else reason


def _failed(reason: str, *, hint: str = "") -> InvalidInputError:
    return InvalidInputError(
        f"The code of the endpoint could not be started. {reason}",
        hint=hint or "The endpoint's log shows what it printed.",
        field="code",
        value=reason[:200],
    )


def _sweep(folder: Path) -> None:
    """Remove what processes left behind that were killed."""
    for path in folder.glob("run-*"):
        pid = path.name.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(path, ignore_errors=True)
