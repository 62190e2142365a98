"""A user's own inference code behind an endpoint: the SageMaker contract, and what may go wrong in it."""

from __future__ import annotations

import importlib
import io
import os
import signal
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.deploy import read_capture
from loopwright.deploy.code_settings import CodeSettings
from loopwright.deploy.own_code import open_own_code

Run = Callable[..., Any]

ECHO = """
def model_fn(model_dir):
    with open(f"{model_dir}/slope.txt") as file:
        return float(file.read())

def predict_fn(data, model):
    return data * model
"""

# does what the request says
TROUBLE = """
import ctypes, json, os, subprocess, sys, time

def model_fn(model_dir):
    return []

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(wish, model):
    if wish == "raise":
        return 1 / 0
    if wish == "exit":
        sys.exit(3)
    if wish == "die":
        os._exit(3)
    if wish == "crash":
        ctypes.string_at(0)
    if wish == "hang":
        time.sleep(60)
    if wish == "grow":
        while True:
            model.append(bytearray(os.urandom(1 << 20)) * 8)
            time.sleep(0.005)
    if wish == "ask for much":
        return len(bytearray(8 << 30))
    if wish == "fork":
        if os.fork() == 0:
            return "the copy"
    if wish == "multiply":
        for _ in range(20):
            subprocess.Popen(["sleep", "30"], start_new_session=True)
        time.sleep(5)
    if wish == "print":
        for _ in range(300):
            print("x" * 65535, flush=False)
    if wish == "huge":
        return "x" * 2_000_000
    return os.getpid()

def output_fn(answer, accept):
    return json.dumps(answer), accept
"""


def archive(path: Path, program: str, files: Mapping[str, bytes] | None = None) -> str:
    members = {"code/inference.py": program.encode(), "slope.txt": b"2.5", **(files or {})}
    with tarfile.open(path, "w:gz") as out:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return str(path)


@pytest.fixture
def run_code(run_endpoint: Run, tmp_path: Path) -> Run:
    def run(program: str, files: Mapping[str, bytes] | None = None, **settings: Any) -> Any:
        bundle = archive(tmp_path / "model.tar.gz", program, files)
        return run_endpoint(bundle=bundle, code=CodeSettings(**settings))

    return run


@pytest.fixture
def ask(run_code: Run) -> Run:
    site = run_code(TROUBLE, timeout_s=20.0, max_answer_bytes=1_000_000, memory="300 MiB")

    def post(wish: str) -> tuple[int, Any]:
        with site.dial() as line:
            status, _, answer = line.post(wish).hear()
        return status, answer

    return post


def test_the_four_functions_answer_and_the_answer_is_captured(run_code: Run) -> None:
    site = run_code(ECHO)

    with site.dial() as line:
        status, headers, answer = line.post([1, 2, 4], headers="X-Inference-Id: a\r\n").hear()

    assert (status, answer) == (200, [2.5, 5.0, 10.0])
    assert headers["x-model-version"] == "v1"
    assert headers["x-inference-id"] == "a"
    frame = read_capture(site.folder / "capture").frame
    assert frame["inference_id"].to_list() == ["a:0", "a:1", "a:2"]


def test_the_defaults_read_and_write_npy_and_csv(run_code: Run) -> None:
    site = run_code(ECHO)
    npy = io.BytesIO()
    np.save(npy, np.array([[1.0, 2.0]]))

    with site.dial() as line:
        head = "POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nAccept: {}\r\n"
        for body, kind, accept in (
            (npy.getvalue(), "application/x-npy", "application/x-npy"),
            (b"1,2\n3,4\n", "text/csv; charset=utf-8", "text/csv"),
        ):
            line.say((head.format(kind, accept) + f"Content-Length: {len(body)}\r\n\r\n").encode())
            line.say(body)
        binary, text = line.hear(), line.hear()

    assert np.load(io.BytesIO(binary[2])).tolist() == [[2.5, 5.0]]
    assert text[2] == b"2.5,5.0\n7.5,10.0\n"


def test_what_the_defaults_cannot_read_or_write_is_the_callers_fault(run_code: Run) -> None:
    site = run_code(ECHO)

    with site.dial() as line:
        unknown = line.post(1, headers="Accept: image/png\r\n").hear()
        line.say(
            b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 4\r\n\r\n[1,2"
        )
        torn = line.hear()

    assert unknown[0] == 406
    assert "image/png" in unknown[2]["error"]["message"]
    assert torn[0] == 400


def test_a_transform_fn_with_a_context_sees_the_headers_and_not_the_token(run_code: Run) -> None:
    program = """
import json
def model_fn(model_dir, context):
    return model_dir
def transform_fn(model, body, content_type, accept, context):
    context.set_response_content_type(0, "text/plain")
    return json.dumps([model, body, sorted(context.get_all_request_header(0))])
"""
    site = run_code(program)

    with site.dial() as line:
        status, headers, answer = line.post("hi", headers="Authorization: Bearer s\r\n").hear()

    assert (status, headers["content-type"]) == (200, "text/plain")
    assert b"/opt/ml/model" in answer or b"own-code" in answer
    assert b"authorization" not in answer
    assert b"content-type" in answer


def test_code_sees_its_model_under_opt_ml_and_none_of_the_endpoints_secrets(
    run_code: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "geheim")
    program = """
import os
def model_fn(model_dir):
    try:
        with open(f"{model_dir}/slope.txt", "w") as file:
            file.write("spoilt")
    except OSError:
        pass
    return [model_dir, os.environ.get("DATABASE_PASSWORD"), os.environ.get("MINE"), os.getcwd()]
def predict_fn(data, model):
    return model
"""
    site = run_code(program, variables={"MINE": "yes"})

    with site.dial() as line:
        model_dir, password, mine, cwd = line.post(1).hear()[2]

    assert (password, mine, cwd) == (None, "yes", f"{model_dir}/code")
    if model_dir == "/opt/ml/model":
        (unpacked,) = (site.folder / "own-code").glob("*/model/slope.txt")
        assert unpacked.read_text() == "2.5"


@pytest.mark.parametrize("wish", ["raise", "exit", "huge", "ask for much"])
def test_code_that_fails_on_a_request_goes_on_with_the_next(ask: Run, wish: str) -> None:
    _, before = ask("")

    status, said = ask(wish)

    assert status == 500
    expected = {"raise": "ZeroDivisionError", "exit": "SystemExit", "huge": "at most 1,000,000"}
    assert expected.get(wish, "MemoryError") in said["error"]["message"]
    assert ask("") == (200, before)


@pytest.mark.parametrize(("wish", "why"), [("die", "code 3"), ("crash", "SIGSEGV")])
def test_code_that_ends_is_started_again(ask: Run, wish: str, why: str) -> None:
    _, before = ask("")

    status, said = ask(wish)

    assert status == 500
    assert why in said["error"]["message"]
    status, after = ask("")
    assert status == 200
    assert after != before


def test_code_that_takes_too_much_memory_is_ended_and_started_again(ask: Run) -> None:
    status, said = ask("grow")

    assert status == 500
    assert "300 MiB" in said["error"]["message"] or "MemoryError" in said["error"]["message"]
    assert ask("")[0] == 200


def test_a_copy_that_comes_back_from_a_fork_says_nothing(ask: Run) -> None:
    _, before = ask("")

    assert ask("fork") == (200, before)
    assert ask("") == (200, before)


def test_code_that_prints_without_end_answers_and_its_output_is_cut(
    ask: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ask("print")[0] == 200
    assert ask("")[0] == 200

    printed = capfd.readouterr().err
    assert len(printed) < 3 << 20


def test_code_that_hangs_is_cut_off_and_started_again(run_code: Run) -> None:
    site = run_code(TROUBLE, timeout_s=0.3)

    with site.dial() as line:
        began_at = time.monotonic()
        status, _, said = line.post("hang").hear()
        took_s = time.monotonic() - began_at
        end = time.monotonic() + 10
        while line.post("").hear()[0] != 200 and time.monotonic() < end:
            time.sleep(0.05)
        after = line.post("").hear()[0]

    assert (status, after) == (504, 200)
    assert "0.3 seconds" in said["error"]["message"]
    assert took_s < 3


def test_processes_that_code_leaves_behind_end_with_it(run_code: Run) -> None:
    site = run_code(TROUBLE, most_processes=8, timeout_s=4.0)

    with site.dial() as line:
        status, _, said = line.post("multiply").hear()
        again = line.post("").hear()[0]

    assert (status, again) == (500, 200)
    assert "processes" in said["error"]["message"]


def test_code_that_was_killed_between_two_requests_answers_the_next(run_code: Run) -> None:
    site = run_code(TROUBLE, max_waiting=1)

    with site.dial() as line:
        for _ in range(3):
            status, _, pid = line.post("").hear()
            assert status == 200
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        status, _, last = line.post("").hear()

    assert (status, last != pid) == (200, True)


def test_labels_metrics_and_the_description_go_on_while_code_hangs(run_code: Run) -> None:
    site = run_code(TROUBLE, timeout_s=1.5)

    with site.dial() as busy, site.dial() as line:
        busy.post("hang")
        began_at = time.monotonic()
        said = [
            line.get("/ping").hear()[0],
            line.post({"inference_id": "a", "label": 1}, path="/labels").hear()[0],
            line.get("/openapi.json").hear()[0],
            line.get("/metrics").hear()[0],
        ]
        took_s = time.monotonic() - began_at
        assert busy.hear()[0] == 504

    assert said == [200, 202, 200, 200]
    assert took_s < 1


def test_too_many_requests_for_the_code_are_turned_away_at_once(run_code: Run) -> None:
    site = run_code(TROUBLE, timeout_s=0.5, max_waiting=1)

    with site.dial() as first, site.dial() as second:
        first.post("hang")
        time.sleep(0.1)
        status, headers, _ = second.post("").hear()
        first.hear()

    assert (status, headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("def model_fn(d):\n    raise KeyError('weights')", "KeyError"),
        ("import no_such_module", "no_such_module"),
        ("def predict_fn(d, m): return 1", "no model_fn"),
        ("def model_fn(d): return 1", "no predict_fn"),
        ("import os\nos._exit(4)", "code 4"),
        ("def model_fn(d):\n    import time; time.sleep(60)", "not ready after 0.8 seconds"),
    ],
)
def test_code_that_cannot_load_stops_the_start_and_says_why(
    tmp_path: Path, program: str, why: str
) -> None:
    bundle = Path(archive(tmp_path / "model.tar.gz", program))

    with pytest.raises(InvalidInputError) as caught:
        open_own_code(
            bundle,
            CodeSettings(start_timeout_s=0.8),
            folder=tmp_path / "own",
            name="main",
            digest=None,
        )

    assert why in caught.value.message


def test_requirements_are_installed_once_and_seen_by_the_code_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.setenv(name, "1")
    made = wheel(tmp_path)
    files = {
        "code/requirements.txt": f"./{made.name}".encode(),
        f"code/{made.name}": made.read_bytes(),
    }
    program = "import tiny_probe\n" + ECHO
    bundle = Path(archive(tmp_path / "model.tar.gz", program, files))

    for _ in range(2):
        model = open_own_code(
            bundle, CodeSettings(), folder=tmp_path / "own", name="main", digest=None
        )
        model.close(wait_s=5)

    kept = [each for each in (tmp_path / "own/environments").iterdir() if each.is_dir()]
    assert len(kept) == 1
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("tiny_probe")


def wheel(folder: Path) -> Path:
    """Write a package that no index is needed for."""
    path, about = folder / "tiny_probe-1.0-py3-none-any.whl", "tiny_probe-1.0.dist-info"
    files = {
        "tiny_probe.py": "",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: tiny-probe\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as file:
        for name, text in files.items():
            file.writestr(name, text)
        file.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in files))
    return path


def test_a_change_to_code_that_does_not_load_leaves_the_old_code_serving(
    run_code: Run, tmp_path: Path
) -> None:
    site = run_code(ECHO)

    bundle = archive(tmp_path / "next.tar.gz", "def model_fn(d): return 1 / 0")
    site.desire(bundle=bundle, code=CodeSettings())
    with pytest.raises(BackendError, match="ZeroDivisionError"):
        site.wait()

    with site.dial() as line:
        assert line.post([2]).hear()[2] == [5.0]


def test_code_is_exchanged_between_two_requests_and_the_old_processes_leave(
    run_code: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopwright.deploy.model_set._CODE_LEAVES_S", 0.1)
    pid = (
        "\nimport os\ndef output_fn(data, accept):\n    return str([os.getpid(), float(data[0])])\n"
    )
    site = run_code(ECHO + pid)
    with site.dial() as line:
        first, answer = line.post([2]).hear()[2]

        bundle = archive(tmp_path / "next.tar.gz", ECHO.replace("data * model", "data + 1") + pid)
        site.desire(bundle=bundle, code=CodeSettings())
        site.wait()
        second, after = line.post([2]).hear()[2]

    assert (answer, after) == (5.0, 3.0)
    assert first != second
    end = time.monotonic() + 10
    while Path(f"/proc/{first}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not Path(f"/proc/{first}").exists()


def test_own_code_is_a_variant_beside_another_model(run_endpoint: Run, site: Any) -> None:
    from loopwright.deploy import Variant

    own = archive(site.folder / "own.tar.gz", ECHO)
    slope = str(site.standin.write_bundle(site.folder / "a.json", slope=2.0))
    run_endpoint(
        bundle="",
        version="",
        variants=(
            Variant(name="old", bundle=slope, version=1),
            Variant(name="own", bundle=own, version=2, weight=0.0, code=CodeSettings()),
        ),
    )

    with site.dial() as line:
        usual = line.post({"area": 10, "city": None}).hear()[2]
        target = "X-Amzn-SageMaker-Target-Variant: own\r\n"
        _, headers, answer = line.post([2], headers=target).hear()
        metrics = line.get("/metrics").hear()[2].decode()

    assert usual["prediction"] == 20.0
    assert (answer, headers["x-amzn-invoked-production-variant"]) == ([5.0], "own")
    assert 'variant_requests_total{variant="own",outcome="answered"} 1' in metrics


def test_routes_that_need_rows_are_refused_and_requests_for_later_are_answered(
    run_code: Run,
) -> None:
    site = run_code(ECHO)
    tensor = {"name": "a", "shape": [1], "datatype": "FP64", "data": [1.0]}

    with site.dial() as line:
        explained = line.post([1], path="/explain").hear()
        inferred = line.post({"inputs": [tensor]}, path="/v2/models/main/infer").hear()
        taken = line.post([3], path="/async-invocations").hear()
        status, end = 202, time.monotonic() + 10
        while status == 202 and time.monotonic() < end:
            time.sleep(0.01)
            status, _, answer = line.get(taken[1]["location"]).hear()

    assert (explained[0], inferred[0], taken[0]) == (400, 400, 202)
    assert "/invocations" in explained[2]["error"]["hint"]
    assert (status, answer) == (200, [7.5])


def test_own_code_as_a_shadow_is_asked_and_nobody_waits(run_endpoint: Run, site: Any) -> None:
    from loopwright.deploy import Variant

    program = "import time\n" + TROUBLE.replace("    return os.getpid()", "    time.sleep(0.2)")
    own = archive(site.folder / "own.tar.gz", program)
    slope = str(site.standin.write_bundle(site.folder / "a.json", slope=2.0))
    run_endpoint(
        bundle="",
        version="",
        variants=(
            Variant(name="old", bundle=slope, version=1),
            Variant(name="own", bundle=own, version=2, shadow=True, code=CodeSettings()),
        ),
    )

    with site.dial() as line:
        began_at = time.monotonic()
        assert line.post({"area": 10, "city": None}).hear()[0] == 200
        took_s = time.monotonic() - began_at
        text, end = "", time.monotonic() + 5
        while 'variant="own",outcome="answered"} 1' not in text and time.monotonic() < end:
            text = line.get("/metrics").hear()[2].decode()

    assert took_s < 0.15
    assert 'shadow_requests_total{variant="own",outcome="answered"} 1' in text


def test_processes_of_the_code_leave_with_an_endpoint_that_is_killed(
    site: Any, start_process: Run
) -> None:
    bundle = archive(site.folder / "model.tar.gz", TROUBLE)
    site.desire(bundle=bundle, code=CodeSettings())
    endpoint = start_process()
    with site.dial() as line:
        pid = line.post("").hear()[2]
        line.post("hang")
        time.sleep(0.05)

        endpoint.kill()

    end = time.monotonic() + 10
    while _lives(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _lives(pid)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return b"Z" not in Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")")[1][:3]
