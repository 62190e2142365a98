"""A model that a script serves: SageMaker's inference contract in a process of its own.

`python -m loopwright.sagemaker.inference_worker`, in the folder of its job. It shows the model as
`/opt/ml/model` where the machine allows it, makes the environment of the script's requirements,
and answers `GET /ping` and `POST /invocations` with the script's own functions.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from loopwright.core.errors import LoopwrightError
from loopwright.core.files import write_json_atomically
from loopwright.train.environment import environment_python
from loopwright.train.script import job_packages
from loopwright.train.script_contract import BASE, HOST
from loopwright.train.script_mount import enter_private_view

_LARGEST_BODY = 64 << 20
_JSON, _CSV, _NPY = "application/json", "text/csv", "application/x-npy"
_STAGE = "LOOPWRIGHT_INFERENCE_STAGE"


def main() -> int:
    """Serve until told to end; return the exit code."""
    folder = Path.cwd()
    order = json.loads((folder / "inference.json").read_bytes())
    stage = os.environ.get(_STAGE, "")
    if not stage:
        python = _python(order)
        if python != sys.executable:
            paths = [each for each in sys.path if each]
            os.environ["PYTHONPATH"] = os.pathsep.join(paths)
            _again(python, "prepared")
    if stage != "plain":
        ml = _laid_out(folder, order)
        try:
            enter_private_view(
                str(ml), channels={}, scratch=str(folder / "scratch"), hosts=str(folder / "hosts")
            )
        except OSError as error:
            # the view may be half made: begin again without one
            print(f"{BASE} cannot be shown to the script: {error}.", flush=True)
            _again(sys.executable, "plain")
        base = BASE
    else:
        base = str(folder / "ml")
    return _serve(folder, order, base)


def _again(python: str, stage: str) -> None:
    os.environ[_STAGE] = stage
    os.execv(python, [python, "-P", "-m", "loopwright.sagemaker.inference_worker"])  # noqa: S606 no shell is wanted


def _python(order: dict[str, str]) -> str:
    requirements = Path(order["code"]) / "requirements.txt"
    if not requirements.is_file():
        return sys.executable
    found = environment_python(
        requirements,
        root=Path(order["environments"]),
        python=sys.executable,
        packages=job_packages(),
        beside=Path(order["code"]),
    )
    return str(found)


def _laid_out(folder: Path, order: dict[str, str]) -> Path:
    """Make the folder that is seen as `/opt/ml`: copies, since the script may write there."""
    import shutil

    ml = folder / "ml"
    shutil.rmtree(ml, ignore_errors=True)
    shutil.copytree(order["model"], ml / "model")
    code = Path(order["code"])
    if not code.is_relative_to(order["model"]):
        shutil.copytree(code, ml / "model" / "code", dirs_exist_ok=True)
    (folder / "scratch").mkdir(exist_ok=True)
    hosts = Path("/etc/hosts")
    known = hosts.read_text(errors="replace") if hosts.exists() else "127.0.0.1 localhost\n"
    (folder / "hosts").write_text(f"{known.rstrip()}\n127.0.0.1 {HOST}\n")
    return ml


def _serve(folder: Path, order: dict[str, str], base: str) -> int:
    model_dir = f"{base}/model"
    code = Path(model_dir) / "code"
    os.environ.update(
        {
            "SAGEMAKER_BASE_DIR": base,
            "SM_MODEL_DIR": model_dir,
            "SAGEMAKER_SUBMIT_DIRECTORY": str(code),
            "SAGEMAKER_PROGRAM": order["program"],
        }
    )
    os.chdir(code)
    sys.path[:0] = [str(code)]
    try:
        script = Script(_module(code / order["program"]), model_dir)
    except Exception:
        traceback.print_exc()
        return 1
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_for(script))
    server.daemon_threads = True
    write_json_atomically(
        folder / "serving.json", {"port": server.server_address[1], "pid": os.getpid()}
    )
    print(f"Serving {order['program']} on port {server.server_address[1]}.", flush=True)
    server.serve_forever()
    return 0


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise LoopwrightError(f"{path.name} is no Python module.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


class UnsupportedTypeError(Exception):
    """A media type that neither the script nor the defaults read or write."""


class Script:
    """The functions of a script, and the defaults for those it does not have.

    Parameters
    ----------
    module
        The script. It has `model_fn(model_dir)`, and may have `input_fn(body, content_type)`,
        `predict_fn(data, model)`, `output_fn(prediction, accept)`, or `transform_fn` for all three.
    model_dir
        Where its model lies.
    """

    def __init__(self, module: Any, model_dir: str) -> None:
        if not hasattr(module, "model_fn"):
            raise LoopwrightError(f"{module.__name__} has no model_fn(model_dir).")
        self._model = module.model_fn(model_dir)
        self._input: Callable[..., Any] = getattr(module, "input_fn", decoded)
        self._predict: Callable[..., Any] = getattr(module, "predict_fn", _predicted)
        self._output: Callable[..., Any] = getattr(module, "output_fn", encoded)
        self._transform: Callable[..., Any] | None = getattr(module, "transform_fn", None)
        self._one_at_a_time = threading.Lock()

    def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """Return the body of an answer and its media type."""
        given: bytes | str = body
        if content_type.partition(";")[0] in (_JSON, _CSV) or content_type.startswith("text/"):
            given = body.decode()
        # scripts are written for servers that ask them one thing at a time
        with self._one_at_a_time:
            if self._transform is not None:
                found = self._transform(self._model, given, content_type, accept)
            else:
                data = self._input(given, content_type)
                found = self._output(self._predict(data, self._model), accept)
        value, kind = found if isinstance(found, tuple) else (found, accept)
        return (value if isinstance(value, bytes) else str(value).encode()), kind


def decoded(body: bytes | str, content_type: str) -> Any:
    """Return an array from a body, as SageMaker's own containers read it."""
    import numpy as np

    kind = content_type.partition(";")[0].strip()
    if kind == _JSON:
        return np.array(json.loads(body))
    if kind == _CSV:
        text = body if isinstance(body, str) else body.decode()
        return np.genfromtxt(io.StringIO(text), delimiter=",")
    if kind in (_NPY, "application/x-npz"):
        raw = body if isinstance(body, bytes) else body.encode()
        return np.load(io.BytesIO(raw), allow_pickle=False)
    raise UnsupportedTypeError(f"Content type {content_type} is not supported by this model.")


def encoded(prediction: Any, accept: str) -> tuple[bytes, str]:
    """Return the body of an answer from an array."""
    import numpy as np

    kind = accept.partition(";")[0].strip()
    value = prediction.to_numpy() if hasattr(prediction, "to_numpy") else prediction
    array = np.asarray(value)
    if kind in ("", "*/*", _JSON):
        return json.dumps(array.tolist()).encode(), _JSON
    buffer = io.BytesIO()
    if kind == _CSV:
        np.savetxt(buffer, array, delimiter=",", fmt="%s")
    elif kind == _NPY:
        np.save(buffer, array, allow_pickle=False)
    else:
        raise UnsupportedTypeError(f"Accept {accept} is not supported by this model.")
    return buffer.getvalue(), kind


def _predicted(data: Any, model: Any) -> Any:
    return model.predict(data)


def _handler_for(script: Script) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200 if self.path == "/ping" else 404, b"", "text/plain")

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            if self.path != "/invocations" or length > _LARGEST_BODY:
                self.close_connection = True
                self._send(404 if self.path != "/invocations" else 413, b"", "text/plain")
                return
            body = self.rfile.read(length)
            usual = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", _JSON)
            accept = self.headers.get("accept") or usual
            accept = usual if accept == "*/*" else accept
            try:
                found, kind = script.answer(body, self.headers.get("content-type", _JSON), accept)
            except UnsupportedTypeError as error:
                self._send(415, str(error).encode(), "text/plain")
            except Exception as error:
                traceback.print_exc()
                sys.stderr.flush()
                self._send(500, f"{type(error).__name__}: {error}".encode(), "text/plain")
            else:
                self._send(200, found, kind)

        def _send(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind.replace("\n", " ").replace("\r", " "))
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            """Print nothing; a failed request prints its traceback."""

    return Handler


if __name__ == "__main__":
    sys.exit(main())
