"""Jobs on a Ray cluster beside jobs on this machine: the time to start, and 1, 2 and 4 workers.

The nodes of the cluster are processes of this machine, so workers beyond its cores gain nothing:
what several machines would gain is not measured here.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl

from loopwright.compute import Capacity, Compute, JobSpec, LocalCompute, Resources
from loopwright.compute.ray_jobs import RayCompute
from loopwright.core.clock import SystemClock
from loopwright.core.digest import digest_file
from loopwright.prepare import Recipe, suggest
from loopwright.store import SqlMetadataStore
from loopwright.testing.ray_cluster import started_ray_cluster
from loopwright.train import TrainingSpec, read_result, training_job
from loopwright.train.distributed import train_in_parallel

N_ROWS, N_COLUMNS, ROUNDS = 100_000, 20, 60
N_STARTS = 5
ROOM = Capacity(cpus=4, memory_mib=8192)


def first_line_s(compute: Compute, key: str) -> float:
    """Return the seconds from the submission of a job to its first line of Python."""
    submitted = time.time()
    spec = JobSpec(
        key=key,
        name="a line",
        kind="benchmark",
        command=(sys.executable, "-I", "-S", "-c", "import time; print(time.time())"),
        resources=Resources(cpus=0.1, memory="200 MiB"),
    )
    (job,) = compute.wait([compute.submit(spec).id], poll_s=0.05)
    return float(compute.log(job.id)) - submitted


def table() -> pl.DataFrame:
    """Return rows whose target is a smooth function with steps in it."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(N_ROWS, N_COLUMNS))
    y = X[:, 0] + np.sin(3 * X[:, 2]) + (X[:, 3] > 0.5) + rng.normal(0, 0.5, N_ROWS)
    return pl.DataFrame({f"x{n:02d}": X[:, n] for n in range(N_COLUMNS)} | {"y": y})


def order(folder: Path, recipe: Recipe, algorithm: str) -> JobSpec:
    """Return the training job of an algorithm."""
    return training_job(
        TrainingSpec(
            algorithm=algorithm,
            task="regression",
            target="y",
            hyperparameters={"rounds": ROUNDS, "early_stopping_rounds": 0},
        ),
        name=algorithm,
        recipe=recipe.to_json(),
        train=folder / "train.parquet",
        validation=folder / "validation.parquet",
        resources=Resources(cpus=1, memory="2 GiB"),
    )


def workers(compute: Compute, spec: JobSpec) -> None:
    """Print what 1, 2 and 4 workers take, and how good their models are."""
    alone_s = 0.0
    for n_workers in (1, 2, 4):
        started = time.perf_counter()
        job = train_in_parallel(compute, spec, workers=n_workers)
        wall_s, fit_s = time.perf_counter() - started, read_result(job.folder).fit_s
        alone_s = alone_s or fit_s
        answers = pl.read_parquet(job.out / "validation.parquet")
        rmse = float(((answers["prediction"] - answers["actual"]) ** 2).mean()) ** 0.5  # type: ignore[arg-type]
        digest = digest_file(job.out / "predictor.npz")[7:19]
        print(
            f"{spec.name:9} {n_workers} workers: fit {fit_s:6.2f} s ({alone_s / fit_s:4.2f} times), "
            f"whole {wall_s:6.1f} s, RMSE {rmse:.5f}, model {digest}",
            flush=True,
        )


def main() -> None:
    """Measure, and print."""
    if find_spec("ray") is None:
        print("left out: it needs the extra `ray`")
        return
    print(f"{os.cpu_count()} cores; the cluster's nodes are processes of this machine", flush=True)
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as name, started_ray_cluster(cpus=2, memory_gib=4) as found:
        found.join(cpus=2, memory_gib=4)
        folder = Path(name)
        with closing(SqlMetadataStore(f"sqlite:///{folder}/store.db", clock)) as metadata:
            here = LocalCompute(metadata, folder / "jobs", clock, capacity=ROOM)
            there = RayCompute(
                metadata,
                folder / "jobs",
                clock,
                cluster=found.client(),
                location=folder / "artifacts",
                services=here,
            )
            starts = [
                (first_line_s(here, f"{n}"), first_line_s(there, f"{n}")) for n in range(N_STARTS)
            ]
            local_s, ray_s = (statistics.median(times) for times in zip(*starts, strict=True))
            print(f"submit to first line: here {local_s:.3f} s, on the cluster {ray_s:.1f} s")
            rows = table()
            n_train = N_ROWS * 9 // 10
            rows[:n_train].write_parquet(folder / "train.parquet")
            rows[n_train:].write_parquet(folder / "validation.parquet")
            recipe = suggest(rows[:n_train], "y", "regression", family="tree")
            for algorithm in ("xgboost", "lightgbm"):
                workers(there, order(folder, recipe, algorithm))


if __name__ == "__main__":
    main()
