"""Searches done again: the fits that made a model, repeated as they were, however long they take.

How far a search comes depends on the time. What it fitted does not, once it is written down: every
fit follows from the rows, its configuration, its seed and the step at which the time ended it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec

from loopwright.compute import Job, JobSpec
from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.tune.auto import AutoModel, assembled, threads_a_fit
from loopwright.tune.configuration import Configuration
from loopwright.tune.fold import Fold
from loopwright.tune.fold_model import FoldModel, fitted_fold
from loopwright.tune.job import AUTO_FILE, TRIALS_FILE, AutoSpec, Replay, ReplayedTrial
from loopwright.tune.prepared import PreparedFolds, Table
from loopwright.tune.search import Found
from loopwright.tune.stacking import stacked_data
from loopwright.tune.tried import Trial

_FORMAT = 1
# what took its time once may take longer on a busy machine
_MOST_TIMES = 4


def replay_of(found: Found) -> Replay:
    """Return what is needed to do again what a search ended with."""
    chosen = [trial for trial, _ in found.chosen]
    needed = dict.fromkeys([*(below for trial in chosen for below in trial.below), *chosen])
    return Replay(
        trials=tuple(
            ReplayedTrial(
                configuration=trial.configuration.to_json(),
                family=trial.family,
                below=tuple(each.configuration.name for each in trial.below),
                stops={str(fold): trial.models[fold].stopped_at for fold in sorted(trial.models)},
            )
            for trial in needed
        ),
        chosen=tuple((trial.configuration.name, weight) for trial, weight in found.chosen),
        n_folds=found.n_folds,
        loss=found.loss,
    )


def replayed(
    table: Table,
    folds: Sequence[Fold],
    replay: Replay,
    *,
    cpus: int,
    memory_bytes: int,
    only_last: bool,
) -> AutoModel:
    """Return the model that a search ended with, fitted again.

    The same rows, recipes and folds give the same model, to the last bit where the libraries and
    the processor are the same.

    Parameters
    ----------
    table, folds, cpus, memory_bytes, only_last
        As they were; see `fit_auto`.
    replay
        What was fitted.

    Raises
    ------
    InvalidInputError
        If the record does not fit the folds.
    """
    prepared = PreparedFolds(table=table, folds=folds, memory_bytes=memory_bytes)
    threads = threads_a_fit(table, cpus)
    trials: dict[str, Trial] = {}
    with ThreadPoolExecutor(max(1, cpus // threads), thread_name_prefix="fit") as pool:
        for each in replay.trials:
            trial = _trial(each, trials, n_folds=len(folds))
            order = [(trial, int(fold), stop) for fold, stop in each.stops.items()]
            models = pool.map(lambda unit: _fitted(prepared, *unit, threads=threads), order)
            trial.models.update(zip((fold for _, fold, _ in order), models, strict=True))
            trials[trial.configuration.name] = trial
    found = Found(
        trials=tuple(trials.values()),
        chosen=tuple((trials[name], weight) for name, weight in replay.chosen),
        n_folds=replay.n_folds,
        loss=replay.loss,
        seconds=0.0,
    )
    return assembled(prepared, found, only_last=only_last)


def _trial(each: ReplayedTrial, known: Mapping[str, Trial], *, n_folds: int) -> Trial:
    if not set(each.stops) <= {str(fold) for fold in range(n_folds)}:
        raise InvalidInputError(
            f"The record names the folds {', '.join(each.stops)} of {n_folds}.",
            hint="It is of other rows; repeat the job from its own record.",
            field="replay",
            value=list(each.stops),
        )
    return Trial(
        configuration=msgspec.convert(each.configuration, Configuration),
        family=each.family,
        below=tuple(known[name] for name in each.below),
    )


def _fitted(
    prepared: PreparedFolds, trial: Trial, fold: int, stop: int | None, *, threads: int
) -> FoldModel:
    return fitted_fold(
        prepared,
        trial.configuration,
        fold,
        threads=threads,
        is_over=lambda step: stop is not None and step >= stop,
        widen=(lambda data: stacked_data(data, trial.below, prepared.folds, fold))
        if trial.below
        else None,
    )


def replaying(spec: JobSpec, job: Job) -> JobSpec:
    """Return the order that does again what an `auto` job ended with, instead of searching anew.

    Parameters
    ----------
    spec
        The order of the job once more; see `loopwright.compute.rerun_spec`.
    job
        The job, with what it left.

    Raises
    ------
    WrongStateError
        If the job did not write down what it fitted.
    """
    order = spec.files[AUTO_FILE]
    asked = msgspec.json.decode(
        order.read_bytes() if isinstance(order, Path) else order, type=AutoSpec
    )
    try:
        told = msgspec.json.decode((job.out / TRIALS_FILE).read_bytes())
        if told["replay"] is None:
            raise WrongStateError(
                f"The job {job.id} ({job.name}) ended before the first fit of its search did; "
                f"its model is only {told.get('quick', 'a quick one')}.",
                hint="Give it more time, by `train.budget.minutes` or `--time-limit`.",
                job=job.id,
            )
        replay = msgspec.convert(told["replay"], Replay)
    except (OSError, KeyError, msgspec.MsgspecError) as error:
        raise WrongStateError(
            f"The job {job.id} ({job.name}) did not write down what it fitted, and how far a "
            "search comes in its time differs from run to run.",
            hint="It is of an older version; submit it anew.",
            job=job.id,
        ) from error
    again = msgspec.structs.replace(asked, replay=replay)
    limit_s = None if spec.time_limit_s is None else _MOST_TIMES * spec.time_limit_s
    return replace(
        spec, files={**spec.files, AUTO_FILE: msgspec.json.encode(again)}, time_limit_s=limit_s
    )
