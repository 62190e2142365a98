"""One tool on one table, in the process it is called in; `bench_auto.py` starts it.

    PYTHON benchmarks/automl_tool.py TOOL TABLE SEED SECONDS CORES ANSWERS.npz

Prints one JSON line, and writes what the tool answered to the file. The seconds begin when the rows
are in memory; what a tool imports counts.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automl_table import METRIC, digest_of, error_of, rows, truth_of

_BATCH = 1_000
_N_SINGLE = 100
_MEMORY_MIB = 6_144


@dataclass
class Fitted:
    """A model: what answers a table, its classes, what to tell, what answers one row of a table."""

    answer: Callable[[Any], Any]
    classes: list[str]
    about: dict[str, Any] = field(default_factory=dict)
    answer_one: Callable[[Any], Any] | None = None


def fit_loopwright(train: Any, target: str, task: str, seconds: float, cores: int) -> Fitted:
    """Do an `auto` job, as `loopwright run` orders it, and open the model it leaves."""
    began = time.monotonic()
    import msgspec
    import polars as pl

    from loopwright.explore import profile
    from loopwright.prepare import suggest
    from loopwright.train import Outcome, TrainingSpec, model_members
    from loopwright.train.serving_model import assembled_model
    from loopwright.tune.auto import families_of
    from loopwright.tune.job import AUTO_FILE, TRIALS_FILE, AutoSpec, recipe_file
    from loopwright.tune.worker import do_auto_job

    folder = Path(tempfile.mkdtemp())
    frame = pl.from_pandas(train)
    classes = sorted(frame[target].unique().to_list()) if task != "regression" else []
    kinds = {c.name: c.kind for c in profile(frame, target=target, task=task).columns}
    kinds.pop(target, None)
    for family in families_of():
        recipe = suggest(frame, target, task, family=family, kinds=kinds)
        (folder / recipe_file(family)).write_text(recipe.to_json())
    frame.write_parquet(folder / "train.parquet")
    # an `auto` job answers these and learns nothing from them; they are rows it has learnt from
    frame.head(200).write_parquet(folder / "validation.parquet")
    spec = AutoSpec(
        training=TrainingSpec(
            algorithm="auto", task=task, target=target, classes=tuple(classes), threads=cores
        ),
        budget_s=seconds - (time.monotonic() - began),
        memory_mib=_MEMORY_MIB,
        metric=METRIC[task],
    )
    (folder / AUTO_FILE).write_bytes(msgspec.json.encode(spec))
    said = sys.stdout
    with (folder / "log").open("w") as log:
        sys.stdout = log
        try:
            result = do_auto_job(folder)
        finally:
            sys.stdout = said
    model = assembled_model(
        {name: path.read_bytes() for name, path in model_members(folder).items()},
        name="bench",
        algorithm="auto",
        outcome=Outcome(task=task, classes=tuple(classes)),
        version="1",
    )
    tried = json.loads((folder / "out" / TRIALS_FILE).read_bytes())
    about = {
        "n_trials": len(tried["trials"]),
        "n_fits": sum(each["folds"] for each in tried["trials"]),
        "members": result.hyperparameters,
        "failures": [each["failure"] for each in tried["trials"] if each["failure"]][:3],
    }

    def answer(part: Any) -> Any:
        return model.predict_frame(pl.from_pandas(part.drop(columns=[target])))

    def answer_one(part: Any) -> Any:
        return model.predict(part.drop(columns=[target]))

    return Fitted(answer=answer, classes=classes, about=about, answer_one=answer_one)


def fit_lightgbm(train: Any, target: str, task: str, seconds: float, cores: int) -> Fitted:
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
            texts = part[name].astype("string").astype(object)
            part[name] = texts.where(part[name].notna()).astype(dtype)
        return part.rename(columns={c: f"c{i}" for i, c in enumerate(part.columns)})

    kind = lightgbm.LGBMRegressor if task == "regression" else lightgbm.LGBMClassifier
    model = kind(n_jobs=cores, verbose=-1).fit(table(train), train[target])

    def answer(part: Any) -> Any:
        if task == "regression":
            return model.predict(table(part))
        raw = model.predict_proba(table(part))
        return raw[:, 1] if task == "binary" else raw

    return Fitted(answer=answer, classes=[str(c) for c in getattr(model, "classes_", [])])


def fit_autogluon(
    train: Any, target: str, task: str, seconds: float, cores: int, preset: str
) -> Fitted:
    """Fit AutoGluon with one of its presets."""
    began = time.monotonic()
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
    ).fit(
        train,
        time_limit=seconds - (time.monotonic() - began),
        presets=preset,
        num_cpus=cores,
        num_gpus=0,
    )
    classes = sorted(train[target].unique()) if task != "regression" else []
    # as its documentation advises before a model serves
    predictor.persist()

    def answer(part: Any) -> Any:
        part = part.drop(columns=[target])
        if task == "regression":
            return predictor.predict(part).to_numpy()
        raw = predictor.predict_proba(part)[classes].to_numpy()
        return raw[:, 1] if task == "binary" else raw

    about = {"best": str(predictor.model_best), "n_trials": len(predictor.model_names())}
    return Fitted(answer=answer, classes=classes, about=about)


def fit_flaml(train: Any, target: str, task: str, seconds: float, cores: int) -> Fitted:
    """Fit FLAML."""
    began = time.monotonic()
    from flaml import AutoML

    automl = AutoML()
    automl.fit(
        train.drop(columns=[target]),
        train[target],
        task="regression" if task == "regression" else "classification",
        metric=METRIC[task],
        time_budget=seconds - (time.monotonic() - began),
        n_jobs=cores,
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

    return Fitted(answer=answer, classes=classes, about={"best": str(automl.best_estimator)})


def fitted_by(tool: str, *given: Any) -> Fitted:
    """Return the model of a tool by its name."""
    if tool.startswith("autogluon"):
        preset = {"medium": "medium_quality", "good": "good_quality"}[tool.partition("-")[2]]
        return fit_autogluon(*given, preset)
    return {"loopwright": fit_loopwright, "lightgbm": fit_lightgbm, "flaml": fit_flaml}[tool](
        *given
    )


def seconds_of(answer: Callable[[Any], Any], part: Any) -> float:
    """Return the wall time of one answer."""
    clock = time.perf_counter()
    answer(part)
    return time.perf_counter() - clock


def measured(
    tool: str, name: str, seed: int, seconds: float, cores: int, answers: Path
) -> dict[str, Any]:
    """Run a tool on a table, and return what came of it."""
    import numpy as np

    train, test, target, task = rows(name, seed)
    clock = time.perf_counter()
    model = fitted_by(tool, train, target, task, seconds, cores)
    fit_s = time.perf_counter() - clock
    clock = time.perf_counter()
    raw = np.asarray(model.answer(test), dtype=float)
    answer_s = time.perf_counter() - clock
    y = truth_of(task, test[target], model.classes)
    spread = float(np.std(np.asarray(train[target], dtype=float))) if task == "regression" else 1.0
    batch = test.iloc[: min(_BATCH, len(test))]
    one = model.answer_one or model.answer
    singles = [seconds_of(one, test.iloc[[n % len(test)]]) for n in range(_N_SINGLE)]
    np.savez_compressed(answers, y=y, raw=raw, spread=spread)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    below = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "task": task,
        "n_rows": len(train) + len(test),
        "n_columns": train.shape[1] - 1,
        "rows_digest": digest_of(y),
        "error": error_of(task, y, raw, spread),
        "fit_s": fit_s,
        "cpu_s": usage.ru_utime + usage.ru_stime + below.ru_utime + below.ru_stime,
        "answer_s": answer_s,
        "us_per_row": sorted(seconds_of(model.answer, batch) for _ in range(3))[1]
        / len(batch)
        * 1e6,
        "us_single": sorted(singles)[len(singles) // 2] * 1e6,
        "peak_mib": max(usage.ru_maxrss, below.ru_maxrss) / 1024,
        "about": model.about,
    }


if __name__ == "__main__":
    tool, name, seed, seconds, cores, answers = sys.argv[1:]
    # libraries print as they please; the last line is ours
    result = measured(tool, name, int(seed), float(seconds), int(cores), Path(answers))
    print("\n" + json.dumps(result), flush=True)
    # threads of some libraries outlive their work
    os._exit(0)
