"""A search that is killed goes on: nothing is trained twice, and the same comes out in the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import loopwright as lw
from loopwright.compute import Job, JobState

LOOP = """\
name: rows
problem: {target: price, criteria: [{metric: rmse, at_most: 2.9}]}
data: {source: {kind: file, path: rows.parquet}}
train: {algorithms: [ALGORITHM], resources: {cpus: 1, memory: 2 GiB}}
"""
AUTO = "auto: {algorithms: [linear-learner, lightgbm], trials: 2}, budget: {minutes: 5}, "
SETTINGS = ("--no-prune", "--parallel", "1", "--space", "alpha=1e-4..10:log")
TUNE = ("--algorithm", "linear-learner", "--trials", "6", *SETTINGS)


@pytest.fixture
def lay(tmp_path: Path) -> Iterator[Callable[[str, str], Path]]:
    """Return a function that lays the same loop into a folder of its own."""
    made: list[Path] = []

    def laid(name: str, algorithm: str) -> Path:
        rng = np.random.default_rng(3)
        x, z = rng.normal(size=600), rng.normal(size=600)
        price = 100 + 10 * x + 5 * np.abs(z) + rng.normal(size=600)
        folder = tmp_path / name
        folder.mkdir()
        pl.DataFrame({"x": x, "z": z, "price": price}).write_parquet(folder / "rows.parquet")
        text = LOOP.replace("ALGORITHM", algorithm)
        if algorithm == "auto":
            text = text.replace("train: {", f"train: {{{AUTO}")
        (folder / "loop.yaml").write_text(text)
        made.append(folder)
        return folder

    yield laid
    for folder in made:
        if (folder / "home").exists():
            lw.Loop(folder / "loop.yaml", home=folder / "home").stop()


def begun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "loopwright", "--home", str(folder / "home"), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(folder: Path, *arguments: str) -> Any:
    process = begun(folder, *arguments, "--json")
    said, wrong = process.communicate(timeout=240)
    # 3: the round has ended, and its model does not go live
    assert process.returncode in (0, 3), wrong
    return json.loads(said)


def await_(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None and not is_so():
        time.sleep(0.01)


def jobs_of(folder: Path) -> list[Job]:
    loop = lw.Loop(folder / "loop.yaml", home=folder / "home")
    return [job for job in loop.jobs() if job.kind == "training"]


def told(result: dict[str, Any]) -> list[Any]:
    return [(t["number"], t["hyperparameters"], t["value"], t["state"]) for t in result["trials"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tuning_killed_again_and_again_finds_what_an_undisturbed_search_finds(
    lay: Callable[[str, str], Path],
) -> None:
    undisturbed = done(lay("undisturbed", "linear-learner"), "tune", "loop.yaml", *TUNE)
    folder = lay("killed", "linear-learner")

    # before the first trial, within one, and between two
    for n_trials, delay_s in ((0, 0.3), (1, 0.0), (2, 0.2), (4, 0.05)):
        process = begun(folder, "tune", "loop.yaml", *TUNE)
        database = folder / "home" / "loopwright.db"
        if n_trials == 0:
            await_(database.exists, process)
        else:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith(f"  trial {n_trials:>3}"):
                    break
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    result = done(folder, "tune", "loop.yaml", *TUNE)

    assert told(result) == told(undisturbed)
    assert result["hyperparameters"] == undisturbed["hyperparameters"]
    jobs = jobs_of(folder)
    assert len(jobs) == 6
    assert all(job.retried == 0 for job in jobs)
    # with a greater budget the same search goes on
    more = [each if each != "6" else "7" for each in TUNE]
    longer = done(folder, "tune", "loop.yaml", *more)
    assert told(longer)[:6] == told(result)
    assert len(jobs_of(folder)) == 7


def model_of(folder: Path) -> bytes:
    (job,) = jobs_of(folder)
    return (job.out / "predictor.npz").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["submitter", "everything"])
def test_a_run_with_auto_that_is_killed_ends_with_the_same_model(
    lay: Callable[[str, str], Path], victim: str
) -> None:
    undisturbed = lay("undisturbed", "auto")
    done(undisturbed, "run", "loop.yaml")
    folder = lay("killed", "auto")

    process = begun(folder, "run", "loop.yaml")
    await_(lambda: bool(list((folder / "home" / "jobs").glob("*/out/metrics.jsonl"))), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if victim == "everything":
        for claim in (folder / "home" / "jobs").glob("*/shim.json"):
            os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    done(folder, "run", "loop.yaml")

    (job,) = jobs_of(folder)
    assert job.state is JobState.SUCCEEDED
    assert job.retried == (1 if victim == "everything" else 0)
    assert model_of(folder) == model_of(undisturbed)
