"""What an `auto` job has fitted is not fitted again, after a kill or with more time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loopwright.compute import InlineCompute, Resources
from loopwright.core.clock import SystemClock
from loopwright.prepare import suggest
from loopwright.train import TrainingSpec
from loopwright.tune import kept_fit
from loopwright.tune.auto import families_of
from loopwright.tune.configuration import Configuration
from loopwright.tune.fold import random_folds
from loopwright.tune.fold_model import FoldModel, fitted_fold
from loopwright.tune.job import AUTO_FILE, AutoSpec, auto_job
from loopwright.tune.kept_fit import KeptFits, going_on
from loopwright.tune.prepared import PreparedFolds, Table
from loopwright.tune.worker import do_auto_job

MakeTable = Callable[..., Table]
LINEAR = Configuration(name="linear", algorithm="linear-learner")


@pytest.fixture
def fit(make_table: MakeTable) -> Callable[..., FoldModel]:
    """Return a function that fits a fold of one table."""
    table = make_table("binary", 80)
    folds = random_folds(table.frame, table.y, n_folds=2, seed=7, is_class=True)

    def fitted(fits: KeptFits | None = None, *, stop: int | None = None) -> FoldModel:
        return fitted_fold(
            PreparedFolds(table=table, folds=folds, memory_bytes=1 << 28),
            Configuration(name="one", algorithm="lightgbm") if stop else LINEAR,
            0,
            threads=1,
            is_over=lambda step: stop is not None and step >= stop,
            fits=fits,
        )

    return fitted


def test_a_fit_is_found_again_to_the_last_bit(
    fit: Callable[..., FoldModel], tmp_path: Path
) -> None:
    first = fit(KeptFits(search="a", own=tmp_path))

    kept = KeptFits(search="a", own=tmp_path)
    again = kept.find(LINEAR, 0, 1)

    assert again is not None
    assert np.array_equal(again.answers, first.answers)
    assert again.seconds == first.seconds
    arrays = first.predictor.arrays()
    assert all(np.array_equal(arrays[n], v) for n, v in again.predictor.arrays().items())
    assert kept.n_found == 1


@pytest.mark.parametrize("change", ["search", "fold", "threads", "settings"])
def test_a_fit_of_something_else_is_not_taken(
    fit: Callable[..., FoldModel], tmp_path: Path, change: str
) -> None:
    fit(KeptFits(search="a", own=tmp_path))

    kept = KeptFits(search="b" if change == "search" else "a", own=tmp_path)
    configuration = replace(LINEAR, hyperparameters={"alpha": 0.5} if change == "settings" else {})
    found = kept.find(configuration, int(change == "fold"), 2 if change == "threads" else 1)

    assert found is None


def test_a_damaged_file_is_fitted_again(fit: Callable[..., FoldModel], tmp_path: Path) -> None:
    fit(KeptFits(search="a", own=tmp_path))
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-40])

    kept = KeptFits(search="a", own=tmp_path)

    assert kept.find(LINEAR, 0, 1) is None
    fit(kept)
    assert kept.find(LINEAR, 0, 1) is not None


def test_what_the_time_of_an_earlier_job_ended_is_fitted_anew(
    fit: Callable[..., FoldModel], tmp_path: Path
) -> None:
    configuration = Configuration(name="one", algorithm="lightgbm")
    fit(KeptFits(search="a", own=tmp_path / "first"), stop=3)

    after_a_kill = KeptFits(search="a", own=tmp_path / "first")
    with_more_time = KeptFits(search="a", own=tmp_path / "second", earlier=tmp_path / "first")

    assert after_a_kill.find(configuration, 0, 1) is not None
    assert with_more_time.find(configuration, 0, 1) is None


def test_no_more_is_kept_than_there_is_room_for(
    fit: Callable[..., FoldModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_fit, "_MOST_BYTES", 100)

    fit(KeptFits(search="a", own=tmp_path))

    assert list(tmp_path.glob("*.npz")) == []


def ordered(folder: Path, *, budget_s: float = 60.0, **changes: Any) -> Any:
    """Return an auto job on a small table."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=120)
    frame = pl.DataFrame({"x": x, "y": np.where(x + rng.normal(size=120) > 0, "yes", "no")})
    frame[:100].write_parquet(folder / "a.parquet")
    frame[100:].write_parquet(folder / "b.parquet")
    training = TrainingSpec(algorithm="auto", task="binary", target="y", classes=("no", "yes"))
    return auto_job(
        AutoSpec(
            **{
                "training": training,
                "budget_s": budget_s,
                # this process, with all that earlier tests left in it, counts as the job
                "memory_mib": 1 << 16,
                "metric": "log_loss",
                "algorithms": ("linear-learner",),
                "max_trials": 1,
                **changes,
            }
        ),
        name="houses/auto",
        recipes={
            family: suggest(frame[:100], "y", "binary", family=family).to_json()
            for family in families_of(("linear-learner",))
        },
        train=folder / "a.parquet",
        validation=folder / "b.parquet",
        resources=Resources(),
    )


def test_a_job_with_more_time_begins_with_the_fits_of_the_one_before(tmp_path: Path) -> None:
    compute = InlineCompute(tmp_path / "jobs", SystemClock())
    first = compute.submit(replace(ordered(tmp_path), command=("true",)))
    assert first.checkpoints is not None

    longer = ordered(tmp_path, budget_s=120.0)
    going = going_on(longer, compute.list_())
    other = ordered(
        tmp_path,
        training=TrainingSpec(
            algorithm="auto", task="binary", target="y", classes=("no", "yes"), seed=8
        ),
    )

    order = msgspec.json.decode(going.files[AUTO_FILE], type=AutoSpec)
    assert order.earlier == str(first.checkpoints)
    assert going.key == longer.key != first.key
    assert going_on(other, compute.list_()) is other
    assert going_on(ordered(tmp_path), compute.list_()).key == first.key


def test_a_job_that_was_killed_finds_its_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = ordered(tmp_path)
    monkeypatch.setenv("LOOPWRIGHT_CHECKPOINT_DIR", str(tmp_path / "kept"))
    models = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        for each, content in spec.files.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            (folder / each).write_bytes(data)
        do_auto_job(folder)
        models.append((folder / "out" / "predictor.npz").read_bytes())
        kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").glob("*.npz")}
        if name == "first":
            before = kept

    assert len(before) == 8
    assert kept == before
    assert models[0] == models[1]
