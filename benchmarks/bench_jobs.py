"""What a job costs beside a bare process: start, a training on 1,000,000 rows, a long queue.

`python benchmarks/bench_jobs.py [start] [training] [queue]` measures only those. Wall times mean
little on a busy machine; CPU seconds are printed beside them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from loopwright.compute import Capacity, Job, JobSpec, JobState, LocalCompute, Resources
from loopwright.core.clock import SystemClock
from loopwright.store import SqlMetadataStore

N_REPEATS = 7
N_TRAININGS = 3
N_ROWS, N_VALIDATION, N_COLUMNS = 1_000_000, 100_000, 20
N_SHORT = 1000
ROUNDS = 150
SMALL = Resources(cpus=1, memory="2 GiB")
IMPORTS = {
    "nothing": "",
    "numpy, polars, lightgbm": "import sys\nsys.modules.update(dict.fromkeys(('pandas', 'pyarrow', "
    "'matplotlib', 'dask', 'sklearn')))\nimport numpy, polars, lightgbm\n",
}
BARE = """
import json, resource, sys, time
started = time.time()
sys.modules.update(dict.fromkeys(("pandas", "pyarrow", "matplotlib", "dask", "sklearn")))
import lightgbm, numpy as np, polars as pl
def part(name):
    frame = pl.read_parquet(name)
    return frame.drop("y").to_numpy().astype(np.float64), frame["y"].to_numpy()
X, y = part("train.parquet"); V, v = part("validation.parquet")
train = lightgbm.Dataset(X, y, params={"feature_pre_filter": False})
validation = train.create_valid(V, v)
settings = {"objective": "binary", "metric": "binary_logloss", "learning_rate": 0.05,
    "num_leaves": 31, "lambda_l2": 1.0, "bagging_fraction": 0.8, "bagging_freq": 1,
    "feature_fraction": 0.8, "deterministic": True, "force_row_wise": True, "verbosity": -1,
    "num_threads": THREADS, "seed": 7, "feature_pre_filter": False}
stop = lightgbm.early_stopping(50, verbose=False)
model = lightgbm.train(settings, train, ROUNDS, [validation], callbacks=[stop])
model.save_model("model.txt")
np.save("answers.npy", model.predict(V))
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"wall_s": time.time() - started, "cpu_s": used.ru_utime + used.ru_stime,
    "memory_mib": used.ru_maxrss / 1024}))
"""


def opened(folder: Path, *, cpus: float = 2) -> LocalCompute:
    """Return a compute of its own in a folder."""
    clock = SystemClock()
    metadata = SqlMetadataStore(f"sqlite:///{folder}/store.db", clock)
    capacity = Capacity(cpus=cpus, memory_mib=16_384)
    return LocalCompute(metadata, folder / "jobs", clock, capacity=capacity)


def start(folder: Path) -> None:
    """Measure the time from the order to the first line of user code."""
    compute = opened(folder)
    compute.wait([compute.submit(_python("", key="warm")).id])
    for name, imports in IMPORTS.items():
        code = imports + "import time; print(time.time())"
        bare, jobs = [], []
        for n in range(N_REPEATS):
            before = time.time()
            command = [sys.executable, "-c", code]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            bare.append(float(said) - before)
            before = time.time()
            job = compute.submit(_python(code, key=f"{name}{n}"))
            compute.wait([job.id])
            jobs.append(float(compute.log(job.id)) - before)
        one, other = statistics.median(bare), statistics.median(jobs)
        print(
            f"first line after {name:<24} bare {one * 1e3:7.1f} ms   "
            f"job {other * 1e3:7.1f} ms   {other / one:.2f} times"
        )


def _python(code: str, *, key: str) -> JobSpec:
    command = (sys.executable, "-c", code)
    return JobSpec(key=key, name="bench", kind="bench", command=command, resources=SMALL)


def training(folder: Path) -> None:
    """Measure a training job beside the library called by hand on the same rows."""
    _write_rows(folder)
    threads = len(os.sched_getaffinity(0))
    compute = opened(folder, cpus=threads)
    script = BARE.replace("THREADS", str(threads)).replace("ROUNDS", str(ROUNDS))
    bare, jobs = [], []
    for n in range(N_TRAININGS):
        bare.append(_by_hand(folder, script, threads=threads))
        before = time.time()
        job = compute.submit(_training_job(folder, threads=threads, seed=n))
        job = compute.wait([job.id])[0]
        if job.state is not JobState.SUCCEEDED:
            raise SystemExit(job.reason)
        jobs.append((time.time() - before, job.cpu_s or 0.0, job.peak_memory_mib or 0.0))
        _show_parts(job)
    for at, unit in enumerate(("s wall", "s CPU", "MiB")):
        one = statistics.median(row[at] for row in bare)
        other = statistics.median(row[at] for row in jobs)
        print(
            f"training on {N_ROWS:,} x {N_COLUMNS}: by hand {one:9.2f} {unit:<6}  "
            f"job {other:9.2f} {unit:<6}  {other / one:.3f} times"
        )


def _write_rows(folder: Path) -> None:
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(7)
    X = rng.normal(size=(N_ROWS + N_VALIDATION, N_COLUMNS))
    score = X[:, 0] + 0.5 * X[:, 1] * X[:, 2] - np.abs(X[:, 3]) + rng.normal(size=len(X))
    columns = {f"x{n}": X[:, n] for n in range(N_COLUMNS)}
    frame = pl.DataFrame({**columns, "y": (score > 0).astype(np.int64)})
    frame[:N_ROWS].write_parquet(folder / "train.parquet")
    frame[N_ROWS:].write_parquet(folder / "validation.parquet")


def _by_hand(folder: Path, script: str, *, threads: int) -> tuple[float, float, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": f"{threads}"}
    before = time.time()
    said = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    ).stdout
    found = json.loads(said.splitlines()[-1])
    return time.time() - before, found["cpu_s"], found["memory_mib"]


def _training_job(folder: Path, *, threads: int, seed: int) -> JobSpec:
    import polars as pl

    from loopwright.prepare import suggest
    from loopwright.train import TrainingSpec, training_job

    spec = TrainingSpec(
        algorithm="lightgbm",
        task="binary",
        target="y",
        classes=("0", "1"),
        hyperparameters={"rounds": ROUNDS},
        threads=threads,
        seed=seed,
    )
    sample = pl.read_parquet(folder / "validation.parquet")
    return training_job(
        spec,
        name="bench",
        recipe=suggest(sample, "y", "binary", family="tree").to_json(),
        train=folder / "train.parquet",
        validation=folder / "validation.parquet",
        resources=Resources(cpus=threads, memory="8 GiB"),
    )


def _show_parts(job: Job) -> None:
    told = json.loads((job.out / "result.json").read_text())
    parts = ("import_s", "read_s", "recipe_s", "fit_s", "export_s", "total_s")
    print("  " + "  ".join(f"{name} {told[name]:.2f}" for name in parts))


def queue(folder: Path) -> None:
    """Measure a long queue of short jobs, and that none is lost."""
    compute = opened(folder)
    spec = JobSpec(key="w", name="bench", kind="bench", command=("/bin/true",), resources=SMALL)
    before, cpu = time.time(), time.process_time()
    ids = [
        compute.submit(
            JobSpec(key=f"{n}", name=spec.name, kind="bench", command=spec.command, resources=SMALL)
        ).id
        for n in range(N_SHORT)
    ]
    submitted = time.time()
    ended = compute.wait(ids)
    wall, cpu = time.time() - before, time.process_time() - cpu
    listed = compute.list_()
    n_good = sum(job.state is JobState.SUCCEEDED for job in ended)
    print(
        f"{N_SHORT:,} jobs of `true` on 2 CPUs: {wall:.1f} s ({N_SHORT / wall:.1f} a second; all "
        f"submitted after {submitted - before:.1f} s), {cpu / N_SHORT * 1e3:.1f} ms CPU a job in "
        f"the submitter; {n_good} succeeded, {len(listed)} on record"
    )


MEASURES: dict[str, Callable[[Path], None]] = {
    "start": start,
    "training": training,
    "queue": queue,
}


def main() -> None:
    """Measure what is named on the command line, or all."""
    for name in sys.argv[1:] or MEASURES:
        with tempfile.TemporaryDirectory() as folder:
            MEASURES[name](Path(folder))


if __name__ == "__main__":
    main()
