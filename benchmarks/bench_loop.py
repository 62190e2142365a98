"""What the loop costs beside the algorithms: a first run, a run with nothing to do, start-up."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import loopwright as lw

EXAMPLE = Path(__file__).parents[1] / "examples" / "house-prices"

# what a person would write by hand: the same rows, columns and settings, no split checks, no
# intervals, no bundle, no endpoint
BY_HAND = """
import numpy as np, polars as pl, lightgbm, xgboost
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
d = pl.read_parquet("houses.parquet").drop("id", "date", "sqft_basement").fill_null(0)
X = d.drop("price").to_numpy().astype(float); y = np.log(d["price"].to_numpy())
p = np.random.default_rng(7).permutation(len(y)); n = len(y)
tr, va = p[: int(0.7 * n)], p[int(0.7 * n) : int(0.9 * n)]
s = StandardScaler().fit(X[tr]); Z = s.transform(X)
Ridge().fit(Z[tr], y[tr]).predict(Z[va])
KNeighborsRegressor(10, weights="distance").fit(Z[tr], y[tr]).predict(Z[va])
q = {"eta": 0.05, "max_depth": 6, "subsample": 0.8, "colsample_bytree": 0.8, "nthread": 1}
t, v = xgboost.DMatrix(X[tr], y[tr]), xgboost.DMatrix(X[va], y[va])
xgboost.train(q, t, 2000, evals=[(v, "v")], early_stopping_rounds=50, verbose_eval=False)
q = {"learning_rate": 0.05, "num_threads": 1, "verbose": -1, "bagging_fraction": 0.8,
     "bagging_freq": 1, "feature_fraction": 0.8}
t = lightgbm.Dataset(X[tr], y[tr]); v = t.create_valid(X[va], y[va])
lightgbm.train(q, t, 2000, [v], callbacks=[lightgbm.early_stopping(50, verbose=False)])
"""


def seconds(*command: str, folder: Path) -> float:
    """Return the wall time of a command."""
    clock = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - clock


def first_run(folder: Path) -> tuple[float, float]:
    """Return wall time of a whole first run and of the algorithms' own training in it."""
    home = folder / "home"
    loop = lw.Loop(folder / "loop.yaml", home=home)
    outcome = loop.run(on_news=lambda _: None).outcome
    trained = sum(float(step["algorithm_s"]) for step in outcome.status.steps)
    return outcome.wall_s, trained


def main() -> None:
    """Measure, interleaved, and print medians."""
    by_hand, loops, trained, nothing, helps, bare = [], [], [], [], [], []
    run = (sys.executable, "-m", "loopwright", "--home", "home", "run", "loop.yaml")
    for _ in range(3):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
            by_hand.append(seconds(sys.executable, "-c", BY_HAND, folder=folder))
            wall_s, algorithm_s = first_run(folder)
            loops.append(wall_s)
            trained.append(algorithm_s)
            nothing.append(seconds(*run, folder=folder))
            helps.append(seconds(sys.executable, "-m", "loopwright", "--help", folder=folder))
            bare.append(seconds(sys.executable, "-c", "pass", folder=folder))
            lw.Loop(folder / "loop.yaml", home=folder / "home").stop()
    hand, loop = statistics.median(by_hand), statistics.median(loops)
    print(f"four models by hand, one process      {hand:7.2f} s")
    print(f"the whole loop, first run             {loop:7.2f} s   {loop / hand:.2f} times as long")
    print(f"  of which the algorithms             {statistics.median(trained):7.2f} s")
    idle, start = statistics.median(nothing), statistics.median(bare)
    print(f"a run with nothing to do              {idle:7.2f} s   {idle / loop:.3f} of the first")
    shown = statistics.median(helps)
    print(
        f"loopwright --help                     {shown:7.2f} s   {shown / start:.1f} x python -c pass"
    )


if __name__ == "__main__":
    main()
