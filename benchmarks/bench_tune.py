"""What a trial costs beyond its training, and what a second job side by side brings.

    python benchmarks/bench_tune.py [--trials 6] [--rows 4000]

The same settings of LightGBM on the same house sales: as jobs of `loopwright.tune`, one at a time and
two side by side, as fits within an `auto` job, and with the bare library and Optuna in one process.
CPU seconds are told beside wall seconds: on a busy machine only they compare.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl

HOUSES = Path(__file__).parents[1] / "examples" / "house-prices" / "houses.parquet"
SPACE = {"num_leaves": [8, 64], "learning_rate": [0.03, 0.2]}


def tuned(houses: pl.DataFrame, folder: Path, *, trials: int, parallel: int) -> dict[str, float]:
    """Search as jobs; return wall and CPU seconds a trial, and what the training itself took."""
    import loopwright as lw

    clock = time.perf_counter()
    found = lw.tune(
        houses,
        target="price",
        algorithm="lightgbm",
        trials=trials,
        parallel=parallel,
        sampler="random",
        prune=False,
        space=SPACE,
        home=folder,
    )
    wall_s = time.perf_counter() - clock
    jobs = [lw.job(each, home=folder) for each in found.trials["job"]]
    fits = [fit_s(each) for each in jobs]
    return {
        "wall_s": wall_s,
        "job_s": median(found.trials["seconds"]),
        "cpu_s": median(each.job.cpu_s or 0.0 for each in jobs),
        "fit_s": median(fits),
        "best": found.value,
    }


def fit_s(job: Any) -> float:
    """Return the wall time of the algorithm alone, as the job tells it."""
    from loopwright.train import read_result

    return read_result(job.job.folder).fit_s


def within_auto(houses: pl.DataFrame, *, n_fits: int) -> dict[str, float]:
    """Fit folds as `auto` does and with the bare library, in turns; return CPU seconds a fit."""
    import lightgbm

    from loopwright.prepare import suggest
    from loopwright.train import Outcome, get_algorithm
    from loopwright.tune.configuration import Configuration
    from loopwright.tune.fold import random_folds
    from loopwright.tune.fold_model import fitted_fold
    from loopwright.tune.prepared import PreparedFolds, Table

    y = houses["price"].cast(pl.Float64).to_numpy().astype(np.float64)
    frame = houses.drop("price")
    recipe = suggest(houses, "price", "regression", family=get_algorithm("lightgbm").features)
    table = Table(
        frame=frame,
        y=y,
        outcome=Outcome(task="regression"),
        recipes={get_algorithm("lightgbm").features: recipe},
    )
    folds = random_folds(frame, y, n_folds=n_fits, seed=7, is_class=False)
    prepared = PreparedFolds(table=table, folds=folds, memory_bytes=1 << 30)
    settings = {"rounds": 200, "early_stopping_rounds": 0}
    configuration = Configuration(name="one", algorithm="lightgbm", hyperparameters=settings)
    ours, bare = [], []
    for fold in range(n_fits):
        data = prepared.get(fold, table_family(prepared)).data
        clock = time.process_time()
        fitted_fold(prepared, configuration, fold, threads=1, is_over=lambda _: False)
        ours.append(time.process_time() - clock)
        clock = time.process_time()
        model = lightgbm.train(
            {
                "objective": "regression",
                "learning_rate": 0.05,
                "num_leaves": 31,
                "bagging_fraction": 0.8,
                "bagging_freq": 1,
                "feature_fraction": 0.8,
                "lambda_l2": 1.0,
                "num_threads": 1,
                "verbose": -1,
            },
            lightgbm.Dataset(data.train.X, data.train.y),
            num_boost_round=200,
            valid_sets=[lightgbm.Dataset(data.validation.X, data.validation.y)],
        )
        model.predict(data.validation.X)
        bare.append(time.process_time() - clock)
    return {"ours": median(ours), "bare": median(bare)}


def table_family(prepared: Any) -> str:
    """Return the only recipe of a table."""
    (family,) = prepared.table.recipes
    return str(family)


def bare_study(houses: pl.DataFrame, *, trials: int) -> dict[str, float]:
    """Search with Optuna and LightGBM in this process, on the features that loopwright makes."""
    import lightgbm
    import optuna

    from loopwright.prepare import fit_recipe, suggest

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    recipe = suggest(houses, "price", "regression", family="tree")
    y = houses["price"].cast(pl.Float64).to_numpy()
    cut = int(0.8 * len(y))
    _, X = fit_recipe(recipe, houses.drop("price"), y, seed=7)
    seconds = []

    def objective(trial: Any) -> float:
        clock = time.perf_counter()
        given = {
            "num_leaves": trial.suggest_int("num_leaves", *SPACE["num_leaves"]),
            "learning_rate": trial.suggest_float("learning_rate", *SPACE["learning_rate"]),
        }
        model = lightgbm.train(
            {**given, "objective": "regression", "num_threads": 1, "verbose": -1},
            lightgbm.Dataset(X[:cut], y[:cut]),
            num_boost_round=2_000,
            valid_sets=[lightgbm.Dataset(X[cut:], y[cut:])],
            callbacks=[lightgbm.early_stopping(50, verbose=False)],
        )
        error = float(np.sqrt(np.mean((model.predict(X[cut:]) - y[cut:]) ** 2)))
        seconds.append(time.perf_counter() - clock)
        return error

    clock = time.perf_counter()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=7))
    study.optimize(objective, n_trials=trials)
    return {"wall_s": time.perf_counter() - clock, "trial_s": median(seconds)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--rows", type=int, default=4_000)
    options = parser.parse_args()
    frame = pl.read_parquet(HOUSES)
    houses = frame.gather_every(max(1, len(frame) // options.rows)).head(options.rows)
    print(f"{len(houses):,} rows, {options.trials} trials of LightGBM")
    bare = bare_study(houses, trials=options.trials)
    print(f"bare library with Optuna, one process: {bare['wall_s'] / options.trials:.2f} s a trial")
    walls = {}
    for parallel in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            found = tuned(houses, Path(folder), trials=options.trials, parallel=parallel)
        walls[parallel] = found["wall_s"]
        print(
            f"as jobs, {parallel} side by side: {found['wall_s']:.1f} s in all; a job "
            f"{found['job_s']:.2f} s ({found['cpu_s']:.2f} CPU s), of which the fit "
            f"{found['fit_s']:.2f} s; best rmse {found['best']:.6g}"
        )
    print(f"two side by side against one: {walls[1] / walls[2]:.2f} times as fast")
    within = within_auto(houses, n_fits=options.trials)
    print(
        f"a fit within auto: {within['ours']:.3f} CPU s, by the bare library {within['bare']:.3f} "
        f"({within['ours'] / within['bare'] - 1:+.0%})"
    )


if __name__ == "__main__":
    main()
