"""Quality estimated without labels beside what it turned out to be, and beside NannyML on the same rows.

    python benchmarks/bench_estimate.py --seeds 6 --peer PEER/bin/python

trains a model on real rows, draws live rows with one column tilted (0: no change, 2: strong), and
prints for every metric how far the estimate is off on average: that of loopwright, that of NannyML
(CBPE for classes, DLE for numbers), and the figure of the test rows taken as it is. `--peer` is a
Python with `nannyml` (and `statsmodels` and `pandas<3`, which it needs); without it loopwright runs
alone. CPU seconds are those of one estimation of all metrics listed.

The tables are looked for in `LOOPWRIGHT_DATASETS`, by default in `shared/datasets` beside this
repository.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import numpy.typing as npt
import polars as pl
from monitor_table import DATASETS

from loopwright.monitor import build_reference
from loopwright.monitor.estimate import Unlabelled, estimation
from loopwright.monitor.reference_rows import ReferenceRows, ordered_streams, row_codes
from loopwright.problem import Answers, Criterion, class_answers, metric_named, value_answers

Array = npt.NDArray[np.float64]
TILTS = (0.0, 1.0, 2.0)
N_TRAIN, N_REFERENCE, N_LIVE = 6_000, 3_000, 2_000
PEER = Path(__file__).with_name("estimate_peer.py")


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table: its target, the column that is tilted, and the metrics to estimate."""

    name: str
    target: str
    positive: str
    tilted: str
    metrics: tuple[str, ...]


TABLES = (
    Table(
        name="adult",
        target="income",
        positive=">50K",
        tilted="age",
        metrics=("log_loss", "brier", "accuracy", "precision", "recall", "f1", "roc_auc"),
    ),
    Table(
        name="diamonds",
        target="price",
        positive="",
        tilted="carat",
        metrics=("mae", "rmse", "mape", "share_within_10_percent", "medae", "r2"),
    ),
)


def tilted_rows(values: Array, n: int, tilt: float, rng: np.random.Generator) -> Array:
    """Return rows drawn with weights that rise with the rank of a column."""
    rank = np.argsort(np.argsort(values)) / len(values)
    weights = np.exp(tilt * (2 * rank - 1))
    return rng.choice(len(values), n, replace=False, p=weights / weights.sum())


def run(table: Table, tilt: float, seed: int, folder: Path) -> dict[str, Any]:
    """Return the errors of all estimates on one draw, and keep the rows for the peer."""
    frame = pl.read_parquet(DATASETS / f"{table.name}.parquet").drop_nulls(table.target)
    rng = np.random.default_rng(seed)
    frame = frame[rng.permutation(frame.height)]
    columns = [name for name in frame.columns if name not in (table.target, "part", "split")]
    kinds = {name: "number" if frame[name].dtype.is_numeric() else "category" for name in columns}
    X = frame.select(
        pl.col(name) if kinds[name] == "number" else pl.col(name).cast(pl.Categorical).to_physical()
        for name in columns
    ).to_numpy()
    target = frame[table.target]
    y = (target.cast(pl.String) == table.positive if table.positive else target).cast(pl.Float64)
    truth = y.to_numpy()
    settings = {"num_leaves": 15, "learning_rate": 0.1, "verbose": -1, "num_threads": 1}
    settings["objective"] = "binary" if table.positive else "regression"
    trained = lightgbm.train(settings, lightgbm.Dataset(X[:N_TRAIN], truth[:N_TRAIN]), 120)
    said = np.asarray(trained.predict(X))
    reference = np.arange(N_TRAIN, N_TRAIN + N_REFERENCE)
    pool = np.arange(N_TRAIN + N_REFERENCE, frame.height)
    live = pool[tilted_rows(X[pool, columns.index(table.tilted)], N_LIVE, tilt, rng)]
    answers: Callable[[Array], Answers] = class_answers if table.positive else value_answers
    statistics = build_reference(
        frame[:N_TRAIN].select(columns), said[reference], np.abs(truth - said)[reference], kinds
    )

    def codes(rows: Array) -> npt.NDArray[np.uint8]:
        return row_codes(statistics, frame[rows.tolist()].select(columns), pl.Series(said[rows]))

    kept = ReferenceRows(
        codes=codes(reference),
        raw=said[reference],
        y=truth[reference],
        influence=np.zeros((0, 0)),
        features=np.zeros((4, 0)),
    )
    unlabelled = Unlabelled(codes=codes(live), answers=answers(said[live]))
    metrics = [metric_named(name) for name in table.metrics]
    started = time.process_time()
    found = estimation(
        kept,
        answers(said[reference]),
        unlabelled,
        [Criterion(metric=name, at_most=1.0) for name in table.metrics],
        metrics,
        ordered=ordered_streams(statistics),
    )
    cpu_s = time.process_time() - started
    ones = np.ones((1, len(live)))
    realised = {
        m.name: float(m.resampled(truth[live], answers(said[live]), ones)[0]) for m in metrics
    }
    for part, rows in (("reference", reference), ("live", live)):
        labelled = (
            frame[rows.tolist()]
            .select(columns)
            .with_columns(
                pl.Series("__y", truth[rows]),
                pl.Series("__said", said[rows]),
                pl.Series("__class", (said[rows] >= 0.5).astype(float)),
            )
        )
        labelled.write_parquet(folder / f"{part}.parquet")
    return {
        "ours": {each.metric: each.value for each in found.estimates},
        "as it was": {each.metric: each.reference for each in found.estimates},
        "realised": realised,
        "cpu_s": cpu_s,
    }


def peer_estimates(python: str, table: Table, folder: Path) -> dict[str, Any]:
    """Return what NannyML estimates on the rows in a folder."""
    kind = "classes" if table.positive else "numbers"
    done = subprocess.run(
        [python, "-W", "ignore", str(PEER), str(folder), kind],
        capture_output=True,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def main() -> None:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peer", help="a Python with nannyml")
    chosen = parser.parse_args()
    for table in TABLES:
        errors: dict[tuple[str, float, str], list[float]] = defaultdict(list)
        cpu: dict[str, list[float]] = defaultdict(list)
        for tilt in TILTS:
            for seed in range(chosen.seeds):
                with tempfile.TemporaryDirectory() as scratch:
                    found = run(table, tilt, seed, Path(scratch))
                    if chosen.peer:
                        peer = peer_estimates(chosen.peer, table, Path(scratch))
                        found["NannyML"] = peer["estimates"]
                        cpu["NannyML"].append(peer["cpu_s"])
                cpu["ours"].append(found["cpu_s"])
                for who in ("ours", "NannyML", "as it was"):
                    for name, value in (found.get(who) or {}).items():
                        if value is not None:
                            off = abs(value - found["realised"][name])
                            errors[name, tilt, who].append(off)
        print(f"\n{table.name}, {table.tilted} tilted, {chosen.seeds} draws: mean absolute error")
        for name in table.metrics:
            for tilt in TILTS:
                cells = [
                    f"{who} {np.mean(errors[name, tilt, who]):.4g}"
                    for who in ("ours", "NannyML", "as it was")
                    if errors[name, tilt, who]
                ]
                print(f"  {name:26s} tilt {tilt:g}: {', '.join(cells)}")
        print("  CPU s: " + ", ".join(f"{who} {np.median(s):.2f}" for who, s in cpu.items()))


if __name__ == "__main__":
    main()
