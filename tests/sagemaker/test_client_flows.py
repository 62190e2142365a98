"""Programs of real clients, from environments of their own, against a server in its own process.

Nothing in `examples/sagemaker` knows loopwright. The notebooks run in a kernel of the SageMaker SDK 2,
the scripts under the SDK 3 and under boto3 alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from .conftest import started

ROOT = Path(__file__).parents[2]
LOCKS = Path(__file__).parent / "clients"
FLOWS = sorted(
    str(each.relative_to(ROOT / "examples" / "sagemaker"))
    for pattern in ("*/*.ipynb", "*/*.py")
    for each in (ROOT / "examples" / "sagemaker").glob(pattern)
)
# the SDKs look every 5 to 30 s whether a job has ended, so that programs mostly wait
TOGETHER = 4
LIMIT_S = 600


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a program ended."""

    status: int
    output: str
    seconds: float


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Return what a shell has after `eval $(loopwright env)`, of a server of these tests alone."""
    home = tmp_path_factory.mktemp("clients") / "home"
    home.mkdir(mode=0o700)
    with started(home) as (_, url):
        command = [sys.executable, "-m", "loopwright", "--home", str(home), "env", "--json"]
        plain = {key: each for key, each in os.environ.items() if key != "PYTHONPATH"}
        told = subprocess.run(
            [*command, "--url", url], env=plain, stdout=subprocess.PIPE, check=True, timeout=60
        )
        user = home.parent / "user"
        user.mkdir()
        yield {
            "PATH": os.environ["PATH"],
            "HOME": str(user),
            "OMP_NUM_THREADS": "1",
            **json.loads(told.stdout),
        }


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, shell: dict[str, str]
) -> Iterator[Mapping[str, Future[Ran]]]:
    """Return the programs, which all run at once, four at a time."""
    wanted = [
        each.callspec.params["flow"]
        for each in request.session.items
        if isinstance(each, pytest.Function)
        and hasattr(each, "callspec")
        and "flow" in each.callspec.params
    ]
    kinds = sorted({flow.split("/")[0] for flow in wanted})
    pythons = {kind: environment(kind) for kind in kinds}
    with ThreadPoolExecutor(TOGETHER) as pool:
        futures = {
            flow: pool.submit(ran, pythons[flow.split("/")[0]], flow, shell) for flow in wanted
        }
        yield futures
        for each in futures.values():
            each.cancel()
    found = {flow: each.result() for flow, each in futures.items() if not each.cancelled()}
    plugins = request.config.pluginmanager
    tell, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
    if tell is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            tell.write("\n" + "\n".join(table(found)) + "\n")


@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 300)
@pytest.mark.parametrize("flow", FLOWS)
def test_a_program_of_a_real_client_runs_unchanged(
    flow: str, runs: Mapping[str, Future[Ran]]
) -> None:
    found = runs[flow].result()

    assert found.status == 0, found.output[-6000:]


def test_no_program_knows_who_answers() -> None:
    for flow in FLOWS:
        assert "import loopwright" not in (ROOT / "examples" / "sagemaker" / flow).read_text()


def table(found: Mapping[str, Ran]) -> list[str]:
    """Return the passes of each client."""
    lines = ["", "client   passed", "------   ------"]
    for kind in sorted({flow.split("/")[0] for flow in found}):
        of_kind = [each for flow, each in found.items() if flow.startswith(f"{kind}/")]
        lines.append(f"{kind:8} {sum(each.status == 0 for each in of_kind)} of {len(of_kind)}")
    return [*lines, *(f"{flow}: {each.seconds:.0f} s" for flow, each in sorted(found.items()))]


def ran(python: Path, flow: str, shell: Mapping[str, str]) -> Ran:
    """Run a program in a folder of its own."""
    folder = Path(shell["HOME"]) / flow.replace("/", "-")
    folder.mkdir()
    path = ROOT / "examples" / "sagemaker" / flow
    environ = dict(shell)
    command = [str(python), str(path)]
    if path.suffix == ".ipynb":
        command = [sys.executable, "-c", "from nbclient.cli import main; main()"]
        command += ["--kernel_name=client", f"--timeout={LIMIT_S}", str(path)]
        environ["JUPYTER_PATH"] = str(kernel(python, folder, shell))
        del environ["PYTHONPATH"]
    start = time.monotonic()
    log = folder / "output.txt"
    with log.open("w") as file:
        ended = subprocess.run(
            command, cwd=folder, env=environ, stdout=file, stderr=file, timeout=LIMIT_S
        )
    return Ran(status=ended.returncode, output=log.read_text(), seconds=time.monotonic() - start)


def kernel(python: Path, folder: Path, shell: Mapping[str, str]) -> Path:
    """Write how Jupyter starts the environment's Python, with what the shell has."""
    place = folder / "jupyter" / "kernels" / "client"
    place.mkdir(parents=True)
    described = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "client",
        "language": "python",
        "env": {"PYTHONPATH": shell["PYTHONPATH"]},
    }
    (place / "kernel.json").write_text(json.dumps(described))
    return folder / "jupyter"


def environment(kind: str) -> Path:
    """Return the Python of a client's environment, which is made once for each lock file."""
    if kind == "boto3":
        return Path(sys.executable)
    lock = LOCKS / f"{kind}.lock"
    digest = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = Path(os.environ.get("LOOPWRIGHT_CLIENTS", Path(sys.prefix) / "clients"))
    place = folder / f"{kind}-{digest}"
    python, stamp = place / "bin" / "python", place / "complete"
    if stamp.exists():
        return python
    shutil.rmtree(place, ignore_errors=True)
    for command in _installs(place, python, lock):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if ended.returncode:
            said = f"The packages of {lock.name} cannot be had here: {ended.stderr[-500:]}"
            if os.environ.get("LOOPWRIGHT_CLIENTS_REQUIRED"):
                pytest.fail(said)
            pytest.skip(said)
    stamp.touch()
    return python


def _installs(place: Path, python: Path, lock: Path) -> list[list[str]]:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        return [
            [sys.executable, "-m", "venv", str(place)],
            [str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(lock)],
        ]
    wanted = ["--require-hashes", "-r", str(lock)]
    return [
        [uv, "venv", "--quiet", "--python", sys.executable, str(place)],
        [uv, "pip", "install", "--quiet", "--python", str(python), *wanted],
    ]
