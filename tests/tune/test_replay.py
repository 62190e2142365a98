"""What an `auto` job fitted in its time can be fitted again, and gives the same model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.compute import Compute, InlineCompute, Job, JobState, Resources, rerun_spec
from loopwright.core.clock import SystemClock
from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.prepare import suggest
from loopwright.train import TrainingSpec
from loopwright.tune.auto import families_of
from loopwright.tune.configuration import Configuration
from loopwright.tune.fold import random_folds
from loopwright.tune.fold_model import FoldModel, fitted_fold
from loopwright.tune.job import AUTO_FILE, AutoSpec, Replay, ReplayedTrial, auto_job
from loopwright.tune.prepared import PreparedFolds, Table
from loopwright.tune.replay import replayed, replaying
from loopwright.tune.worker import do_auto_job

MakeTable = Callable[..., Table]


def laid(folder: Path, files: Any) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Return the folder of an auto job that was done, and its order."""
    place = tmp_path_factory.mktemp("finished")
    rng = np.random.default_rng(2)
    x, z = rng.normal(size=200), rng.normal(size=200)
    label = np.where(x + np.abs(z) + 0.5 * rng.normal(size=200) > 0.8, "yes", "no")
    frame = pl.DataFrame({"x": x, "z": z, "y": label})
    frame[:160].write_parquet(place / "a.parquet")
    frame[160:].write_parquet(place / "b.parquet")
    # the library that is imported the quickest
    algorithms = ("lightgbm",)
    spec = AutoSpec(
        training=TrainingSpec(
            algorithm="auto", task="binary", target="y", classes=("no", "yes"), threads=2
        ),
        budget_s=60.0,
        # this process, with all that earlier tests left in it, counts as the job
        memory_mib=1 << 16,
        metric="log_loss",
        algorithms=algorithms,
        max_trials=2,
    )
    job = auto_job(
        spec,
        name="houses/auto",
        recipes={
            family: suggest(frame[:160], "y", "binary", family=family).to_json()
            for family in families_of(algorithms)
        },
        train=place / "a.parquet",
        validation=place / "b.parquet",
        resources=Resources(),
    )
    folder = laid(place / "job", job.files)
    do_auto_job(folder)
    return folder, job


@pytest.fixture
def first(finished: tuple[Path, Any], tmp_path: Path) -> tuple[Path, Any]:
    """Return a copy of the folder, and the order."""
    folder, spec = finished
    shutil.copytree(folder, tmp_path / "job")
    return tmp_path / "job", spec


def done(folder: Path, tmp_path: Path, spec: Any) -> tuple[Job, Compute]:
    """Return a job of a backend that has left what is in a folder."""
    compute = InlineCompute(tmp_path / "jobs", SystemClock())
    code = "import shutil, sys; shutil.copytree(sys.argv[1], 'out', dirs_exist_ok=True)"
    copying = (spec.command[0], "-I", "-S", "-c", code, str(folder / "out"))
    return compute.submit(replace(spec, command=copying)), compute


def test_the_same_model_comes_of_what_was_written_down(
    first: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, spec = first
    job, compute = done(folder, tmp_path, spec)
    assert job.state is JobState.SUCCEEDED

    again = replaying(rerun_spec(compute, job.id, environment={}), job)
    second = laid(tmp_path / "again", again.files)
    do_auto_job(second)

    varying = {*spec.varying}
    names = sorted(p.name for p in (folder / "out").iterdir() if p.name not in varying)
    assert "predictor.npz" in names
    assert "validation.parquet" in names
    for name in names:
        assert (second / "out" / name).read_bytes() == (folder / "out" / name).read_bytes(), name
    assert again.time_limit_s is not None
    assert spec.time_limit_s is not None
    assert again.time_limit_s > spec.time_limit_s


def test_only_what_the_model_is_made_of_is_fitted_again(
    first: tuple[Path, Any],
) -> None:
    folder, _ = first
    told = msgspec.json.decode((folder / "out" / "trials.json").read_bytes())
    members = {each["name"] for each in told["trials"] if each["weight"] > 0}
    below = {name for each in told["trials"] if each["weight"] > 0 for name in each["below"]}

    names = {each["configuration"]["name"] for each in told["replay"]["trials"]}

    assert names == members | below


def test_a_job_that_wrote_nothing_down_says_so(first: tuple[Path, Any], tmp_path: Path) -> None:
    folder, spec = first
    (folder / "out" / "trials.json").write_text('{"trials": []}')
    job, compute = done(folder, tmp_path, spec)

    with pytest.raises(WrongStateError, match="did not write down what it fitted"):
        replaying(rerun_spec(compute, job.id, environment={}), job)


def test_a_job_that_had_no_time_for_its_search_says_so(
    first: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, spec = first
    record = {"trials": [], "replay": None, "quick": "constant"}
    (folder / "out" / "trials.json").write_bytes(msgspec.json.encode(record))
    job, compute = done(folder, tmp_path, spec)

    with pytest.raises(WrongStateError, match="its model is only constant"):
        replaying(rerun_spec(compute, job.id, environment={}), job)


@pytest.mark.parametrize("algorithm", ["lightgbm", "xgboost", "neural-network", "random-forest"])
def test_a_fit_that_the_time_ended_is_ended_at_the_same_step(
    make_table: MakeTable, algorithm: str
) -> None:
    table = make_table("regression", 200)
    folds = random_folds(table.frame, table.y, n_folds=2, seed=7, is_class=False)
    configuration = Configuration(name="one", algorithm=algorithm)
    times = iter(range(1_000_000))

    def fitted(is_over: Callable[[int], bool]) -> FoldModel:
        prepared = PreparedFolds(table=table, folds=folds, memory_bytes=1 << 30)
        return fitted_fold(prepared, configuration, 0, threads=1, is_over=is_over)

    # a clock that goes on by one at each look
    ended = fitted(lambda _: next(times) >= 11)
    assert ended.stopped_at is not None
    stop = ended.stopped_at
    again = fitted(lambda step: step >= stop)

    assert np.array_equal(ended.answers, again.answers)
    assert again.stopped_at == stop


def test_a_record_of_other_folds_is_refused(make_table: MakeTable) -> None:
    table = make_table("regression", 60)
    folds = random_folds(table.frame, table.y, n_folds=2, seed=7, is_class=False)
    configuration = Configuration(name="one", algorithm="linear-learner").to_json()
    trial = ReplayedTrial(
        configuration=configuration, family="linear", stops={"0": None, "5": None}
    )
    record = Replay(trials=(trial,), chosen=(("one", 1.0),), n_folds=1, loss=1.0)

    with pytest.raises(InvalidInputError, match="folds 0, 5 of 2"):
        replayed(table, folds, record, cpus=1, memory_bytes=1 << 30, only_last=False)


def test_an_order_to_do_it_again_is_read_as_it_was_written(first: tuple[Path, Any]) -> None:
    folder, _ = first
    told = msgspec.json.decode((folder / "out" / "trials.json").read_bytes())
    replay = msgspec.convert(told["replay"], Replay)
    spec = msgspec.json.decode((folder / AUTO_FILE).read_bytes(), type=AutoSpec)

    order = msgspec.structs.replace(spec, replay=replay)

    assert msgspec.json.decode(msgspec.json.encode(order), type=AutoSpec) == order
