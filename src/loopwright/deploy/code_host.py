"""The process of a user's own code: `python -P code_host.py SOCKET MODEL_DIR PROGRAM MOST_BYTES`.

Runs in the user's environment and imports nothing of loopwright. It loads the program, calls
`model_fn`, says that it is ready, and answers one request after the other until its socket ends.
Defaults are those of `sagemaker-inference`; a model with `predict` needs no `predict_fn`, as in
SageMaker's scikit-learn container.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import io
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

HANDLERS = ("model_fn", "input_fn", "predict_fn", "output_fn", "transform_fn")
_TEXT_TYPES = ("application/json", "text/csv")
_MOST_REQUEST_BYTES = 1 << 40
_MESSAGE_CHARACTERS = 1000


class NotUnderstoodError(Exception):
    """A request that the defaults cannot read or answer, with the status that says so."""

    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code


class Context:
    """What functions with a parameter `context` are given: the request's headers, the model's place."""

    def __init__(self, model_dir: str) -> None:
        self.system_properties = {"model_dir": model_dir, "gpu_id": None}
        self.headers: dict[str, str] = {}
        self.content_type: str | None = None

    def get_request_header(self, _index: int, name: str) -> str | None:
        """Return a header of the request."""
        return self.headers.get(name.lower())

    def get_all_request_header(self, _index: int) -> dict[str, str]:
        """Return the headers of the request, their names in lower case."""
        return dict(self.headers)

    def set_response_content_type(self, _index: int, value: str) -> None:
        """Say what the answer is."""
        self.content_type = value


class Handlers:
    """The functions of a program, and defaults for those it does not have."""

    def __init__(self, module: Any, model_dir: str) -> None:
        self.found = {
            name: getattr(module, name)
            for name in HANDLERS
            if callable(getattr(module, name, None))
        }
        parts = {"input_fn", "predict_fn", "output_fn"} & set(self.found)
        if "transform_fn" in self.found and parts:
            raise ValueError(
                "transform_fn cannot be used together with input_fn, predict_fn or output_fn"
            )
        if "model_fn" not in self.found:
            raise ValueError("there is no model_fn(model_dir)")
        self.context = Context(model_dir)
        self.model = self._call("model_fn", model_dir)
        self.predicts = "predict_fn" in self.found or "transform_fn" in self.found
        if not self.predicts and not callable(getattr(self.model, "predict", None)):
            raise ValueError("there is no predict_fn, and the model has no predict")

    def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return the answer to one request, and its content type."""
        self.context.content_type = None
        default = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "application/json")
        accept = accept if accept and accept != "*/*" else default
        data: Any = body
        if content_type.partition(";")[0].strip().lower() in _TEXT_TYPES:
            try:
                data = body.decode()
            except UnicodeDecodeError as error:
                raise NotUnderstoodError(400, f"The body is not UTF-8: {error}.") from error
        result = self._result(data, content_type, accept)
        if isinstance(result, tuple) and len(result) == 2:
            result, accept = result
        return _as_bytes(result), str(self.context.content_type or accept)

    def _result(self, data: Any, content_type: str, accept: str) -> Any:
        if "transform_fn" in self.found:
            return self._call("transform_fn", self.model, data, content_type, accept)
        read = self._call("input_fn", data, content_type)
        answer = self._call("predict_fn", read, self.model)
        return self._call("output_fn", answer, accept)

    def _call(self, name: str, *arguments: Any) -> Any:
        function = self.found.get(name) or _DEFAULTS[name]
        if "context" in _parameters(function) and name in self.found:
            return function(*arguments, context=self.context)
        return function(*arguments)


def _parameters(function: Callable[..., Any]) -> Any:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()


# --- the defaults ---


def _default_input(data: Any, content_type: str) -> Any:
    """Return a body as an array, as `sagemaker_inference.decoder` does; no pickles are read."""
    import numpy as np

    kind = content_type.partition(";")[0].strip().lower()
    raw = data.encode() if isinstance(data, str) else data
    try:
        if kind == "application/json":
            return np.array(json.loads(raw))
        if kind == "text/csv":
            return np.genfromtxt(io.BytesIO(raw), delimiter=",", encoding="utf-8")
        if kind == "application/x-npy":
            return np.load(io.BytesIO(raw), allow_pickle=False)
        if kind == "application/x-npz":
            from scipy import sparse

            return sparse.load_npz(io.BytesIO(raw))
    except (ValueError, EOFError, OSError) as error:
        raise NotUnderstoodError(400, f"The body is no {kind}: {error}") from error
    raise NotUnderstoodError(
        415, f"Content type {kind!r} is not understood; write an input_fn that understands it."
    )


def _default_predict(data: Any, model: Any) -> Any:
    return model.predict(data)


def _default_output(prediction: Any, accept: str) -> Any:
    """Return a prediction as JSON, CSV or npy, as `sagemaker_inference.encoder` does."""
    for each in accept.split(","):
        kind = each.partition(";")[0].strip().lower()
        if kind in ("application/json", "*/*", "application/*"):
            return json.dumps(prediction, default=_plain), "application/json"
        if kind in ("text/csv", "application/x-npy"):
            import numpy as np

            out = io.BytesIO()
            if kind == "text/csv":
                np.savetxt(out, np.atleast_1d(prediction), delimiter=",", fmt="%s")
            else:
                np.save(out, np.asarray(prediction), allow_pickle=False)
            return out.getvalue(), kind
    raise NotUnderstoodError(
        406, f"Answers do not come as {accept!r}; write an output_fn that makes them so."
    )


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is not JSON; write an output_fn")


_DEFAULTS: dict[str, Callable[..., Any]] = {
    "input_fn": _default_input,
    "predict_fn": _default_predict,
    "output_fn": _default_output,
}


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if hasattr(value, "response"):  # the containers' own `worker.Response`
        return _as_bytes(value.response)
    return json.dumps(value, default=_plain).encode()


# --- the process ---


def main(arguments: list[str]) -> int:
    """Answer requests until the endpoint closes the line."""
    frame = _sibling("code_frame")
    line = socket.socket(fileno=int(arguments[0]))
    line.set_inheritable(False)
    model_dir, program, most_bytes = arguments[1], arguments[2], int(arguments[3])
    began_at = time.monotonic()
    try:
        module = importlib.import_module(program.removesuffix(".py").replace("/", "."))
        handlers = Handlers(module, model_dir)
    except BaseException as error:
        traceback.print_exc()
        frame.send_message(line, {"failed": _told(error), "hint": ""})
        return 1
    own = os.getpid()
    _leave_copies(own)
    ready = {"ready": True, "seconds": time.monotonic() - began_at, "found": list(handlers.found)}
    frame.send_message(line, ready)
    while (message := frame.receive_message(line, most_bytes=_MOST_REQUEST_BYTES)) is not None:
        head, body = message
        answer, answered = _answered(handlers, head, body, most_bytes)
        _leave_copies(own)
        frame.send_message(line, answer, answered)
    return 0


def _leave_copies(own: int) -> None:
    """End a copy of this process that the code forked and that came back from it."""
    if os.getpid() != own:
        os._exit(0)


def _answered(
    handlers: Handlers, head: dict[str, Any], body: bytes, most_bytes: int
) -> tuple[dict[str, Any], bytes]:
    own, number = os.getpid(), head["id"]
    handlers.context.headers = head["headers"]
    try:
        answer, kind = handlers.answer(body, head["content_type"], head["accept"])
    except BaseException as error:  # sys.exit ends no endpoint
        _leave_copies(own)
        status = getattr(error, "status_code", 500)
        status = status if isinstance(status, int) and 400 <= status < 600 else 500
        if status >= 500:
            traceback.print_exc()
        said = str(error) if isinstance(error, NotUnderstoodError) else _told(error)
        return {"id": number, "status": status, "message": said[:_MESSAGE_CHARACTERS]}, b""
    if len(answer) > most_bytes:
        said = f"The answer has {len(answer):,} bytes; at most {most_bytes:,} are sent"
        return {"id": number, "status": 500, "message": said}, b""
    return {"id": number, "status": 200, "content_type": kind}, answer


def _told(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text[:_MESSAGE_CHARACTERS]


def _sibling(name: str) -> Any:
    """Load a module that lies beside this file, whose folder must hide nothing from the code."""
    spec = importlib.util.spec_from_file_location(
        f"loopwright_{name}", Path(__file__).with_name(f"{name}.py")
    )
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
