"""The process of an `auto` job: searches within its time, and leaves the best model in `out/`.

`python -m loopwright.tune.worker`, started in the folder that `auto_job` describes. When it is told
to end (SIGTERM) it stops trying, writes the best model so far, and ends with 0.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NoReturn, TextIO

import msgspec

from loopwright.compute.workspace import CHECKPOINT_DIR
from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.files import write_atomically
from loopwright.prepare import FittedRecipe, RecipeUnion
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
from loopwright.tune.background import FIT_THREAD
from loopwright.tune.fold import Fold, group_folds, n_folds_for, random_folds, time_folds
from loopwright.tune.job import (
    AUTO_FILE,
    DISTILLED_FILE,
    OTHER_FOLDER,
    TRIALS_FILE,
    AutoSpec,
    open_recipes,
    recipe_file,
)
from loopwright.tune.kept_fit import KeptFits
from loopwright.tune.prepared import Table
from loopwright.tune.replay import replay_of, replayed
from loopwright.tune.single_model import SingleModel, single_model
from loopwright.tune.tried import Trial

# of the memory of the job, what prepared rows may take; the models and the libraries take the rest
_SHARE_OF_PREPARED = 0.35
_MIB = 1 << 20
# a search without any time left still gets so much
_LEAST_S = 0.5
# of the budget, what one model may take to learn from the blend
_DISTILL_SHARE, _MOST_DISTILL_S = 0.25, 120.0
_LEAST_LESSON_S = 5.0
# writing two models and measuring how fast they answer
_WRITING_S = 1.0
_OLDEST_START_S = 30.0


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
    stopping: list[bool] = []
    # the model so far is worth more than a quick end
    before = signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    try:
        return _done(folder, is_stopped=lambda: bool(stopping))
    finally:
        signal.signal(signal.SIGTERM, before)


def _done(folder: Path, *, is_stopped: Callable[[], bool]) -> TrainingResult:
    started = time.perf_counter()
    # starting Python is part of the budget too
    already_s = _age_s()
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
    end = started + spec.budget_s - already_s
    with (out / METRICS_FILE).open("w", buffering=1) as curve:
        model = _searched(
            spec,
            table,
            started=started,
            end=end,
            curve=curve,
            n_answers=len(validation.y),
            fits=_kept_fits(spec, folder, recipes),
            is_stopped=is_stopped,
        )
    fit_s = time.perf_counter() - started - import_s - read_s
    write_atomically(out / TRIALS_FILE, msgspec.json.encode(_trials(model)))
    answers = model.predict_raw(validation.frame)
    single = None
    if spec.distill != "never":
        left = end - time.perf_counter() - _WRITING_S
        single = single_model(
            spec,
            model,
            validation,
            answers,
            seconds=max(_LEAST_LESSON_S, left),
            is_stopped=is_stopped,
        )
    served = _written(out, spec, train, model, single)
    said = answers if single is None or not single.is_served else single.answers
    write_answers(out, spec.training.outcome, validation.y, said)
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
        n_features=len(served.feature_names),
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


def _age_s() -> float:
    """Return how long this process has run, in seconds."""
    import psutil

    age: float = time.time() - psutil.Process().create_time()
    # a process of someone else that calls this as a function, or a clock that was set
    return age if 0 <= age <= _OLDEST_START_S else 0.0


def _written(
    out: Path, spec: AutoSpec, train: Part, model: AutoModel, single: SingleModel | None
) -> FittedRecipe | RecipeUnion:
    """Write the model that is served, and beside it the other one; return the recipe served."""
    blend = (model.fitted, model.predictor)
    if single is None:
        write_model(out, spec.training, train, model.fitted, predictor=model.predictor, native={})
        return model.fitted
    alone = (single.distilled.fitted, single.distilled.predictor)
    served, other = (alone, blend) if single.is_served else (blend, alone)
    (out / OTHER_FOLDER).mkdir(exist_ok=True)
    for folder, (fitted, predictor) in ((out, served), (out / OTHER_FOLDER, other)):
        write_model(folder, spec.training, train, fitted, predictor=predictor, native={})
    write_atomically(out / DISTILLED_FILE, msgspec.json.encode(single.report))
    return served[0]


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


def _kept_fits(spec: AutoSpec, folder: Path, recipes: Iterable[str]) -> KeptFits | None:
    """Return where fits are kept, for when the job is killed or a later one has more time."""
    own = os.environ.get(CHECKPOINT_DIR)
    if not own or spec.replay is not None:
        return None
    files = digests(folder, (TRAIN_FILE, *(recipe_file(each) for each in recipes)))
    about = [files, spec.training, spec.divide_by, spec.divide_column]
    earlier = Path(spec.earlier) if spec.earlier else None
    return KeptFits(search=digest_value(msgspec.to_builtins(about)), own=Path(own), earlier=earlier)


def _searched(
    spec: AutoSpec,
    table: Table,
    *,
    started: float,
    end: float,
    curve: TextIO,
    n_answers: int,
    fits: KeptFits | None,
    is_stopped: Callable[[], bool],
) -> AutoModel:
    n_fits = 0

    def on_trial(trial: Trial, best: float | None) -> None:
        nonlocal n_fits
        n_fits += 1
        print(_line(trial, best, time.perf_counter() - started), flush=True)
        if best is not None:
            entry = {"step": n_fits, "name": f"folds:{spec.metric}", "value": best}
            curve.write(msgspec.json.encode(entry).decode() + "\n")

    if spec.replay is not None:
        return replayed(
            table,
            _divided(spec, table),
            spec.replay,
            cpus=spec.training.threads,
            memory_bytes=int(_SHARE_OF_PREPARED * spec.memory_mib * _MIB),
            only_last=spec.divide_by == "time",
        )
    left = end - time.perf_counter()
    if spec.distill != "never":
        left -= max(min(_MOST_DISTILL_S, _DISTILL_SHARE * left), min(_LEAST_LESSON_S, left / 2))
    return fit_auto(
        table,
        _divided(spec, table),
        metric=metric_named(spec.metric),
        budget_s=max(_LEAST_S, left),
        cpus=spec.training.threads,
        memory_bytes=int(_SHARE_OF_PREPARED * spec.memory_mib * _MIB),
        algorithms=spec.algorithms,
        max_trials=spec.max_trials,
        only_last=spec.divide_by == "time",
        n_answers=n_answers,
        limit_bytes=spec.memory_mib * _MIB,
        on_trial=on_trial,
        is_stopped=is_stopped,
        fits=fits,
    )


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
        "replay": replay_of(model.found),
    }


def _ranked(model: AutoModel) -> tuple[tuple[str, float], ...]:
    """Return the share of each feature over all recipes, the greatest first."""
    shares: dict[str, float] = {}
    for name, share in zip(model.fitted.feature_names, model.importance, strict=True):
        plain = name.partition("/")[2]
        shares[plain] = shares.get(plain, 0.0) + share
    return tuple(sorted(shares.items(), key=lambda pair: (-pair[1], pair[0])))


def _end(code: int) -> NoReturn:
    """End the process; at once where a fit hangs that nobody waits for any more."""
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name == FIT_THREAD and thread.is_alive() for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _end(main())
