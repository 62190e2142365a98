"""Scripts that run as jobs: what they find, what they leave, and how they may go wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from loopwright.compute import Capacity, Job, JobState, LocalCompute, Resources
from loopwright.core.clock import SystemClock
from loopwright.core.errors import WrongStateError
from loopwright.store import MemoryMetadataStore
from loopwright.train.script import retried_job, script_job
from loopwright.train.script_result import ScriptResult, read_script_result

SCRIPTS = Path(__file__).with_name("scripts")
ROOM = Capacity(cpus=8, memory_mib=8192)


@pytest.fixture
def compute(tmp_path: Path) -> LocalCompute:
    store = MemoryMetadataStore(SystemClock())
    return LocalCompute(store, tmp_path / "jobs", SystemClock(), capacity=ROOM)


Submit = Callable[..., Job]


@pytest.fixture
def submit(compute: LocalCompute, tmp_path: Path) -> Submit:
    """Return a function that writes a script and submits it."""

    def run(code: str, *, suffix: str = ".py", **given: Any) -> Job:
        path = tmp_path / f"train{suffix}"
        path.write_text(code)
        given = {"resources": Resources(cpus=0.5, memory="400 MiB"), "grace_s": 0.5} | given
        return compute.submit(script_job(path, home=tmp_path / "home", **given))

    return run


@pytest.fixture
def ended(submit: Submit, compute: LocalCompute) -> Callable[..., tuple[Job, ScriptResult]]:
    """Return a function that runs a script to its end."""

    def run(code: str, **given: Any) -> tuple[Job, ScriptResult]:
        job = compute.wait([submit(code, **given).id])[0]
        result = read_script_result(job.folder)
        assert result is not None, compute.log(job.id)
        return job, result

    return run


Ended = Callable[..., tuple[Job, ScriptResult]]


def members(archive: Path | None) -> dict[str, bytes]:
    assert archive is not None
    with tarfile.open(archive) as file:
        files = [member for member in file if member.isfile()]
        return {member.name: file.extractfile(member).read() for member in files}  # type: ignore[union-attr]


def test_a_script_finds_its_arguments_channels_and_folders(ended: Ended, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("1,2\n")
    (tmp_path / "test.csv").write_text("3\n")
    code = """
import json, os, socket, sys
found = {"args": sys.argv[1:], "cwd": os.getcwd(), "here": sorted(os.listdir("/opt/ml")),
         "train": os.listdir(os.environ["SM_CHANNEL_TRAIN"]),
         "test": open(os.environ["SM_CHANNEL_TEST"] + "/test.csv").read(),
         "host": socket.gethostbyname("algo-1")}
json.dump(found, open(os.environ["SM_MODEL_DIR"] + "/found.json", "w"))
open(os.environ["SM_OUTPUT_DATA_DIR"] + "/notes.txt", "w").write("seen")
"""

    job, result = ended(
        code,
        channels={"train": tmp_path / "rows", "test": tmp_path / "test.csv"},
        hyperparameters={"depth": 3, "loss": "mae"},
    )

    assert job.state is JobState.SUCCEEDED, job.reason
    found = json.loads(members(result.model)["found.json"])
    assert found == {
        "args": ["--depth", "3", "--loss", "mae"],
        "cwd": "/opt/ml/code",
        "here": ["checkpoints", "code", "input", "model", "output"],
        "train": ["a.csv"],
        "test": "3\n",
        "host": "127.0.0.1",
    }
    assert members(result.output) == {"notes.txt": b"seen"}
    assert (result.warnings, result.failure) == ((), "")


def test_the_machines_own_folders_stay_as_they_are(ended: Ended, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "a.csv").write_text("1\n")
    before = sorted(path.name for path in Path("/opt").iterdir())
    code = """
import os
print("seen", sorted(os.listdir("/opt")))
open("/opt/ml/model/m", "w").write("m")
for name in ("a.csv", "b.csv"):
    try:
        open("/opt/ml/input/data/train/" + name, "w").write("spoilt")
    except OSError as error:
        print(error)
"""

    job, _ = ended(code, channels={"train": rows})

    assert job.state is JobState.SUCCEEDED, job.reason
    assert sorted(path.name for path in Path("/opt").iterdir()) == before
    assert f"seen {sorted({*before, 'ml'})}" in (job.folder / "log.txt").read_text()
    assert {path.name: path.read_text() for path in rows.iterdir()} == {"a.csv": "1\n"}


def test_metrics_are_found_while_the_script_runs(submit: Submit, compute: LocalCompute) -> None:
    code = """
import os, time
for n in (3, 2, 1): print(f"rmse: {n / 4}")
while not os.path.exists("/opt/ml/checkpoints/go"): time.sleep(0.01)
print("rmse: 0.125")
"""
    job = submit(code, metrics={"rmse": "rmse: ([0-9.]+)"})
    metrics = job.folder / "out" / "metrics.jsonl"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and metrics_in(metrics) != [0.75, 0.5, 0.25]:
        time.sleep(0.02)

    live = metrics_in(metrics)
    assert job.checkpoints is not None
    (job.checkpoints / "go").touch()
    done = compute.wait([job.id])[0]

    assert live == [0.75, 0.5, 0.25]
    result = read_script_result(done.folder)
    assert result is not None
    assert result.metrics == {"rmse": 0.125}


def metrics_in(path: Path) -> list[float]:
    return (
        [json.loads(line)["value"] for line in path.read_text().splitlines()]
        if path.exists()
        else []
    )


def test_a_script_that_crashes_is_named_with_its_last_line(ended: Ended) -> None:
    job, result = ended("raise ValueError('the rows are not right')")

    assert (job.state, job.exit_code, result.exit_code) == (JobState.FAILED, 1, 1)
    assert (
        result.failure
        == "The script train.py exited with code 1: ValueError: the rows are not right"
    )
    assert "line 1, in <module>" in job.reason
    assert result.model is None


def test_links_that_lead_in_a_circle_cost_no_model(ended: Ended) -> None:
    code = """
import os
os.chdir(os.environ["SM_MODEL_DIR"])
open("weights", "w").write("w")
os.symlink("b", "a")
os.symlink("a", "b")
"""

    job, result = ended(code)

    assert job.state is JobState.SUCCEEDED, job.reason
    assert members(result.model) == {"weights": b"w"}
    assert result.warnings == tuple(
        f"left out of model.tar.gz: {name}: a link to no file" for name in "ab"
    )


def test_a_pipe_in_place_of_the_failure_keeps_nobody_waiting(ended: Ended) -> None:
    code = """
import os, sys
os.mkfifo("/opt/ml/output/failure")
os.mkfifo("/opt/ml/output/data/pipe")
sys.exit("out of luck")
"""

    job, result = ended(code, time_limit_s=20)

    assert job.state is JobState.FAILED
    assert result.failure == "The script train.py exited with code 1: out of luck"


def test_what_a_script_says_of_its_failure_is_the_reason(ended: Ended) -> None:
    code = "import sys; open('/opt/ml/output/failure', 'w').write('no rows'); sys.exit(255)"

    job, result = ended(code)

    assert (job.state, result.exit_code) == (JobState.FAILED, 255)
    assert result.failure == "The script says why it failed: no rows"
    assert job.reason.endswith("The script says why it failed: no rows")


def test_a_missing_package_is_named_with_the_remedy(ended: Ended) -> None:
    _, result = ended("import no_such_package.part")

    assert "'no_such_package'" in result.failure
    assert "Name it in a file of requirements." in result.failure


def test_a_script_without_a_model_succeeds_with_a_warning(ended: Ended) -> None:
    job, result = ended("print('done')")

    assert job.state is JobState.SUCCEEDED
    assert members(result.model) == {}
    assert result.warnings == (
        "The script ended well but left no file in SM_MODEL_DIR: model.tar.gz is empty.",
    )
    assert f"Warning: {result.warnings[0]}" in (job.folder / "log.txt").read_text()


def test_the_same_model_is_the_same_archive(ended: Ended) -> None:
    code = "import os; open(os.environ['SM_MODEL_DIR'] + '/m.txt', 'w').write('weights')"

    first, second = ended(code)[1], ended(code)[1]

    assert first.model_digest == second.model_digest != ""


def test_a_script_is_ended_at_its_time_limit_with_grace_and_keeps_its_model(ended: Ended) -> None:
    code = """
import os, signal, sys, time
def end(*_):
    open("/opt/ml/model/best.txt", "w").write("so far")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
time.sleep(60)
"""

    job, result = ended(code, time_limit_s=0.5, grace_s=20)

    assert (job.state, job.exit_code) == (JobState.FAILED, 124)
    assert result.failure == "It was ended at its time limit of 0.5 s."
    assert members(result.model) == {"best.txt": b"so far"}


def test_a_script_that_ignores_sigterm_is_killed_after_the_grace(ended: Ended) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"

    job, result = ended(code, time_limit_s=0.3, grace_s=0.3)

    assert job.state is JobState.FAILED
    assert result.exit_code == -signal.SIGKILL
    assert "time limit of 0.3 s" in result.failure


def test_a_script_that_is_stopped_may_save_and_goes_on_from_there_when_tried_again(
    submit: Submit, compute: LocalCompute
) -> None:
    code = """
import os, signal, sys, time
path = "/opt/ml/checkpoints/step.txt"
if os.path.exists(path):
    open("/opt/ml/model/m.txt", "w").write("went on from " + open(path).read())
    sys.exit(0)
def end(*_):
    open(path, "w").write("step 7")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("ready")
time.sleep(60)
"""
    job = submit(code)
    deadline = time.monotonic() + 20
    while "ready" not in compute.log(job.id) and time.monotonic() < deadline:
        time.sleep(0.02)

    stopped = compute.stop(job.id, grace_s=15)
    again = compute.wait([compute.submit(retried_job(stopped)).id])[0]

    assert stopped.state is JobState.STOPPED
    assert (again.state, again.attempt, again.key) == (JobState.SUCCEEDED, 2, job.key), again.reason
    result = read_script_result(again.folder)
    assert result is not None
    assert members(result.model) == {"m.txt": b"went on from step 7"}
    with pytest.raises(WrongStateError, match="is succeeded, and cannot be tried again"):
        retried_job(again)


def test_what_a_script_leaves_running_ends_with_it(ended: Ended, tmp_path: Path) -> None:
    code = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
open("/opt/ml/model/pid", "w").write(str(child.pid))
"""

    job, result = ended(code)

    assert job.state is JobState.SUCCEEDED
    assert not Path(f"/proc/{members(result.model)['pid'].decode()}").exists()


def test_a_script_that_fills_memory_is_ended_at_its_limit(
    submit: Submit, compute: LocalCompute
) -> None:
    code = "import time\nheld = [bytearray(8 << 20) for _ in range(60)]\ntime.sleep(30)"

    job = compute.wait([submit(code, resources=Resources(cpus=0.5, memory="150 MiB")).id])[0]

    assert job.state is JobState.FAILED
    assert "150 MiB" in job.reason


def test_a_log_that_goes_on_for_long_is_cut_and_the_metric_at_its_end_is_found(
    ended: Ended,
) -> None:
    code = """
import sys
for _ in range(700): sys.stdout.write("x" * 99999 + "\\n")
print("auc=0.75")
"""

    job, result = ended(code, metrics={"auc": "auc=([0-9.]+)"})

    assert job.state is JobState.SUCCEEDED
    assert result.metrics == {"auc": 0.75}
    assert (job.folder / "log.txt").stat().st_size < 70 << 20


@pytest.mark.parametrize(
    "code",
    [
        '#!/bin/sh\nprintf "%s|" "$@" > "$SM_MODEL_DIR/args"\n',
        'printf "%s|" "$@" > "$SM_MODEL_DIR/args"\n',
    ],
    ids=["with an interpreter", "without one"],
)
def test_a_shell_script_is_started_with_the_same_arguments(ended: Ended, code: str) -> None:
    job, result = ended(code, suffix=".sh", hyperparameters={"n": 1, "name": "two words"})

    assert job.state is JobState.SUCCEEDED, job.reason
    assert members(result.model) == {"args": b"-n|1|--name|two words|"}


def test_a_folder_of_code_is_importable_and_its_requirements_are_installed_once(
    compute: LocalCompute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        from test_environment import wheel  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.setenv(name, "1")
    source = tmp_path / "src"
    (source / "part").mkdir(parents=True)
    (source / "part" / "__init__.py").write_text("answer = 42\n")
    (source / "main.py").write_text(
        "import loopwright_probe, os, part\n"
        "print(loopwright_probe.version, part.answer, 'UV_OFFLINE' in os.environ)\n"
    )
    (source / "requirements.txt").write_text(f"./{wheel(source).name}\n")

    jobs = []
    for _ in range(2):
        spec = script_job(
            "main.py",
            home=tmp_path / "home",
            source_dir=source,
            resources=Resources(cpus=0.5, memory="1 GiB"),
        )
        jobs += compute.wait([compute.submit(spec).id])

    logs = [compute.log(job.id) for job in jobs]
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2, logs
    assert "1.0 42 False" in logs[0]
    assert "Installing the requirements" in logs[0]
    assert "Installing" not in logs[1]


@pytest.mark.slow  # pip is asked after uv, and brings itself: seconds
def test_requirements_that_cannot_be_installed_fail_the_job_in_the_installers_words(
    submit: Submit, compute: LocalCompute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX", "UV_OFFLINE"):
        monkeypatch.setenv(name, "1")
    path = tmp_path / "needs.txt"
    path.write_text("this is === no requirement\n")

    job = compute.wait(
        [submit("", requirements=path, resources=Resources(cpus=0.5, memory="1 GiB")).id]
    )[0]

    assert job.state is JobState.FAILED
    assert "The requirements of the script cannot be installed (requirements.txt)." in job.reason
    result = read_script_result(job.folder)
    assert result is not None
    assert "cannot be installed" in result.failure


def test_what_the_kernel_refuses_to_start_is_named(ended: Ended) -> None:
    job, result = ended("", hyperparameters={"text": "x" * 200_000})

    assert job.state is JobState.FAILED
    assert "cannot be started: Argument list too long" in result.failure


def test_a_channel_that_is_gone_by_then_is_named(compute: LocalCompute, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "rows.csv").write_text("1\n")
    spec = script_job(
        tmp_path / "train.py", home=tmp_path, channels={"train": tmp_path / "rows.csv"}
    )
    (tmp_path / "rows.csv").unlink()

    job = compute.wait([compute.submit(spec).id])[0]

    assert "The channel 'train' is gone" in job.reason


def test_a_script_with_paths_written_into_it_runs_as_it_is(
    compute: LocalCompute, tmp_path: Path
) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("1,5\n3,5\n")
    spec = script_job(
        SCRIPTS / "written_paths.py",
        home=tmp_path / "home",
        channels={"training": tmp_path / "rows"},
        hyperparameters={"degree": 2},
    )

    job = compute.wait([compute.submit(spec).id])[0]

    result = read_script_result(job.folder)
    assert result is not None, job.reason
    assert json.loads(members(result.model)["model.json"]) == {"degree": 2, "mean": 2.0}


def test_a_script_for_the_scikit_learn_container_runs_as_it_is(
    compute: LocalCompute, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    area, rooms = rng.uniform(40, 300, 400), rng.integers(1, 9, 400)
    frame = pl.DataFrame({"area": area, "rooms": rooms, "price": 1000 * area + 5000 * rooms})
    frame[:300].write_csv(tmp_path / "train.csv")
    frame[300:].write_csv(tmp_path / "test.csv")
    spec = script_job(
        SCRIPTS / "houses_forest.py",
        home=tmp_path / "home",
        channels={"train": tmp_path / "train.csv", "test": tmp_path / "test.csv"},
        hyperparameters={"n-estimators": 20, "features": "area rooms", "target": "price"},
        metrics={"median-AE": "AE-at-50th-percentile: ([0-9.]+)"},
    )

    job = compute.wait([compute.submit(spec).id])[0]

    result = read_script_result(job.folder)
    assert result is not None, job.reason
    assert list(members(result.model)) == ["model.joblib"]
    assert members(result.output)["errors.csv"].startswith(b"price\n")
    assert 0 < (result.metrics["median-AE"] or 0) < 5000


def test_without_a_view_of_its_own_a_script_takes_its_paths_from_the_variables(
    tmp_path: Path,
) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "a.csv").write_text("1\n")
    code = "import os\nprint(os.listdir(os.environ['SM_CHANNEL_TRAIN']), os.getcwd())\n"
    (tmp_path / "train.py").write_text(code)

    done = without_views(tmp_path / "train.py", tmp_path, channels={"train": tmp_path / "rows"})

    assert done.returncode == 0, done.stderr
    assert f"['a.csv'] {tmp_path}/job/ml/code" in done.stdout


def test_without_a_view_of_its_own_written_paths_are_refused_with_what_to_do(
    tmp_path: Path,
) -> None:
    done = without_views(SCRIPTS / "written_paths.py", tmp_path)

    assert done.returncode == 1
    assert "'written_paths.py' has the path /opt/ml written into it" in done.stderr
    assert "Install bubblewrap" in done.stderr


def without_views(script: Path, folder: Path, **given: Any) -> subprocess.CompletedProcess[str]:
    """Run a script job's process where neither namespaces nor bubblewrap are to be had."""
    spec = script_job(script, home=folder / "home", **given)
    job = folder / "job"
    (job / "out").mkdir(parents=True)
    for name, content in spec.files.items():
        (job / name).parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else content.read_bytes()
        (job / name).write_bytes(data)
    code = (
        "import sys; from loopwright.train import script_run, script_worker as worker\n"
        "def refuse(*_, **__): raise PermissionError(1, 'not permitted')\n"
        "script_run.enter_private_view = refuse\n"
        "script_run.shutil.which = lambda name, **_: None\n"
        "sys.exit(worker.main())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=job,
        env={**os.environ, **spec.env},
        capture_output=True,
        text=True,
        check=False,
    )
