"""How often "is it machine learning?" is answered wrongly, and what the answer costs.

    python benchmarks/bench_decide.py [--tables FOLDER] [--runs 20] [--seeds 6]

1. False "there is a signal": real tables, the target shuffled, small samples of rows.
2. The verdict on cases made so that the right one is known.
3. CPU seconds of the whole question on a table of house prices, in a process that is warm.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from loopwright.evaluate import Layout, framing, signal_of
from loopwright.evaluate.entrant import out_of_fold
from loopwright.evaluate.readable import readable_table
from loopwright.problem import Criterion, metric_named

HOUSES = Path(__file__).parents[1] / "examples" / "house-prices" / "houses.parquet"
TABLES = (
    ("kc_house", "price", 0),
    ("telco_churn", "Churn", 2),
    ("wine_quality", "quality", 0),
    ("adult", "income", 2),
)
N_ROWS = 150


def truth(frame: pl.DataFrame, target: str, n_classes: int) -> np.ndarray:
    values = frame[target]
    if n_classes:
        return (values == values.unique().sort()[-1]).cast(pl.Float64).to_numpy()
    return values.cast(pl.Float64).to_numpy()


def false_signals(folder: Path, n_runs: int) -> dict[str, object]:
    """Return how often a shuffled target has a signal, at a level of one in twenty."""
    found: Counter[str] = Counter()
    n_shuffled = 0
    for name, target, n_classes in TABLES:
        whole = pl.read_parquet(folder / f"{name}.parquet").drop_nulls(target)
        for seed in range(n_runs // len(TABLES)):
            rng = np.random.default_rng(seed)
            frame = whole[rng.permutation(whole.height)[:N_ROWS].tolist()]
            y = rng.permutation(truth(frame, target, n_classes))
            if n_classes and len(np.unique(y)) < 2:
                continue
            table = readable_table(frame.drop(target))
            classes = ("no", "yes") if n_classes else ()
            measure = metric_named("log_loss" if classes else "mae")
            said = out_of_fold(
                table, y, classes=classes, measure=measure, layout=Layout(), seed=seed
            ).said
            signal = signal_of(
                table.matrix,
                y,
                [said[way] for way in ("rule-3", "linear", "boosted")],
                n_classes=n_classes,
                layout=Layout(),
                seed=seed,
            )
            n_shuffled += signal.n_permutations
            found[name] += signal.found
    n_tables = len(TABLES) * (n_runs // len(TABLES))
    return {
        "level": 0.05,
        "runs": n_tables,
        "false signals": sum(found.values()),
        "ratio": round(sum(found.values()) / n_tables, 3),
        "by table": dict(found),
        "shuffles a run": round(n_shuffled / n_tables, 1),
    }


def case(kind: str, seed: int) -> tuple[pl.DataFrame, np.ndarray, Criterion, int]:
    """Return rows, target, criterion and test rows of a case whose right verdict is its name."""
    rng = np.random.default_rng(seed)
    n = 120 if kind == "not_with_this_data" else 1_500
    X = rng.normal(size=(n, 6))
    frame = pl.DataFrame({f"x{k}": X[:, k] for k in range(6)})
    smooth = 100 + 8 * np.tanh(X[:, 0]) * X[:, 1] + 5 * np.abs(X[:, 2]) + 0.3 * rng.normal(size=n)
    if kind == "no_signal":
        return frame, rng.permutation(smooth), Criterion(metric="mae", at_most=2.0), 200
    if kind == "rule_enough":
        y = 100 + 20 * ((X[:, 0] > 0.3) & (X[:, 1] < 0.5)) + 0.5 * rng.normal(size=n)
        return frame, y, Criterion(metric="mae", at_most=1.0), 200
    mae = 0.9 if kind == "not_with_this_data" else 1.6
    return frame, smooth, Criterion(metric="mae", at_most=mae), 200


def right_verdicts(n_seeds: int) -> dict[str, dict[str, float]]:
    """Return the verdicts on each kind of case, and the share that is right."""
    told: dict[str, dict[str, float]] = {}
    for kind in ("rule_enough", "ml_worth_it", "not_with_this_data", "no_signal"):
        verdicts: Counter[str] = Counter()
        for seed in range(n_seeds):
            frame, y, criterion, n_test = case(kind, seed)
            verdicts[
                framing(
                    frame,
                    y,
                    classes=(),
                    criteria=[criterion],
                    metrics=[metric_named("mae")],
                    confidence=0.95,
                    parts={"train": len(y), "validation": 0, "test": n_test},
                    seed=seed,
                ).decision
            ] += 1
        told[kind] = {**verdicts, "right": round(verdicts[kind] / n_seeds, 3)}
    return told


def cost() -> dict[str, float]:
    """Return CPU seconds of the question on house prices: clear, out of reach, and shuffled."""
    frame = pl.read_parquet(HOUSES)
    y = frame["price"].cast(pl.Float64).to_numpy()
    rows = frame.drop("price")
    shuffled = np.random.default_rng(1).permutation(y)
    spent = {}
    for name, target, mape in (
        ("warming up", y, 0.15),
        ("worth it", y, 0.15),
        ("out of reach", y, 0.01),
        ("no signal", shuffled, 0.15),
    ):
        clock = time.process_time()
        framing(
            rows,
            target,
            classes=(),
            criteria=[Criterion(metric="mape", at_most=mape)],
            metrics=[metric_named("mape")],
            confidence=0.95,
            parts={"train": len(y), "validation": 0, "test": len(y) // 10},
        )
        spent[name] = round(time.process_time() - clock, 2)
    return spent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=Path, default=Path("../shared/datasets"))
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=6)
    given = parser.parse_args()
    print(json.dumps({"cpu_s": cost()}), flush=True)
    print(json.dumps({"verdicts": right_verdicts(given.seeds)}), flush=True)
    with threadpool_limits(1):
        print(json.dumps(false_signals(given.tables, given.runs)), flush=True)


if __name__ == "__main__":
    main()
