"""The process of a script job: lays out `/opt/ml`, starts the script, packs what it leaves behind.

Started by `script_start`. It loads the standard library and a few modules beside it, and what it
needs after the start only then, so that a script starts soon. It ends with the script's own exit
code, or with 1 and the reason as its last line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.train.script_contract import (
    CODE_FOLDER,
    HOST,
    ML_FOLDER,
    ORDER_FILE,
    ScriptOrder,
    config_files,
)
from loopwright.train.script_metric import MetricFinder
from loopwright.train.script_run import ScriptRun, started_script, watch_script

METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "script.json"
MODEL_ARCHIVE = "model.tar.gz"
OUTPUT_ARCHIVE = "output.tar.gz"
TIMED_OUT = 124
# as much of `output/failure` as SageMaker shows
_FAILURE_CHARACTERS = 1024
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


def main() -> int:
    """Do the job in the present folder and return the exit code."""
    started = time.monotonic()
    folder = Path.cwd()
    try:
        order = ScriptOrder.from_json(json.loads((folder / ORDER_FILE).read_bytes()))
        _lay_out(folder, order)
        python = interpreter_of(folder, order)
        prepared = time.monotonic()
        with (folder / "out" / METRICS_FILE).open("w", buffering=1) as file:
            finder = MetricFinder(order.metrics, file)
            run = started_script(folder, order, python)
            until = started + order.time_limit_s if order.time_limit_s else float("inf")
            watch_script(run, finder, until=until, grace_s=order.grace_s)
            finder.close()
        ended = time.monotonic()
        times = {"prepare_s": prepared - started, "script_s": ended - prepared}
        return _finished(folder, order, run, finder.latest, times)
    except LoopwrightError as error:
        return _failed(folder, str(error))
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _failed(folder, f"The job could not go on: {error.strerror or error}{where}.")
    except Exception as error:
        # whatever it is, a result says why there is no model
        return _failed(folder, f"The job could not go on: {type(error).__name__}: {error}.")


def _failed(folder: Path, reason: str) -> int:
    with suppress(OSError):
        _write_result(folder, {"exit_code": None, "failure": reason, "warnings": []})
    print(reason, file=sys.stderr, flush=True)
    return 1


def _write_result(folder: Path, result: Mapping[str, Any]) -> None:
    from loopwright.core.files import write_atomically

    write_atomically(folder / "out" / RESULT_FILE, json.dumps({"format": 1, **result}).encode())


def _lay_out(folder: Path, order: ScriptOrder) -> None:
    """Make the folders and files of the contract below `ml`."""
    ml = folder / ML_FOLDER
    # of an earlier try, which was lost
    for path in (ml, folder / "scratch"):
        shutil.rmtree(path, ignore_errors=True)
    for name in ("input/config", "input/data", "model", "output/data", "output/intermediate"):
        (ml / name).mkdir(parents=True, exist_ok=True)
    for name, content in config_files(order).items():
        (ml / "input" / "config" / name).write_bytes(content)
    if (folder / CODE_FOLDER).is_dir():
        shutil.copytree(folder / CODE_FOLDER, ml / "code", dirs_exist_ok=True)
    (ml / "code").mkdir(exist_ok=True)
    for name in order.executables:
        (ml / "code" / name).chmod(0o755)
    kept = order.checkpoints or os.environ.get("LOOPWRIGHT_CHECKPOINT_DIR")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        (ml / "checkpoints").symlink_to(kept, target_is_directory=True)
    else:
        (ml / "checkpoints").mkdir()
    for name, source in order.channels.items():
        if not os.path.exists(source):  # noqa: PTH110
            raise InvalidInputError(
                f"The channel {name!r} is gone: there is no {source!r} any more.",
                field="channels",
                value=source,
            )
        place = ml / "input" / "data" / name
        place.mkdir(exist_ok=True)
        if not Path(source).is_dir():
            (place / Path(source).name).touch()
    write_hosts(folder)


def write_hosts(folder: Path) -> None:
    """Write the names of machines that a job knows, its own among them."""
    hosts = Path("/etc/hosts")
    known = hosts.read_text(errors="replace") if hosts.exists() else "127.0.0.1 localhost\n"
    (folder / "hosts").write_text(f"{known.rstrip()}\n127.0.0.1 {HOST}\n")


def interpreter_of(folder: Path, order: ScriptOrder) -> str:
    """Return the interpreter of a job, whose environment is made if it is not there yet."""
    if order.requirements is None:
        return order.python
    from loopwright.train.environment import environment_python

    python = environment_python(
        folder / order.requirements,
        root=Path(order.environments),
        python=order.python,
        packages=order.packages,
        beside=folder / CODE_FOLDER if (folder / CODE_FOLDER).is_dir() else folder,
    )
    return str(python)


def _finished(
    folder: Path,
    order: ScriptOrder,
    run: ScriptRun,
    metrics: Mapping[str, float | None],
    times: Mapping[str, float],
) -> int:
    """Pack what the script left, write down how it ended, and return the exit code of the job."""
    from loopwright.train.script_archive import pack_folder

    ml, out = folder / ML_FOLDER, folder / "out"
    model = pack_folder(ml / "model", out / MODEL_ARCHIVE)
    output = pack_folder(ml / "output" / "data", out / OUTPUT_ARCHIVE)
    code = run.exit_code or 0
    if output.n_files == 0:
        (out / OUTPUT_ARCHIVE).unlink()
    if model.n_files == 0 and (code or run.timed_out):
        (out / MODEL_ARCHIVE).unlink()
    for path in (folder / "scratch").glob("*/kernel/work"):
        with suppress(OSError):
            path.rmdir()  # the kernel's, which its owner may remove and not look into
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    failure = _failure(ml, order, run)
    warnings = [f"left out of {MODEL_ARCHIVE}: {each}" for each in model.left_out]
    if code == 0 and not failure and model.n_files == 0:
        warnings.append(
            f"The script ended well but left no file in SM_MODEL_DIR: {MODEL_ARCHIVE} is empty."
        )
    result = {
        "exit_code": code,
        "failure": failure,
        "warnings": warnings,
        "base": run.base,
        "model": model.to_json(),
        "output": output.to_json() if output.n_files else None,
        "metrics": dict(metrics),
        **{name: round(value, 3) for name, value in times.items()},
    }
    _write_result(folder, result)
    for each in warnings:
        print(f"Warning: {each}", flush=True)
    if failure:
        print(failure.splitlines()[0], file=sys.stderr, flush=True)
    if run.timed_out:
        return TIMED_OUT
    return code if code >= 0 else 128 - code


def _failure(ml: Path, order: ScriptOrder, run: ScriptRun) -> str:
    """Return why the script did not end well, in its own words where it left some."""
    from loopwright.train.script_archive import open_regular

    if run.timed_out:
        return f"It was ended at its time limit of {order.time_limit_s:g} s."
    if run.exit_code == 0:
        return ""
    code = run.exit_code or 0
    ended = f"exited with code {code}" if code > 0 else f"was ended by {_name_of(-code)}"
    try:
        with open_regular(ml / "output" / "failure") as file:
            # a character takes four bytes at most
            text = file.read(4 * _FAILURE_CHARACTERS).decode(errors="replace")
        said = text[:_FAILURE_CHARACTERS].strip()
    except OSError:
        said = ""
    if said:
        return f"The script says why it failed: {said}"
    missing = _MISSING.findall(run.tail.decode(errors="replace"))
    if missing:
        return (
            f"The script needs a package that is not there: {missing[-1]!r}. "
            "Name it in a file of requirements."
        )
    last = [line for line in run.tail.decode(errors="replace").splitlines() if line.strip()]
    return f"The script {order.entry_point} {ended}" + (f": {last[-1].strip()}" if last else ".")


def _name_of(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
