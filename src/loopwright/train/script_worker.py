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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.train.own_environment import own_environment
from loopwright.train.script_contract import (
    CODE_FOLDER,
    ML_FOLDER,
    ORDER_FILE,
    ScriptOrder,
    config_files,
)
from loopwright.train.script_host import (
    HOST,
    address_of,
    host_folder,
    log_name,
)
from loopwright.train.script_metric import MetricFinder
from loopwright.train.script_run import ScriptRun, started_scripts, watch_scripts

METRICS_FILE = "metrics.jsonl"
RESULT_FILE = "script.json"
MODEL_ARCHIVE = "model.tar.gz"
OUTPUT_ARCHIVE = "output.tar.gz"
TIMED_OUT = 124
_ENVIRONMENT = "environment"
# as much of `output/failure` as SageMaker shows
_FAILURE_CHARACTERS = 1024
# of each host beside the first, whose log compute keeps
_MOST_LOG = 64 << 20
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


def main() -> int:
    """Do the job in the present folder and return the exit code."""
    started = time.monotonic()
    folder = Path.cwd()
    try:
        order = ScriptOrder.from_json(json.loads((folder / ORDER_FILE).read_bytes()))
        for each in order.of_hosts():
            _lay_out(host_place(folder, each.host), each)
        python = interpreter_of(folder, order)
        prepared = time.monotonic()
        with (folder / "out" / METRICS_FILE).open("w", buffering=1) as file:
            finder = MetricFinder(order.metrics, file)
            runs = started_scripts(folder, order, python)
            for run in runs:
                run.finder = finder.beside()
            until = started + order.time_limit_s if order.time_limit_s else float("inf")
            with kept_logs(folder, runs):
                told = watch_scripts(runs, until=until, grace_s=order.grace_s)
        ended = time.monotonic()
        times = {"prepare_s": prepared - started, "script_s": ended - prepared}
        return _finished(folder, order, runs, told, finder.latest, times)
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


def host_place(folder: Path, host: str) -> Path:
    """Return the folder of a host of the job in a folder, with the code of the job in it."""
    place = host_folder(folder, host)
    place.mkdir(parents=True, exist_ok=True)
    code = folder / CODE_FOLDER
    if place != folder and code.is_dir() and not (place / CODE_FOLDER).exists():
        (place / CODE_FOLDER).symlink_to(code, target_is_directory=True)
    return place


@contextmanager
def kept_logs(folder: Path, runs: Sequence[ScriptRun]) -> Iterator[None]:
    """Keep what hosts print in `out`; what the first prints is the log of the job."""
    with ExitStack() as stack:
        for run in runs[1:]:
            from loopwright.compute.supervisor.log import Log

            log = Log(limit_bytes=_MOST_LOG, path=str(folder / "out" / log_name(run.host)))
            stack.callback(log.close)
            run.keep = log.write
        yield


def _lay_out(folder: Path, order: ScriptOrder) -> None:
    """Make the folders and files of the contract below `ml`, in the folder of a host."""
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
        place = ml / order.checkpoint_path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(kept, target_is_directory=True)
    else:
        (ml / order.checkpoint_path).mkdir(parents=True)
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
    if order.pipes:
        from loopwright.train.script_pipe import make_pipes

        make_pipes(ml / "input" / "data", order.pipes)
    write_hosts(folder, order)


def write_hosts(folder: Path, order: ScriptOrder) -> None:
    """Write the names of machines that a job knows, those of its hosts among them."""
    hosts = Path("/etc/hosts")
    known = hosts.read_text(errors="replace") if hosts.exists() else "127.0.0.1 localhost\n"
    # the job's own folder, whichever host's this is
    job = Path.cwd().name
    lines = [
        f"{address_of(job, number)} {each.name}" for number, each in enumerate(order.hosts, start=1)
    ]
    own = "\n".join(lines or [f"127.0.0.1 {HOST}"])
    (folder / "hosts").write_text(f"{known.rstrip()}\n{own}\n")


def interpreter_of(folder: Path, order: ScriptOrder) -> str:
    """Return the interpreter of a job, in an environment of its own above what its script requires.

    What is required is installed if it is not there yet.
    """
    python = order.python
    if order.requirements is not None or order.framework:
        python = _shared(folder, order)
    return own_environment(folder / _ENVIRONMENT, python, packages=order.packages)


def _shared(folder: Path, order: ScriptOrder) -> str:
    from loopwright.train.environment import framework_python

    return framework_python(
        None if order.requirements is None else folder / order.requirements,
        framework=order.framework,
        root=Path(order.environments),
        python=order.python,
        packages=order.packages,
        beside=folder / CODE_FOLDER if (folder / CODE_FOLDER).is_dir() else folder,
    )


def _finished(
    folder: Path,
    order: ScriptOrder,
    runs: Sequence[ScriptRun],
    run: ScriptRun,
    metrics: Mapping[str, float | None],
    times: Mapping[str, float],
) -> int:
    """Pack what the script left, write down how it ended, and return the exit code of the job."""
    from loopwright.train.script_archive import pack_folder

    out = folder / "out"
    first, *others = [each.folder / ML_FOLDER for each in runs]
    model, output = (
        pack_folder(first / name, out / archive, others=[each / name for each in others])
        for name, archive in (("model", MODEL_ARCHIVE), ("output/data", OUTPUT_ARCHIVE))
    )
    code = run.exit_code or 0
    if output.n_files == 0:
        (out / OUTPUT_ARCHIVE).unlink()
    if model.n_files == 0 and (code or run.timed_out):
        (out / MODEL_ARCHIVE).unlink()
    for each in runs:
        remove_scratch(each.folder)
    failure = _failure(order, run)
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
    for warning in warnings:
        print(f"Warning: {warning}", flush=True)
    if failure:
        print(failure.splitlines()[0], file=sys.stderr, flush=True)
    if run.timed_out:
        return TIMED_OUT
    return code if code >= 0 else 128 - code


def remove_scratch(folder: Path) -> None:
    """Remove what a script has written into its channels."""
    for path in (folder / "scratch").glob("*/kernel/work"):
        with suppress(OSError):
            path.rmdir()  # the kernel's, which its owner may remove and not look into
    shutil.rmtree(folder / "scratch", ignore_errors=True)
    shutil.rmtree(folder / _ENVIRONMENT, ignore_errors=True)


def _failure(order: ScriptOrder, run: ScriptRun) -> str:
    """Return why the script did not end well, in its own words where it left some."""
    if run.timed_out:
        return f"It was ended at its time limit of {order.time_limit_s:g} s."
    if run.exit_code == 0:
        return ""
    said = run.broken or _said(order, run)
    return f"{said} (on {run.host})" if order.hosts else said


def _said(order: ScriptOrder, run: ScriptRun) -> str:
    from loopwright.train.script_archive import open_regular

    code = run.exit_code or 0
    ended = f"exited with code {code}" if code > 0 else f"was ended by {_name_of(-code)}"
    try:
        with open_regular(run.folder / ML_FOLDER / "output" / "failure") as file:
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
