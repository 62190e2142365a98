"""The process of a function's call: unpacks the code, runs it in its sandbox, notes what it answered.

Started by `start`. The code runs as a training script does: in a process of its own, with its own
view of `/opt/ml`, its limits kept by the supervisor of the job.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from loopwright.core.errors import LoopwrightError
from loopwright.sagemaker.function.archive import unpack
from loopwright.train.script_archive import open_regular
from loopwright.train.script_contract import ML_FOLDER, ORDER_FILE, ScriptOrder
from loopwright.train.script_run import ScriptRun, started_scripts, watch_scripts
from loopwright.train.script_worker import write_hosts

CODE_FILE = "code.zip"
EVENT_FILE = "event.json"
CALL_FILE = "call.json"
ANSWER_FILE = "answer.json"
PAYLOAD_FILE = "payload.json"
UNHANDLED = "Unhandled"
_GRACE_S = 0.2
_MOST_BYTES = 6_291_556


def main() -> int:
    """Do the call in the present folder and return the exit code."""
    folder = Path.cwd()
    try:
        order = ScriptOrder.from_json(json.loads((folder / ORDER_FILE).read_bytes()))
        call = json.loads((folder / CALL_FILE).read_bytes())
        _called(folder, order, call)
    except (LoopwrightError, OSError) as error:
        print(f"The function could not be called: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        for name in (ML_FOLDER, "scratch"):
            shutil.rmtree(folder / name, ignore_errors=True)
    return 0


def _called(folder: Path, order: ScriptOrder, call: dict[str, Any]) -> None:
    request = call["request"]
    ml = folder / ML_FOLDER
    for name in ("code", "config", "output"):
        (ml / name).mkdir(parents=True, exist_ok=True)
    unpack(folder / CODE_FILE, ml / "code")
    (ml / "config" / EVENT_FILE).write_bytes((folder / EVENT_FILE).read_bytes())
    limit = float(order.time_limit_s or 0)
    call["until"] = time.time() + limit
    (ml / "config" / CALL_FILE).write_text(json.dumps(call))
    write_hosts(folder, order)
    print(f"START RequestId: {request} Version: {call['version']}", flush=True)
    began = time.monotonic()
    runs = started_scripts(folder, order, order.python)
    run = watch_scripts(runs, until=began + limit, grace_s=_GRACE_S)
    took_ms = (time.monotonic() - began) * 1000
    error, payload = _outcome(ml, run, request, limit)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    (out / PAYLOAD_FILE).write_bytes(payload)
    (out / ANSWER_FILE).write_text(json.dumps({"format": 1, "error": error}))
    if run.timed_out:
        print(f"{request} Task timed out after {limit:.2f} seconds", flush=True)
    held = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(
        f"END RequestId: {request}\nREPORT RequestId: {request}\tDuration: {took_ms:.2f} ms\t"
        f"Billed Duration: {int(took_ms) + 1} ms\tMemory Size: {call['memory_mb']} MB\t"
        f"Max Memory Used: {held} MB",
        flush=True,
    )


def _outcome(ml: Path, run: ScriptRun, request: str, limit: float) -> tuple[str, bytes]:
    """Return how a call failed, if it did, and its payload."""
    if run.timed_out:
        told = f"RequestId: {request} Error: Task timed out after {limit:.2f} seconds"
        return UNHANDLED, _error("Sandbox.Timedout", told)
    for name, error in (("error", UNHANDLED), ("answer", "")):
        with suppress(OSError), open_regular(ml / "output" / name) as file:
            return error, file.read(_MOST_BYTES + 1)
    code = run.exit_code or 0
    how = f"exit status {code}" if code >= 0 else f"signal {-code}"
    told = f"RequestId: {request} Error: Runtime exited with error: {how}"
    return UNHANDLED, _error("Runtime.ExitError", told)


def _error(kind: str, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()
