"""`auto` beside AutoGluon, FLAML and plain LightGBM: quality on real tables in the same seconds.

    python benchmarks/bench_auto.py --peers PEERS/bin/python --budgets 60 300 --seeds 0 1 2 3 4

Every system gets the same rows, processors and seconds, in a process of its own, one after the other
and interleaved. Without `--peers` (a Python with `autogluon.tabular[lightgbm,xgboost,catboost]` and
`flaml[automl]`) only loopwright and LightGBM run. One result is a line in `--out`; a rerun goes on
where the last one ended.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

DATASETS = Path(__file__).parents[2] / "shared" / "datasets"
# table, target, task, columns that would give the answer away
TABLES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "ames": ("Sale_Price", "regression", ()),
    "kc_house": ("price", "regression", ("id",)),
    "diamonds": ("price", "regression", ()),
    "hotel_rates": ("avg_price_per_room", "regression", ()),
    "bikeshare_hourly": ("bikers", "regression", ("casual", "registered")),
    "nycflights13_flights": ("arr_delay", "regression", ("arr_time",)),
    "telco_churn": ("Churn", "binary", ("customerID",)),
    "lending_club": ("Class", "binary", ()),
    "uci_credit_card_default": ("default.payment.next.month", "binary", ("ID",)),
    "adult": ("income", "binary", ()),
    "wine_quality": ("quality", "multiclass", ()),
    "berka_loan": ("status", "multiclass", ("loan_id", "account_id")),
}
SYSTEMS = ("lightgbm", "loopwright", "flaml", "autogluon-medium", "autogluon-good")
OF_PEERS = ("flaml", "autogluon-medium", "autogluon-good")


def rows(name: str, seed: int) -> tuple[Any, Any, str, str]:
    """Return rows to learn from and rows to answer, as pandas tables, the target and the task."""
    import numpy as np
    import pandas as pd

    target, task, left_out = TABLES[name]
    frame = pd.read_parquet(DATASETS / f"{name}.parquet").dropna(subset=[target])
    frame = frame.drop(columns=[c for c in left_out if c in frame])
    # a row that stands among both parts would measure memory, not learning
    frame = frame.drop_duplicates().reset_index(drop=True)
    if task != "regression":
        counts = frame[target].value_counts()
        frame = frame[frame[target].isin(counts[counts >= 10].index)].reset_index(drop=True)
        frame[target] = frame[target].astype(str)
    order = np.random.default_rng(seed).permutation(len(frame))
    cut = int(0.8 * len(frame))
    return frame.iloc[order[:cut]], frame.iloc[order[cut:]], target, task


def error_of(task: str, y: Any, raw: Any, train_y: Any, classes: list[str]) -> float:
    """Return the error: RMSE by the spread of the target, 1 - AUC, or the logarithmic loss."""
    import numpy as np
    from sklearn.metrics import log_loss, roc_auc_score

    if task == "regression":
        spread = np.std(np.asarray(train_y, dtype=float))
        return float(np.sqrt(np.mean((np.asarray(y, dtype=float) - raw) ** 2)) / spread)
    if task == "binary":
        return float(1 - roc_auc_score(np.asarray(y) == classes[1], raw))
    return float(log_loss(y, np.clip(raw, 1e-15, 1), labels=classes))


def run_loopwright(train: Any, target: str, task: str, budget: float) -> Any:
    """Fit loopwright's auto and return its answers, and what answers a table."""
    import numpy as np
    import polars as pl

    from loopwright.explore import profile
    from loopwright.prepare import suggest
    from loopwright.problem import metric_named
    from loopwright.train import Outcome
    from loopwright.tune.auto import families_of, fit_auto
    from loopwright.tune.fold import n_folds_for, random_folds
    from loopwright.tune.prepared import Table

    started = time.monotonic()
    frame = pl.from_pandas(train)
    classes = sorted(frame[target].unique().to_list()) if task != "regression" else []
    place = {name: float(index) for index, name in enumerate(classes)}
    y = frame[target].replace_strict(place) if classes else frame[target]
    kinds = {c.name: c.kind for c in profile(frame, target=target, task=task).columns}
    kinds.pop(target, None)
    recipes = {f: suggest(frame, target, task, family=f, kinds=kinds) for f in families_of()}
    table = Table(
        frame=frame.drop(target),
        y=y.cast(pl.Float64).to_numpy().astype(np.float64),
        outcome=Outcome(task=task, classes=tuple(classes)),
        recipes=recipes,
    )
    folds = random_folds(
        table.frame, table.y, n_folds=n_folds_for(len(table)), seed=7, is_class=bool(classes)
    )
    metric = {"regression": "rmse", "binary": "roc_auc", "multiclass": "log_loss"}[task]
    model = fit_auto(
        table,
        folds,
        metric=metric_named(metric),
        budget_s=budget - (time.monotonic() - started),
        cpus=2,
    )
    answer = lambda part: model.predict_raw(pl.from_pandas(part.drop(columns=[target])))  # noqa: E731
    return answer, classes, [line for line in model.leaderboard if line["weight"]]


def run_lightgbm(train: Any, target: str, task: str, budget: float) -> Any:
    """Fit LightGBM with its defaults, texts as categories."""
    import lightgbm
    import pandas as pd

    X = train.drop(columns=[target])
    levels = {
        c: pd.CategoricalDtype(sorted(X[c].dropna().astype(str).unique()))
        for c in X.columns
        if not pd.api.types.is_numeric_dtype(X[c])
    }

    def table(part: Any) -> Any:
        part = part.drop(columns=[target]).copy()
        for name, dtype in levels.items():
            part[name] = (
                part[name].astype("string").astype(object).where(part[name].notna()).astype(dtype)
            )
        return part.rename(columns={c: f"c{i}" for i, c in enumerate(part.columns)})

    model = (lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier)(
        n_jobs=2, verbose=-1
    ).fit(table(train), train[target])
    classes = list(getattr(model, "classes_", []))

    def answer(part: Any) -> Any:
        if task == "regression":
            return model.predict(table(part))
        raw = model.predict_proba(table(part))
        return raw[:, 1] if task == "binary" else raw

    return answer, classes, []


def run_autogluon(train: Any, target: str, task: str, budget: float, preset: str) -> Any:
    """Fit AutoGluon."""
    from autogluon.tabular import TabularPredictor

    metric = {
        "regression": "root_mean_squared_error",
        "binary": "roc_auc",
        "multiclass": "log_loss",
    }
    predictor = TabularPredictor(
        label=target,
        problem_type=task,
        eval_metric=metric[task],
        path=tempfile.mkdtemp(),
        verbosity=0,
    ).fit(train, time_limit=budget, presets=preset, num_cpus=2, num_gpus=0)
    classes = sorted(train[target].unique()) if task != "regression" else []

    def answer(part: Any) -> Any:
        part = part.drop(columns=[target])
        if task == "regression":
            return predictor.predict(part).to_numpy()
        raw = predictor.predict_proba(part)[classes].to_numpy()
        return raw[:, 1] if task == "binary" else raw

    return answer, classes, []


def run_flaml(train: Any, target: str, task: str, budget: float) -> Any:
    """Fit FLAML."""
    from flaml import AutoML

    automl = AutoML()
    automl.fit(
        train.drop(columns=[target]),
        train[target],
        task="regression" if task == "regression" else "classification",
        metric={"regression": "rmse", "binary": "roc_auc", "multiclass": "log_loss"}[task],
        time_budget=budget,
        n_jobs=2,
        verbose=0,
        seed=0,
    )
    classes = [str(c) for c in automl.classes_] if task != "regression" else []

    def answer(part: Any) -> Any:
        part = part.drop(columns=[target])
        if task == "regression":
            return automl.predict(part)
        raw = automl.predict_proba(part)
        return raw[:, 1] if task == "binary" else raw

    return answer, classes, []


def one(system: str, name: str, seed: int, budget: float) -> dict[str, Any]:
    """Run one system on one table, in this process."""
    import resource

    train, test, target, task = rows(name, seed)
    clock = time.perf_counter()
    if system.startswith("autogluon"):
        preset = {"medium": "medium_quality", "good": "good_quality"}[system.partition("-")[2]]
        answer, classes, about = run_autogluon(train, target, task, budget, preset)
    else:
        run = {"loopwright": run_loopwright, "lightgbm": run_lightgbm, "flaml": run_flaml}[system]
        answer, classes, about = run(train, target, task, budget)
    fit_s = time.perf_counter() - clock
    raw = answer(test)
    some = test.iloc[: min(1_000, len(test))]
    clock = time.perf_counter()
    answer(some)
    predict_s = (time.perf_counter() - clock) / len(some)
    return {
        "system": system,
        "table": name,
        "seed": seed,
        "budget": budget,
        "error": error_of(task, test[target], raw, train[target], classes),
        "fit_s": fit_s,
        "us_per_row": predict_s * 1e6,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "about": about,
    }


def table_of(results: list[dict[str, Any]], budget: float) -> None:
    """Print errors by table and the mean rank of each system."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    ranks: dict[str, list[float]] = defaultdict(list)
    by_pair: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for each in results:
        if each["budget"] == budget and "error" in each:
            found[each["table"]][each["system"]].append(each["error"])
            by_pair[each["table"], each["seed"]][each["system"]] = each["error"]
    systems = [s for s in SYSTEMS if any(s in by for by in found.values())]
    for pair in by_pair.values():
        if len(pair) == len(systems):
            for system, error in pair.items():
                below = sum(other < error for other in pair.values())
                same = sum(other == error for other in pair.values())
                ranks[system].append(below + (same + 1) / 2)
    print(f"\n{budget:g} seconds, 2 processors: error (mean over seeds), smaller is better")
    print(f"{'':24s}" + "".join(f"{s:>18s}" for s in systems))
    for name, by in found.items():
        cells = (f"{sum(by[s]) / len(by[s]):18.5f}" if by[s] else f"{'-':>18s}" for s in systems)
        print(f"{name:24s}" + "".join(cells))
    print(
        f"{'mean rank':24s}"
        + "".join(f"{sum(ranks[s]) / max(1, len(ranks[s])):18.2f}" for s in systems)
    )
    for label, key in (("fit, seconds", "fit_s"), ("answer, us a row", "us_per_row")):
        cells = []
        for s in systems:
            values = sorted(
                r[key] for r in results if r["system"] == s and r["budget"] == budget and key in r
            )
            cells.append(f"{values[len(values) // 2]:18.1f}" if values else f"{'-':>18s}")
        print(f"{label + ' (median)':24s}" + "".join(cells))


def main() -> None:
    """Run what is asked for and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", default="")
    parser.add_argument("--budgets", type=float, nargs="+", default=[60.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tables", nargs="+", default=list(TABLES))
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--out", default=str(Path(tempfile.gettempdir()) / "bench_auto.jsonl"))
    parser.add_argument("--one", nargs=4)
    options = parser.parse_args()
    if options.one:
        system, name, seed, budget = options.one
        print(json.dumps(one(system, name, int(seed), float(budget))))
        return
    if not DATASETS.is_dir():
        print("The real tables are not here; nothing is measured.")
        return
    out = Path(options.out)
    results = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    done = {(r["system"], r["table"], r["seed"], r["budget"]) for r in results}
    systems = [s for s in options.systems if options.peers or s not in OF_PEERS]
    for seed in options.seeds:
        for budget in options.budgets:
            for name in options.tables:
                for system in systems:
                    if (system, name, seed, budget) in done:
                        continue
                    results.append(in_child(options.peers, system, name, seed, budget))
                    with out.open("a") as file:
                        file.write(json.dumps(results[-1]) + "\n")
                    print({k: v for k, v in results[-1].items() if k != "about"}, flush=True)
    for budget in options.budgets:
        table_of(results, budget)


def in_child(peers: str, system: str, name: str, seed: int, budget: float) -> dict[str, Any]:
    """Run one system on one table in a process of its own."""
    python = peers if system in OF_PEERS else sys.executable
    command = [python, __file__, "--one", system, name, str(seed), str(budget)]
    env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    if system == "loopwright":
        env |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=3 * budget + 120, check=True
        )
        result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        why = getattr(error, "stderr", "") or str(error)
        return {
            "system": system,
            "table": name,
            "seed": seed,
            "budget": budget,
            "failed": str(why)[-300:],
        }
    return result


if __name__ == "__main__":
    main()
