"""SHAP values beside the shap library on the same model and rows, and a report on a million rows.

`PYTHONPATH=src python benchmarks/bench_explain.py [--shap-python PATH] [--rounds 3] [--report-rows N]`

`--shap-python` names a Python that has shap, lightgbm and scikit-learn; the library is no
dependency of loopwright. Each measurement is a process of its own with one thread, the two are
interleaved, and the median of CPU seconds (user and system) is printed, with the ratio and the
greatest difference of the values. Models: LightGBM with 300 trees of 31 leaves, and a random
forest of 100 trees to depth 12. The report part makes a table of 1,000,000 rows, judges a LightGBM
model of 100 trees on all of them, and prints the CPU seconds of each part of the report.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

N_TRAIN, N_ROWS, N_FEATURES = 20_000, 1_000, 20
MODELS = ("lightgbm", "random-forest")


def prepare(folder: Path) -> None:
    """Train the models and write them with their rows."""
    import lightgbm
    import numpy as np
    from sklearn.ensemble import RandomForestRegressor

    from loopwright.train.lightgbm_learner import exported_text
    from loopwright.train.predictor_file import pack_predictor
    from loopwright.train.sklearn_trees import exported_trees
    from loopwright.train.training_data import TrainingData, TrainingPart

    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_TRAIN, N_FEATURES)).astype(np.float32).astype(np.float64)
    y = 3 * X[:, 0] + X[:, 1] ** 2 + X[:, 2] * X[:, 3] + rng.normal(size=N_TRAIN)
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    booster = lightgbm.train(
        {"objective": "regression", "verbosity": -1, "num_threads": 2}, lightgbm.Dataset(X, y), 300
    )
    booster.save_model(folder / "lightgbm.txt")
    forest = RandomForestRegressor(
        100, max_depth=12, bootstrap=False, max_features=0.3, n_jobs=2, random_state=0
    )
    forest.fit(X, y)
    part = TrainingPart(X=X, y=y)
    predictors = {
        "lightgbm": exported_text(booster.model_to_string(), link="identity"),
        "random-forest": exported_trees(
            forest.estimators_,
            TrainingData(train=part, validation=part, n_classes=0),
            classes=None,
            averaged=True,
        ),
    }
    for name, predictor in predictors.items():
        for member, data in pack_predictor(predictor).items():
            (folder / f"{name}.{member}").write_bytes(data)


def run_ours(folder: Path, model: str) -> dict[str, Any]:
    """Explain the rows with loopwright, many at once and one alone."""
    import numpy as np

    from loopwright.train.branches import branches_of
    from loopwright.train.predictor_file import open_predictor
    from loopwright.train.tree_shap import TreeShap

    X = np.load(folder / "X.npy")
    arrays, meta = ((folder / f"{model}.predictor.{end}").read_bytes() for end in ("npz", "json"))
    branches = branches_of(open_predictor(arrays, meta))
    assert branches is not None
    cover = branches.counted(X)
    began = time.process_time()
    values = TreeShap(branches, cover).values(X[:N_ROWS])
    took = time.process_time() - began
    shap = TreeShap(branches, cover)
    shap.values(X[:1])
    began = time.process_time()
    for row in range(20):
        shap.values(X[row : row + 1])
    one = (time.process_time() - began) / 20
    np.save(folder / f"{model}.ours.npy", values[:, :, 0])
    return {"cpu_s": took, "one_row_s": one, "n_nodes": len(branches.left)}


SHAP = """
import json, sys, time
import numpy as np, shap, lightgbm
from sklearn.ensemble import RandomForestRegressor
folder, model, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
X, y = np.load(folder + "/X.npy"), np.load(folder + "/y.npy")
if model == "lightgbm":
    fitted = lightgbm.Booster(model_file=folder + "/lightgbm.txt", params={"num_threads": 1})
else:
    fitted = RandomForestRegressor(100, max_depth=12, bootstrap=False, max_features=0.3, n_jobs=1, random_state=0)
    fitted.fit(X, y)
explainer = shap.TreeExplainer(fitted, feature_perturbation="tree_path_dependent")
def values(rows):
    return explainer.shap_values(rows, check_additivity=False)
values(X[:2])
began = time.process_time()
found = values(X[:n])
took = time.process_time() - began
began = time.process_time()
for row in range(20):
    values(X[row : row + 1])
one = (time.process_time() - began) / 20
np.save(folder + "/" + model + ".shap.npy", np.asarray(found).reshape(n, -1))
print(json.dumps({"cpu_s": took, "one_row_s": one, "version": shap.__version__}))
"""


def _process(command: list[str]) -> dict[str, Any]:
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **one_thread}
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(shap_python: str | None, rounds: int) -> None:
    """Print the times of both on each model."""
    import numpy as np

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for model in MODELS:
            ours, theirs = [], []
            for _ in range(rounds):
                ours.append(_process([sys.executable, __file__, "--ours", name, model]))
                if shap_python:
                    theirs.append(_process([shap_python, "-c", SHAP, name, model, str(N_ROWS)]))
            cpu = statistics.median(each["cpu_s"] for each in ours)
            one = statistics.median(each["one_row_s"] for each in ours)
            print(
                f"{model} ({ours[0]['n_nodes']:,} nodes): loopwright {1e3 * cpu / N_ROWS:.3f} ms a row of {N_ROWS:,}, {1e3 * one:.2f} ms for one alone"
            )
            if not theirs:
                continue
            shap_cpu = statistics.median(each["cpu_s"] for each in theirs)
            shap_one = statistics.median(each["one_row_s"] for each in theirs)
            gap = np.abs(
                np.load(folder / f"{model}.ours.npy") - np.load(folder / f"{model}.shap.npy")
            )
            print(
                f"  shap {theirs[0]['version']}: {1e3 * shap_cpu / N_ROWS:.3f} ms a row, "
                f"{1e3 * shap_one:.2f} ms for one; loopwright takes {cpu / shap_cpu:.2f} and "
                f"{one / shap_one:.2f} times as long; greatest difference {gap.max():.1e}"
            )


def report(n_rows: int) -> None:
    """Print the CPU seconds of each part of a report on many rows."""
    import lightgbm
    import numpy as np
    import polars as pl

    from loopwright.evaluate import Subject, examine
    from loopwright.evaluate.explanation import explanation
    from loopwright.evaluate.fairness import fairness
    from loopwright.prepare import Signature, fit_recipe
    from loopwright.prepare.lineage import feature_origins
    from loopwright.prepare.one_hot import OneHot
    from loopwright.prepare.recipe import Recipe
    from loopwright.problem import FairnessLimit, class_answers, metric_named
    from loopwright.train import Outcome
    from loopwright.train.array_file import open_arrays
    from loopwright.train.attribution import Attributor
    from loopwright.train.lightgbm_learner import exported_text
    from loopwright.train.predictor_file import pack_predictor
    from loopwright.train.reason import explanation_member
    from loopwright.train.serving_model import assembled_model

    rng = np.random.default_rng(0)
    frame = pl.DataFrame(
        {
            **{f"n{k}": rng.normal(size=n_rows) for k in range(12)},
            **{f"c{k}": rng.choice([f"level {j}" for j in range(5)], n_rows) for k in range(4)},
            "sex": rng.choice(["f", "m"], n_rows),
        }
    )
    score = frame["n0"] + frame["n1"] * frame["n2"] + (frame["c0"] == "level 1").cast(pl.Float64)
    y = (rng.random(n_rows) < 1 / (1 + np.exp(-score.to_numpy()))).astype(np.float64)
    clock = _Clock()
    train = frame.head(100_000)
    fitted, _ = fit_recipe(
        Recipe((OneHot(columns=("c0", "c1", "c2", "c3", "sex")),)), train, None, seed=0
    )
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 2}
    booster = lightgbm.train(settings, lightgbm.Dataset(fitted.transform(train), y[:100_000]), 100)
    members = {
        **pack_predictor(exported_text(booster.model_to_string(), link="sigmoid")),
        "recipe.json": fitted.to_json().encode(),
        "signature.json": Signature.from_frame(train).to_json().encode(),
    }
    outcome = Outcome(task="binary", classes=("no", "yes"))
    model = assembled_model(members, name="m", algorithm="lightgbm", outcome=outcome, version="1")
    clock.tell("training (not part of the report)")
    raw = model.predict_frame(frame)
    answers = class_answers(raw)
    clock.tell(f"answers for {n_rows:,} rows")
    member = explanation_member(model, train)
    attributor = Attributor(
        predictor=model.predictor,
        background=open_arrays(member, what="explanation"),
        origins=feature_origins(model.fitted),
    )
    clock.tell("what is kept to explain")
    explanation(model, attributor, frame)
    clock.tell("explanation")
    main = metric_named("roc_auc")
    examine(
        Subject(
            target="y",
            outcome=outcome,
            frame=frame,
            y=y,
            answers=answers,
            uncalibrated=raw,
            main=main,
        )
    )
    clock.tell("examination (without columns made to go wrong)")
    limit = FairnessLimit(column="sex", metric="selection_rate", at_most_gap=0.1)
    fairness(frame, y, answers, [limit], task="binary", main=main)
    clock.tell("fairness")


class _Clock:
    def __init__(self) -> None:
        self._cpu = time.process_time()

    def tell(self, what: str) -> None:
        """Print the CPU seconds since the last call."""
        now = time.process_time()
        print(f"  {what}: {now - self._cpu:.2f} s CPU")
        self._cpu = now


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shap-python")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report-rows", type=int, default=1_000_000)
    parser.add_argument("--ours", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(run_ours(Path(options.ours[0]), options.ours[1])))
        return
    if options.rounds:
        compare(options.shap_python, options.rounds)
    if options.report_rows:
        print(f"A report on {options.report_rows:,} rows")
        report(options.report_rows)


if __name__ == "__main__":
    main()
