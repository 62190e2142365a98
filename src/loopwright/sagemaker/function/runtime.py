"""The process in which the code of a function runs: loads its handler, calls it, writes what it answers.

Started by `worker` with this file's path, so that it finds nothing of loopwright beside it. Errors
are told in the words of AWS's own runtime for Python.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_MOST_BYTES = 6_291_556


class Context:
    """What a handler is told of its call, as AWS's runtime tells it."""

    def __init__(self, about: Mapping[str, Any]) -> None:
        self.function_name: str = about["name"]
        self.function_version: str = about["version"]
        self.invoked_function_arn: str = about["arn"]
        self.memory_limit_in_mb: str = str(about["memory_mb"])
        self.aws_request_id: str = about["request"]
        self.log_group_name: str = about["group"]
        self.log_stream_name: str = about["stream"]
        self.identity = None
        self.client_context = about.get("client")
        self._until = float(about["until"])

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the call may go on."""
        return max(0, int((self._until - time.time()) * 1000))


class _Lines(logging.Handler):
    """Writes what is logged in the form of AWS's runtime."""

    def __init__(self, request: str) -> None:
        super().__init__()
        self._request = request

    def emit(self, record: logging.LogRecord) -> None:
        at = datetime.fromtimestamp(record.created, UTC)
        when = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
        print(f"[{record.levelname}]\t{when}\t{self._request}\t{self.format(record)}", flush=True)


class _FunctionError(Exception):
    """A fault of the function that is known by a name of its own."""

    def __init__(self, kind: str, message: str, trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.trace = trace or []


def main() -> int:
    """Call the handler and return the exit code: 0 also where it fails, since that is told."""
    base = Path(os.environ["SAGEMAKER_BASE_DIR"])
    about = json.loads((base / "config" / "call.json").read_bytes())
    sys.path.insert(0, str(base / "code"))
    logging.getLogger().addHandler(_Lines(about["request"]))
    try:
        handler = _handler(os.environ["_HANDLER"])
        event = json.loads((base / "config" / "event.json").read_bytes())
        answer = _answer(handler, event, Context(about))
        (base / "output" / "answer").write_bytes(answer)
    except _FunctionError as fault:
        _tell(base, about["request"], fault.kind, str(fault), fault.trace)
    except Exception as error:
        trace = error.__traceback__
        # this file's own lines say nothing to whom the function belongs
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        lines = traceback.format_list(traceback.extract_tb(trace))
        _tell(base, about["request"], type(error).__name__, str(error), lines)
    sys.stdout.flush()
    sys.stderr.flush()
    return 0


def _handler(text: str) -> Callable[[Any, Context], Any]:
    name, dot, function = text.rpartition(".")
    if not dot:
        raise _FunctionError(
            "Runtime.MalformedHandlerName",
            f"Bad handler '{text}': not enough values to unpack (expected 2, got 1)",
        )
    try:
        module = importlib.import_module(name.replace("/", "."))
    except ImportError as error:
        message = f"Unable to import module '{name}': {error}"
        raise _FunctionError("Runtime.ImportModuleError", message) from error
    except SyntaxError as error:
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text or ""}']
        message = f"Syntax error in module '{name}': {error}"
        raise _FunctionError("Runtime.UserCodeSyntaxError", message, trace) from error
    found = getattr(module, function, None)
    if not callable(found):
        message = f"Handler '{function}' missing on module '{name}'"
        raise _FunctionError("Runtime.HandlerNotFound", message)
    return found  # type: ignore[no-any-return]


def _answer(handler: Callable[[Any, Context], Any], event: Any, context: Context) -> bytes:
    value = handler(event, context)
    try:
        text = json.dumps(value, ensure_ascii=False, default=_number)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"Unable to marshal response: {error}"
        raise _FunctionError("Runtime.MarshalError", message) from error
    data = text.encode()
    if len(data) > _MOST_BYTES:
        message = (
            f"Response payload size exceeded maximum allowed payload size ({_MOST_BYTES} bytes)."
        )
        raise _FunctionError("Function.ResponseSizeTooLarge", message)
    return data


def _number(value: Any) -> Any:
    # DynamoDB's numbers, as in AWS's runtime
    if type(value).__name__ == "Decimal":
        return float(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _tell(base: Path, request: str, kind: str, message: str, trace: list[str]) -> None:
    told = {"errorMessage": message, "errorType": kind, "requestId": request, "stackTrace": trace}
    shown = f"[ERROR] {kind}: {message}\n" + (
        "Traceback (most recent call last):\n" if trace else ""
    )
    print(shown + "".join(trace), flush=True)
    (base / "output" / "error").write_text(json.dumps(told))


if __name__ == "__main__":
    sys.exit(main())
