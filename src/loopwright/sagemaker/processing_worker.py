"""The process of a processing job: lays out `/opt/ml`, runs the command, notes how it ended.

Started by `processing_start`. What the command leaves in its outputs is put into S3 by the server,
which alone knows where that is.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from loopwright.core.errors import LoopwrightError
from loopwright.train.script_contract import ML_FOLDER, ORDER_FILE, ScriptOrder
from loopwright.train.script_run import ScriptRun, started_scripts, watch_scripts
from loopwright.train.script_worker import (
    TIMED_OUT,
    host_place,
    interpreter_of,
    kept_logs,
    remove_scratch,
    write_hosts,
)

REQUEST_FILE = "request.json"
RESULT_FILE = "processing.json"
# as much of `output/message` as SageMaker shows
_MESSAGE_BYTES = 1024


def main() -> int:
    """Do the job in the present folder and return the exit code."""
    started = time.monotonic()
    folder = Path.cwd()
    try:
        order = ScriptOrder.from_json(json.loads((folder / ORDER_FILE).read_bytes()))
        request = json.loads((folder / REQUEST_FILE).read_bytes())
        for each in order.of_hosts():
            _lay_out(host_place(folder, each.host), each, request)
        runs = started_scripts(folder, order, interpreter_of(folder, order))
        until = started + order.time_limit_s if order.time_limit_s else float("inf")
        with kept_logs(folder, runs):
            told = watch_scripts(runs, until=until, grace_s=order.grace_s)
        return _finished(folder, order, runs, told)
    except LoopwrightError as error:
        return _failed(folder, str(error))
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _failed(folder, f"The job could not go on: {error.strerror or error}{where}.")
    except Exception as error:
        return _failed(folder, f"The job could not go on: {type(error).__name__}: {error}.")


def _failed(folder: Path, reason: str) -> int:
    with suppress(OSError):
        _write(folder, {"exit_code": None, "failure": reason, "message": ""})
    print(reason, file=sys.stderr, flush=True)
    return 1


def _write(folder: Path, result: Mapping[str, Any]) -> None:
    from loopwright.core.files import write_atomically

    write_atomically(folder / "out" / RESULT_FILE, json.dumps({"format": 1, **result}).encode())


def _lay_out(folder: Path, order: ScriptOrder, request: Mapping[str, Any]) -> None:
    """Make the folders and files of the contract below `ml`, in the folder of a host."""
    ml = folder / ML_FOLDER
    # of an earlier try, which was lost
    for path in (ml, folder / "scratch"):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("config", "output", "code", *request["folders"], *order.folders):
        (ml / name).mkdir(parents=True, exist_ok=True)
    for name, source in request["copies"].get(order.host, {}).items():
        shutil.copytree(source, ml / name, dirs_exist_ok=True)
    configs = {
        "processingjobconfig.json": request["request"],
        "resourceconfig.json": order.resource_config,
    }
    for name, value in configs.items():
        (ml / "config" / name).write_text(json.dumps(value))
    write_hosts(folder, order)


def _finished(folder: Path, order: ScriptOrder, runs: Sequence[ScriptRun], run: ScriptRun) -> int:
    code = run.exit_code or 0
    messages = (_message(each.folder / ML_FOLDER) for each in (run, *runs))
    failure = "" if code == 0 or run.timed_out else _last_line(run)
    result = {
        "exit_code": code,
        "failure": f"{failure} (on {run.host})" if failure and order.hosts else failure,
        "message": next(filter(None, messages), ""),
    }
    _write(folder, result)
    for each in runs:
        remove_scratch(each.folder)
    if run.timed_out:
        return TIMED_OUT
    return code if code >= 0 else 128 - code


def _last_line(run: ScriptRun) -> str:
    lines = [each for each in run.tail.decode(errors="replace").splitlines() if each.strip()]
    return lines[-1].strip() if lines else ""


def _message(ml: Path) -> str:
    from loopwright.train.script_archive import open_regular

    try:
        with open_regular(ml / "output" / "message") as file:
            return file.read(_MESSAGE_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""
