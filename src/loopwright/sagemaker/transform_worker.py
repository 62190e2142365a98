"""A batch transform as a job: `python -m loopwright.sagemaker.transform_worker`, in the job's folder.

It serves the model with an endpoint of its own, asks it record by record, and writes an output for
each file that was answered whole. Outputs lie where the next try finds them, and are kept.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from loopwright.core.errors import LoopwrightError
from loopwright.core.files import write_json_atomically
from loopwright.deploy import (
    CodeSettings,
    DesiredState,
    Endpoint,
    Variant,
    free_port,
    wait_until_serving,
    write_desired,
)
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.json_path import path_of
from loopwright.sagemaker.model_call import Said, called_model, refusal_of
from loopwright.sagemaker.model_chain import Asked, called_chain
from loopwright.sagemaker.transform_record import (
    BadDataError,
    Processing,
    body_of,
    form_of,
    joined,
    records_of,
    requests_of,
)

ORDER_FILE, RESULT_FILE, DATA_LOG = "transform.json", "result.json", "data-log.txt"
RESULTS = "results"
OWN = "v0"
"""What the model is called in the job's own endpoint."""

_START_S = 660.0
_telling = threading.Lock()
_ROOM = 1 << 20


class ModelError(Exception):
    """A model that refused a request, or failed on it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def main() -> int:
    """Transform all files of the order; return the exit code."""
    folder = Path.cwd()
    order = json.loads((folder / ORDER_FILE).read_bytes())
    results = Path(os.environ["LOOPWRIGHT_CHECKPOINT_DIR"]) / RESULTS
    out = folder / "out"
    out.mkdir(exist_ok=True)
    failures: list[str] = []
    with (out / DATA_LOG).open("a") as log:
        _tell(
            log,
            f"MaxConcurrentTransforms={order['concurrent']}, MaxPayloadInMB={order['payload_mib']}, "
            f"BatchStrategy={'MULTI_RECORD' if order['is_multi'] else 'SINGLE_RECORD'}",
        )
        try:
            with (
                _serving(folder, order) as variant,
                ThreadPoolExecutor(order["concurrent"] * order["instances"]) as pool,
                ThreadPoolExecutor(order["instances"]) as instances,
            ):

                def done(each: Mapping[str, str]) -> list[str]:
                    target = results / f"{each['name']}.out"
                    if target.exists():
                        return []
                    return _transformed(order, variant, each, target, pool, log)

                for told in instances.map(done, order["inputs"]):
                    failures += told
        except LoopwrightError as error:
            print(error, file=sys.stderr, flush=True)
            failures.append("AlgorithmError")
    if failures:
        write_json_atomically(out / RESULT_FILE, {"failed": failures[0]})
    return 1 if failures else 0


@contextmanager
def _serving(folder: Path, order: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Serve the model for as long as it is asked."""
    containers = order["containers"]
    place = folder / "endpoint"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    endpoint = Endpoint("transform", place)
    most = max(16 << 20, (order["payload_mib"] << 20) + _ROOM)
    variants = tuple(_variant(each, place=n) for n, each in enumerate(containers))
    wanted = DesiredState(
        name="transform",
        generation=1,
        port=free_port(),
        variants=variants,
        workers=order["workers"],
        max_body_bytes=most if order["payload_mib"] else 1 << 30,
    )
    write_desired(place, wanted)
    process = subprocess.Popen(endpoint.command)
    try:
        state = wait_until_serving(
            place, generation=1, timeout_s=_START_S, is_alive=lambda: process.poll() is None
        )
        if len(containers) == 1:
            yield {**containers[0], "own": OWN, "port": state.port}
        else:
            yield {"containers": containers, "port": state.port}
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(place, ignore_errors=True)


def _variant(container: Mapping[str, Any], *, place: int) -> Variant:
    code = container.get("code")
    settings = None
    if code is not None:
        names: Mapping[str, str] = code["passed_on"]
        variables = {name: os.environ[own] for name, own in names.items() if own in os.environ}
        own = {key: each for key, each in code.items() if key not in ("passed_on", "framework")}
        framework = tuple(code["framework"])
        settings = CodeSettings(**own, framework=framework, variables=variables)
    return Variant(
        name=container.get("own", OWN),
        bundle=container["path"],
        version="1",
        bundle_digest=container["digest"],
        # each is asked by its name
        weight=0.0 if place else 1.0,
        code=settings,
    )


def _transformed(
    order: Mapping[str, Any],
    variant: Mapping[str, Any],
    each: Mapping[str, str],
    target: Path,
    pool: ThreadPoolExecutor,
    log: IO[str],
) -> list[str]:
    """Write the output of one file, whole or not at all; return what went wrong."""
    shown = each["key"]
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with _opened(Path(each["path"]), order) as file, temporary.open("wb") as out:
            for piece in _pieces(order, variant, file, pool):
                out.write(piece)
        temporary.replace(target)
    except ModelError as error:
        _tell(log, f"{shown}: Bad HTTP status received from algorithm: {error.status}")
        _tell(log, f"{shown}: ")
        _tell(log, f"{shown}: Message:")
        _tell(log, f"{shown}: {error}")
        return ["ClientError" if error.status < 500 else "AlgorithmError"]
    except (BadDataError, gzip.BadGzipFile, EOFError) as error:
        _tell(log, f"{shown}: ClientError: {error}")
        return ["ClientError"]
    finally:
        temporary.unlink(missing_ok=True)
    return []


def _opened(path: Path, order: Mapping[str, Any]) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if order["is_gzip"] else path.open("rb")


def _pieces(
    order: Mapping[str, Any],
    variant: Mapping[str, Any],
    file: IO[bytes],
    pool: ThreadPoolExecutor,
) -> Iterator[bytes]:
    """Yield the output of one request after the other; as many as allowed are under way."""
    processing = Processing(
        before=path_of(order["before"]), after=path_of(order["after"]), joins=order["joins"]
    )
    limit = order["payload_mib"] << 20
    requests = requests_of(
        records_of(file, order["split"]), is_multi=order["is_multi"], most_bytes=limit or None
    )
    waiting: deque[Future[bytes]] = deque()
    while True:
        for records in itertools.islice(requests, order["concurrent"] - len(waiting)):
            waiting.append(pool.submit(_answer, order, variant, records, processing))
        if not waiting:
            return
        yield waiting.popleft().result()


def _answer(
    order: Mapping[str, Any],
    variant: Mapping[str, Any],
    records: Sequence[bytes],
    processing: Processing,
) -> bytes:
    """Return what is written for the records of one request."""
    kind = order["content_type"]
    body = body_of(records, processing, split=order["split"], form=form_of(kind))
    said = _asked(order, variant, body)
    is_lines = order["assemble"] == "Line"
    if processing.is_plain:
        ended = said.body.endswith(b"\n") or not is_lines
        return said.body if ended else said.body + b"\n"
    lines = joined(records, said.body, processing, given=form_of(kind), said=form_of(said.kind))
    # one answer in a file is a file of its own; several would run into each other
    end = b"\n" if is_lines or len(lines) > 1 else b""
    return b"".join(line + end for line in lines)


def _asked(order: Mapping[str, Any], variant: Mapping[str, Any], body: bytes) -> Said:
    asked = Asked(
        content_type=order["content_type"],
        accept=order["accept"],
        timeout_s=order["timeout_s"],
        is_batch=True,
    )
    for number in itertools.count():
        try:
            return _called(variant, body, asked)
        except ApiError as error:
            status, said = refusal_of(error)
            if status < 500 or number >= order["retries"]:
                raise ModelError(status, said) from error
            time.sleep(0.2 * 2**number)
    raise AssertionError  # it returns or raises


def _called(variant: Mapping[str, Any], body: bytes, asked: Asked) -> Said:
    if "containers" in variant:
        return called_chain(variant, body, asked)
    return called_model(
        variant,
        body,
        content_type=asked.content_type,
        accept=asked.accept,
        timeout_s=asked.timeout_s,
        is_batch=True,
    )


def _tell(log: IO[str], text: str) -> None:
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
    one_line = text.replace("\n", " ").replace("\r", " ")
    with _telling:
        log.write(f"{at}:[sagemaker logs]: {one_line}\n")
        log.flush()


if __name__ == "__main__":
    sys.exit(main())
