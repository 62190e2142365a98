"""The process of an `auto` job: searches within its time, and leaves the best model in `out/`.

`python -m loopwright.tune.worker`, started in the folder that `auto_job` describes. When it is told
to end (SIGTERM) it stops trying, writes the best model so far, and ends with 0.
"""

from __future__ import annotations

import math
import resource
import signal
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, TextIO

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.files import write_atomically
from loopwright.problem import metric_named
from loopwright.train import AUTO, TrainingResult
from loopwright.train.algorithm import TargetTransform
from loopwright.train.job import METRICS_FILE, OUT_FOLDER, RESULT_FILE, TRAIN_FILE, VALIDATION_FILE
from loopwright.train.job_folder import (
    Part,
    digests,
    import_libraries,
    packages,
    read_part,
    write_answers,
    write_model,
)
from loopwright.train.worker import run_in
from loopwright.tune.auto import AutoModel, fit_auto
from loopwright.tune.fold import Fold, group_folds, n_folds_for, random_folds, time_folds
from loopwright.tune.job import AUTO_FILE, TRIALS_FILE, AutoSpec, open_recipes, recipe_file
from loopwright.tune.prepared import Table
from loopwright.tune.search import Trial

# of the memory of the job, what prepared rows may take; the models and the libraries take the rest
_SHARE_OF_PREPARED = 0.35
_MIB = 1 << 20


def main(folder: Path | None = None) -> int:
    """Do the job in a folder, by default the present one, and return the exit code."""
    return run_in(folder or Path.cwd(), do_auto_job)


def do_auto_job(folder: Path) -> TrainingResult:
    """Search as `auto.json` in the folder says, and leave the model in `out/`.

    Raises
    ------
    InvalidInputError
        If the order or the rows cannot be used.
    BackendError
        If no model could be trained.
    """
    started = time.perf_counter()
    spec = _order(folder)
    recipes = open_recipes(folder)
    out = folder / OUT_FOLDER
    out.mkdir(exist_ok=True)
    import_libraries("lightgbm")
    import_s = time.perf_counter() - started
    train = read_part(folder / TRAIN_FILE, spec.training)
    validation = read_part(folder / VALIDATION_FILE, spec.training)
    read_s = time.perf_counter() - started - import_s
    table = _table(spec, train, recipes)
    with (out / METRICS_FILE).open("w", buffering=1) as curve:
        model = _searched(spec, table, started=started, curve=curve)
    fit_s = time.perf_counter() - started - import_s - read_s
    write_atomically(out / TRIALS_FILE, msgspec.json.encode(_trials(model)))
    write_model(out, spec.training, train, model.fitted, predictor=model.predictor, native={})
    answers = model.predictor.predict_raw(model.fitted.transform(validation.frame))
    write_answers(out, spec.training.outcome, validation.y, answers)
    total_s = time.perf_counter() - started
    names = (AUTO_FILE, TRAIN_FILE, VALIDATION_FILE, *(recipe_file(each) for each in recipes))
    result = TrainingResult(
        algorithm=AUTO,
        task=spec.training.task,
        seed=spec.training.seed,
        threads=spec.training.threads,
        target_transform=table.target_transform,
        hyperparameters={t.configuration.name: w for t, w in model.found.chosen},
        best_iteration=None,
        importance=_ranked(model),
        native_difference=0.0,
        n_train=len(train.y),
        n_validation=len(validation.y),
        n_features=len(model.fitted.feature_names),
        import_s=import_s,
        read_s=read_s,
        recipe_s=0.0,
        fit_s=fit_s,
        export_s=total_s - fit_s - import_s - read_s,
        total_s=total_s,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        packages=packages(),
        digests=digests(folder, names),
    )
    # last: a folder with a result is a folder with a whole model
    write_atomically(out / RESULT_FILE, msgspec.json.encode(result))
    return result


def _order(folder: Path) -> AutoSpec:
    try:
        return msgspec.json.decode((folder / AUTO_FILE).read_bytes(), type=AutoSpec)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidInputError(
            f"The auto job in {str(folder)!r} cannot be read: {error}.",
            hint="Start it through `auto_job`.",
            field=AUTO_FILE,
        ) from error


def _table(spec: AutoSpec, train: Part, recipes: dict[str, Any]) -> Table:
    today = spec.training.today
    return Table(
        frame=train.frame,
        y=train.y,
        outcome=spec.training.outcome,
        recipes=recipes,
        weight=train.weight,
        today=date.fromisoformat(today) if today else None,
        seed=spec.training.seed,
        target_transform=_usable_transform(spec, train),
    )


def _usable_transform(spec: AutoSpec, train: Part) -> TargetTransform:
    wanted = spec.training.target_transform
    return wanted if wanted == "none" or float(train.y.min()) > 0 else "none"


def _searched(spec: AutoSpec, table: Table, *, started: float, curve: TextIO) -> AutoModel:
    stopping: list[bool] = []
    # the model so far is worth more than a quick end
    before = signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    n_fits = 0

    def on_trial(trial: Trial, best: float | None) -> None:
        nonlocal n_fits
        n_fits += 1
        print(_line(trial, best, time.perf_counter() - started), flush=True)
        if best is not None:
            entry = {"step": n_fits, "name": f"folds:{spec.metric}", "value": best}
            curve.write(msgspec.json.encode(entry).decode() + "\n")

    try:
        return fit_auto(
            table,
            _divided(spec, table),
            metric=metric_named(spec.metric),
            budget_s=max(1.0, spec.budget_s - (time.perf_counter() - started)),
            cpus=spec.training.threads,
            memory_bytes=int(_SHARE_OF_PREPARED * spec.memory_mib * _MIB),
            algorithms=spec.algorithms,
            max_trials=spec.max_trials,
            only_last=spec.divide_by == "time",
            on_trial=on_trial,
            is_stopped=lambda: bool(stopping),
        )
    finally:
        signal.signal(signal.SIGTERM, before)


def _divided(spec: AutoSpec, table: Table) -> Sequence[Fold]:
    n_folds = n_folds_for(len(table))
    if spec.divide_by == "random" or spec.divide_column not in table.frame.columns:
        return random_folds(
            table.frame, table.y, n_folds=n_folds, seed=table.seed, is_class=table.is_class
        )
    column = table.frame[spec.divide_column or ""]
    if spec.divide_by == "group":
        return group_folds(column, n_folds=max(2, min(n_folds, column.n_unique())), seed=table.seed)
    return time_folds(column, n_folds=n_folds)


def _line(trial: Trial, best: float | None, seconds: float) -> str:
    name = trial.configuration.name
    if trial.failure:
        return f"{seconds:7.1f} s  {name}: failed, {trial.failure}"
    so_far = "" if best is None else f"; best blend {abs(best):.5g}"
    loss = "" if math.isinf(trial.first_loss) else f" {abs(trial.first_loss):.5g}"
    return f"{seconds:7.1f} s  {name}: fold {len(trial.models)},{loss} in {trial.seconds:.1f} s{so_far}"


def _trials(model: AutoModel) -> dict[str, Any]:
    return {
        "trials": model.leaderboard,
        "loss": model.found.loss,
        "n_folds": model.found.n_folds,
        "seconds": model.found.seconds,
    }


def _ranked(model: AutoModel) -> tuple[tuple[str, float], ...]:
    """Return the share of each feature over all recipes, the greatest first."""
    shares: dict[str, float] = {}
    for name, share in zip(model.fitted.feature_names, model.importance, strict=True):
        plain = name.partition("/")[2]
        shares[plain] = shares.get(plain, 0.0) + share
    return tuple(sorted(shares.items(), key=lambda pair: (-pair[1], pair[0])))


if __name__ == "__main__":
    sys.exit(main())
