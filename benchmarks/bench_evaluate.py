"""How often bounds, verdicts and intervals are wrong on resampled real rows, and what looking costs.

`python benchmarks/bench_evaluate.py TABLES` takes a folder with `kc_house.parquet`,
`uci_credit_card_default.parquet` and `adult.parquet`. A model is trained on a third of each table;
the other rows stand for the world. Samples of it are drawn again and again, and every bound is held
against the value in the world: one at 95 % should be wrong in 5 % of the samples, and a criterion
that lies exactly at the world's value should be called met no more often than that. By default two
tables, samples of 100 and 400 rows and 60 of each; `--all` takes three tables, 2,500 rows as well and
200 samples. `--large` looks at a million rows from all sides and shows time and peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from loopwright.evaluate import figure, fitted_interval, recalibrated, row_units
from loopwright.evaluate.inspection import Subject, examine
from loopwright.evaluate.resampling import measured
from loopwright.problem import Answers, class_answers, metric_named, value_answers
from loopwright.train import Outcome

PAYOFF = {"true_positive": 160, "false_positive": -20, "false_negative": -400}
REGRESSION = [
    "mae",
    "medae",
    "mape",
    "wape",
    "rmse",
    "rmsle",
    "r2",
    "share_within_5_percent",
    "absolute_error_of_95_percent",
]
BINARY = [
    "accuracy",
    "log_loss",
    "brier",
    "precision",
    "recall",
    "f1",
    "balanced_accuracy",
    "mcc",
    "roc_auc",
    "average_precision",
    "lift_in_top_decile",
    "precision_at_top_10_percent",
    "profit_per_case",
]


@dataclass(frozen=True)
class World:
    """Rows that stand for all there are, with a model's answers to them."""

    name: str
    frame: pl.DataFrame
    y: np.ndarray
    answers: Answers
    metrics: list[str]


def numeric(frame: pl.DataFrame) -> np.ndarray:
    columns = []
    for name in frame.columns:
        values = frame[name]
        if values.dtype.is_temporal():
            values = values.to_physical()
        elif not values.dtype.is_numeric():
            values = values.cast(pl.String).rank("dense")
        columns.append(values.cast(pl.Float64).to_numpy())
    return np.stack(columns, axis=1)


def world(folder: Path, name: str, target: str, positive: object | None) -> World:
    frame = pl.read_parquet(folder / f"{name}.parquet").drop_nulls(target)
    y = frame[target]
    X = numeric(frame.drop(target))
    part = np.random.default_rng(0).permutation(len(y)) % 3 == 0
    if positive is None:
        truth = y.cast(pl.Float64).to_numpy()
        model = HistGradientBoostingRegressor(max_iter=150, random_state=0)
        said = np.exp(model.fit(X[part], np.log(truth[part])).predict(X[~part]))
        answers, metrics = value_answers(said), REGRESSION
    else:
        truth = (y == positive).cast(pl.Float64).to_numpy()
        model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
        said = model.fit(X[part], truth[part]).predict_proba(X[~part])[:, 1]
        answers, metrics = class_answers(said, threshold=0.3), BINARY
    return World(name, frame.filter(~part), truth[~part], answers, metrics)


def coverage(one: World, n_rows: int, n_samples: int) -> None:
    """Print for each metric how often either bound lies beyond the truth, and over all metrics."""
    wrongly = []
    rng = np.random.default_rng(n_rows)
    draws = [rng.integers(0, len(one.y), n_rows) for _ in range(n_samples)]
    for name in one.metrics:
        metric = metric_named(name, payoff=PAYOFF)
        truth = measured(metric, one.y, one.answers)
        found = [
            figure(metric, one.y[rows], one.answers.rows(rows), seed=seed)
            for seed, rows in enumerate(draws)
        ]
        bounds = [(each.lower, each.upper) for each in found]
        wrongly.append(told(one.name, n_rows, name, truth, bounds, metric))
    print(
        f"{one.name:<26}{n_rows:>6} over {len(wrongly)} metrics: met wrongly {np.mean(wrongly):.1%} on "
        f"average ({np.mean(wrongly) / 0.05:.2f} of what is allowed), {max(wrongly):.1%} at most",
        flush=True,
    )


def told(where, n_rows, name, truth, bounds, metric) -> float:  # type: ignore[no-untyped-def]
    """Print how often bounds are wrong, and return how often a criterion is called met wrongly."""
    bounds = np.array(bounds)
    below, above = np.mean(truth < bounds[:, 0]), np.mean(truth > bounds[:, 1])
    wrongly = below if metric.higher_is_better else above
    print(
        f"{where:<26}{n_rows:>6} {name:<30} below {below:6.1%}  above {above:6.1%}  "
        f"met wrongly {wrongly:6.1%}",
        flush=True,
    )
    return float(wrongly)


def grouped(one: World, column: str, n_groups: int, n_samples: int) -> None:
    """Print the same where whole groups are drawn: with units, and as if rows were independent."""
    codes = one.frame[column].rank("dense").to_numpy().astype(np.int64) - 1
    members = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    rng = np.random.default_rng(1)
    for name in ("mape", "rmse", "share_within_5_percent", "medae", "r2"):
        metric = metric_named(name)
        truth = measured(metric, one.y, one.answers)
        by_unit, by_row = [], []
        for seed in range(n_samples):
            drawn = rng.integers(0, len(members), n_groups)
            rows = np.concatenate([members[code] for code in drawn])
            labels = np.repeat(np.arange(n_groups), [len(members[code]) for code in drawn])
            units = row_units(pl.Series(labels), by="group")
            y, answers = one.y[rows], one.answers.rows(rows)
            for found, how in ((by_unit, units), (by_row, None)):
                each = figure(metric, y, answers, seed=seed, units=how)
                found.append((each.lower, each.upper))
        told(f"{n_groups} groups, by group", len(rows), name, truth, by_unit, metric)
        told(f"{n_groups} groups, by row", len(rows), name, truth, by_row, metric)


def intervals(one: World, n_samples: int) -> None:
    """Print how often new rows lie in conformal intervals made from few rows."""
    rng = np.random.default_rng(2)
    for n_rows in (50, 200, 1_000):
        for confidence in (0.8, 0.9, 0.95):
            shares, widths = [], []
            for seed in range(n_samples):
                rows = rng.permutation(len(one.y))
                made, _ = fitted_interval(
                    one.y[rows[:n_rows]],
                    one.answers.values[rows[:n_rows]],
                    confidence=confidence,
                    seed=seed,
                )
                new = rows[n_rows : n_rows + 2_000]
                lower, upper = made.bounds(one.answers.values[new])
                shares.append(np.mean((one.y[new] >= lower) & (one.y[new] <= upper)))
                widths.append(np.median((upper - lower) / one.answers.values[new]))
            print(
                f"interval of {one.name} from {n_rows:>5} rows at {confidence:.0%}: "
                f"{np.mean(shares):.1%} inside, median width {np.mean(widths):.2f} of the prediction",
                flush=True,
            )


def repairs(one: World, n_samples: int) -> None:
    """Print how often probabilities that need no repair, and some that do, are repaired."""
    rng = np.random.default_rng(3)
    p = np.clip(one.answers.probability(), 0.01, 0.99)
    sharp = p**2 / (p**2 + (1 - p) ** 2)
    for n_rows in (500, 2_000):
        right = wrong = 0
        for seed in range(n_samples):
            rows = rng.integers(0, len(p), n_rows)
            y = (rng.random(n_rows) < p[rows]).astype(float)
            wrong += recalibrated(y, p[rows], seed=seed).calibration is not None
            right += recalibrated(y, sharp[rows], seed=seed).calibration is not None
        print(
            f"repair from {n_rows:>5} rows: made in {wrong / n_samples:.1%} of samples that need "
            f"none, in {right / n_samples:.1%} of samples that are twice too sure",
            flush=True,
        )


def million(one: World) -> None:
    """Print time and memory of looking at a million rows from all sides."""
    rows = np.random.default_rng(4).integers(0, len(one.y), 1_000_000)
    frame = one.frame[rows.tolist()]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall_s, cpu_s = timed(
        lambda: examine(
            Subject(
                target="y",
                outcome=Outcome(task="binary", classes=("no", "yes"), threshold=0.3),
                frame=frame,
                y=one.y[rows],
                answers=one.answers.rows(rows),
                uncalibrated=one.answers.probability()[rows],
                main=metric_named("roc_auc"),
                payoff=PAYOFF,
            )
        )
    )
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"a million rows of {frame.width} columns: {cpu_s:.1f} s of processor time, {wall_s:.1f} s, "
        f"peak {after:,.0f} MiB ({before:,.0f} before)"
    )


def timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", type=Path, nargs="?")
    parser.add_argument("--samples", type=int, default=None)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--large", action="store_true")
    asked = parser.parse_args()
    if asked.tables is None:
        print("Skipped: give a folder with the tables that the head of this file names.")
        return
    credit = world(asked.tables, "uci_credit_card_default", *credit_target(asked.tables))
    if asked.large:
        million(credit)
        return
    n_samples = asked.samples or (200 if asked.all else 60)
    houses = world(asked.tables, "kc_house", "price", None)
    worlds = [houses, credit]
    if asked.all:
        worlds.append(world(asked.tables, "adult", *adult_target(asked.tables)))
    for one in worlds:
        for n_rows in (100, 400, 2_500) if asked.all else (100, 400):
            coverage(one, n_rows, n_samples)
    grouped(houses, "zipcode", 40, n_samples)
    intervals(houses, n_samples)
    repairs(credit, n_samples)


def credit_target(folder: Path) -> tuple[str, object]:
    return _rarer(folder / "uci_credit_card_default.parquet")


def adult_target(folder: Path) -> tuple[str, object]:
    return _rarer(folder / "adult.parquet")


def _rarer(path: Path) -> tuple[str, object]:
    """Return the last column and the rarer of its two values."""
    frame = pl.read_parquet(path)
    name = frame.columns[-1]
    counts = frame[name].alias("value").value_counts(sort=True)
    return name, counts["value"][-1]


if __name__ == "__main__":
    main()
