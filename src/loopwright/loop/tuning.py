"""A search over the hyperparameters of one algorithm, on the rows a loop would use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.compute import Capacity, Job, JobSpec, Resources
from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.evaluate import best_threshold
from loopwright.loop.attempt import Attempt, Evidence
from loopwright.loop.candidate import Candidate
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part, truth
from loopwright.loop.judging import as_answers
from loopwright.loop.recipe_choice import recipe_space, split_settings, with_choices
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult, StepRunner
from loopwright.loop.training import training_order
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import row_money
from loopwright.problem import MONEY_METRICS, Metric, primary_metric
from loopwright.train import AUTO, get_algorithm
from loopwright.train.plan import check_money
from loopwright.tune import (
    RECIPE_PREFIX,
    Study,
    StudyPlan,
    TrialRecord,
    TunePlan,
    best_of,
    checked_space,
    list_trials,
)

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_KIND = "study"
_FORMAT = 1
_MOST_WINNERS = 3
_MOST_PARALLEL = 16
# of one trial where nothing else limits it
_TRIAL_MINUTES = 30.0
_WORDS = {
    "algorithm": "an algorithm",
    "space": "a space",
    "given": "settings",
    "metric": "a metric",
    "recipes": "features",
    "rows": "rows",
    "loop": "a loop",
    "target_transform": "a scale of the target",
    "sampler": "a sampler",
    "seed": "a seed",
}

OnTrial = Callable[[TrialRecord, TrialRecord | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a search over hyperparameters found.

    Parameters
    ----------
    study
        Its name in the store.
    algorithm
        What was trained.
    metric, higher_is_better
        What counted on the validation rows.
    trials
        In the order of their beginning, those of earlier runs included.
    cost
        Of the processors of all trials, at the price the loop file tells; None without one.
    """

    study: str
    algorithm: str
    metric: str
    higher_is_better: bool
    trials: tuple[TrialRecord, ...]
    cost: float | None = None

    @property
    def best(self) -> TrialRecord:
        """The best trial; a search without one is an error."""
        found = best_of(self.trials, higher_is_better=self.higher_is_better)
        assert found is not None  # noqa: S101 Study.run raises where there is none
        return found


def run_study(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    *,
    parts: dict[str, Any],
    recipes: dict[str, Any],
    attempt: Attempt,
    algorithm: str,
    plan: TunePlan,
    capacity: Capacity,
    name: str | None = None,
    on_trial: OnTrial | None = None,
) -> Tuning:
    """Search the hyperparameters of an algorithm; every trial is a job, judged on validation rows.

    A search of the same rows, recipe, space and metric goes on with the trials it has.

    Parameters
    ----------
    workspace, loop, target
        Where and what for.
    parts, recipes
        The rows and the recipes, as the steps of a round leave them.
    attempt
        Its window and its settings, which the space wins over.
    algorithm, plan
        What to search, and how.
    capacity
        Of the machine, for how many jobs fit side by side.
    name
        Of the study; by default made of the loop, the algorithm and what is searched.
    on_trial
        Told about every trial that ended, and the best so far.

    Raises
    ------
    BackendError
        If every trial failed.
    """
    metric = primary_metric(loop.problem, task=target.task)
    money = None
    if metric.name in MONEY_METRICS:
        money = row_money(loop.problem, target, read_part(workspace, parts["validation"]))
    learner = get_algorithm(algorithm)
    space = dict(checked_space(learner, plan.space.get(algorithm)))
    window = attempt.windows[0]
    if plan.recipe:
        lowest = None
        if target.task == "regression":
            lowest = _lowest(workspace, target, [parts["windows"][window], parts["validation"]])
        tried = recipe_space(
            workspace, recipes, target, algorithm=algorithm, window=window, lowest=lowest
        )
        space = {**tried, **space}
    given = {
        key: value
        for key, value in attempt.hyperparameters.get(algorithm, {}).items()
        if key not in space
    }
    seconds = 60 * (plan.minutes or _TRIAL_MINUTES)

    def order(settings: Mapping[str, Any]) -> JobSpec:
        hyperparameters, choices = split_settings(settings)
        asked = replace(attempt, hyperparameters={algorithm: {**given, **hyperparameters}})
        return training_order(
            workspace,
            loop,
            target,
            parts,
            with_choices(workspace, recipes, choices, target),
            asked,
            algorithm=algorithm,
            window=window,
            seconds=max(30.0, seconds),
        )

    about = {
        "loop": loop.name,
        "algorithm": algorithm,
        "space": msgspec.to_builtins(dict(space)),
        "given": given,
        "metric": metric.name,
        "recipes": recipes["recipes"],
        "target_transform": recipes["target_transform"],
        "rows": [parts["windows"][window], parts["validation"]],
        "sampler": plan.sampler,
        "seed": loop.train.seed,
    }
    if plan.money is not None:
        check_money(plan.money, loop.train.budget, field="tune.money")
    parallel = plan.parallel or _room(loop.train.resources or Resources(), capacity)
    study_name = name or f"{loop.name}-{algorithm}-{digest_value(about)[7:15]}"
    _check_same_study(workspace, study_name, about)
    defaults: dict[str, Any] = {
        key: "suggested" if key.startswith(RECIPE_PREFIX) else learner.hyperparameters[key].default
        for key in space
    }
    if f"{RECIPE_PREFIX}target" in space:
        defaults[f"{RECIPE_PREFIX}target"] = recipes["target_transform"]
    guesses: list[tuple[str, Mapping[str, Any]]] = [
        ("defaults", {k: v for k, v in defaults.items() if v is not None})
    ]
    guesses += _winners(workspace, algorithm, metric.name, set(space), besides=study_name)
    study = Study(
        plan=StudyPlan(
            name=study_name,
            algorithm=algorithm,
            space=space,
            metric=metric.name,
            higher_is_better=metric.higher_is_better,
            n_trials=plan.trials,
            seconds=_seconds(loop, plan, parallel, list_trials(workspace.metadata, study_name)),
            parallel=parallel,
            sampler=plan.sampler,
            prunes=plan.prune,
            seed=loop.train.seed,
            guesses=tuple(guesses),
        ),
        metadata=workspace.metadata,
        compute=workspace.compute,
        order=order,
        judge=lambda job: trial_value(job, target, metric, money),
        on_trial=on_trial or _tell_nobody,
    )
    workspace.metadata.put(_KIND, study_name, {"format": _FORMAT, **about, "best": None})
    found = Tuning(
        study=study_name,
        algorithm=algorithm,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        trials=(trials := tuple(study.run())),
        cost=loop.train.budget.cost(_cpu_s(loop, trials)),
    )
    best = dict(found.best.hyperparameters)
    workspace.metadata.put(_KIND, study_name, {"format": _FORMAT, **about, "best": best})
    return found


def searchable(loop: LoopFile, best: Candidate, evidence: Evidence) -> TunePlan | None:
    """Return how to search the best algorithm's hyperparameters, once in a round, if at all."""
    asked_for = loop.tune is not None and len(evidence.ideas) == 1
    return loop.tune if asked_for and best.algorithm != AUTO else None


def searched_attempt(
    runner: StepRunner,
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    recipes: dict[str, Any],
    attempt: Attempt,
    plan: TunePlan,
    best: Candidate,
    evidence: Evidence,
) -> Attempt:
    """Search the hyperparameters of the best algorithm; return the attempt with what was found."""
    algorithm = best.algorithm
    asked = replace(attempt, windows=(best.window,))

    def work() -> StepResult:
        found = run_study(
            workspace,
            loop,
            target,
            parts=parts,
            recipes=recipes,
            attempt=asked,
            algorithm=algorithm,
            plan=plan,
            capacity=workspace.compute.capacity(),
            on_trial=lambda trial, _: runner.progress("tune", f"trial {trial.number + 1}"),
        )
        settings = ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}"
            for k, v in found.best.hyperparameters.items()
        )
        n_done = len(found.trials)
        return StepResult(
            output={
                "study": found.study,
                "hyperparameters": dict(found.best.hyperparameters),
                "value": found.best.value,
                "trials": [trial.to_json() for trial in found.trials],
            },
            summary=f"{n_done} trials of {algorithm}: {found.metric} {found.best.value:.4g} with {settings}",
            reason=f"{algorithm} was the best as it is, so its settings are searched",
        )

    output = runner.run(
        "tune",
        inputs=[
            algorithm,
            best.window,
            msgspec.to_builtins(plan),
            recipes["recipes"],
            recipes["target_transform"],
            parts["validation"],
            asked.to_json(),
            loop.train.seed,
            msgspec.to_builtins(loop.problem),
        ],
        work=work,
    )
    hyperparameters, choices = split_settings(output["hyperparameters"])
    return Attempt(
        number=len(evidence.ideas) + 1,
        idea=f"the best of {len(output['trials'])} trials",
        hypothesis=f"other settings of {algorithm} suit these rows better than its usual ones",
        algorithms=(algorithm,),
        hyperparameters={
            algorithm: {
                **attempt.hyperparameters.get(algorithm, {}),
                **hyperparameters,
            }
        },
        recipe={**attempt.recipe, **choices},
        variant=attempt.variant,
        windows=(best.window,),
    )


def _lowest(workspace: Workspace, target: Target, digests: Sequence[str]) -> float:
    """Return the smallest target of some parts."""
    return min(float(truth(read_part(workspace, each), target).min()) for each in digests)


def _check_same_study(workspace: Workspace, name: str, about: Mapping[str, Any]) -> None:
    """Refuse to go on with a study of something else under the same name."""
    record = workspace.metadata.find(_KIND, name)
    if record is None:
        return
    same = msgspec.json.decode(msgspec.json.encode(about))
    for key in about:
        if record.body.get(key) != same[key]:
            raise InvalidInputError(
                f"The study {name!r} searched with {_WORDS.get(key, key)} other than this.",
                hint="Give the new study another name, or none.",
                field="name",
                value=name,
            )


def _tell_nobody(trial: TrialRecord, best: TrialRecord | None) -> None:
    """Do nothing with a trial that nobody asked for."""


def _winners(
    workspace: Workspace, algorithm: str, metric: str, names: set[str], *, besides: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the best settings of the latest other studies of the algorithm in this store."""
    known = [
        record
        for record in workspace.metadata.list_(_KIND)
        if record.key != besides
        and record.body["algorithm"] == algorithm
        and record.body["metric"] == metric
        and record.body["best"]
        and set(record.body["best"]) == names
    ]
    latest = sorted(known, key=lambda record: record.updated_at, reverse=True)[:_MOST_WINNERS]
    return [(f"best of {record.key}", record.body["best"]) for record in latest]


def _seconds(
    loop: LoopFile, plan: TunePlan, parallel: int, known: Sequence[TrialRecord]
) -> float | None:
    """Return the wall time of a search, so that it costs no more than it may."""
    seconds = 60 * plan.minutes if plan.minutes else float("inf")
    if plan.money is not None:
        cpus = (loop.train.resources or Resources()).cpus
        hours = loop.train.budget.hours_worth(plan.money) - _cpu_s(loop, known) / 3600
        # a search that has spent all still tells what it found
        seconds = min(seconds, max(3600 * hours / (cpus * parallel), 1e-3))
    return None if seconds == float("inf") else seconds


def _cpu_s(loop: LoopFile, trials: Sequence[TrialRecord]) -> float:
    """Return the seconds of processors that trials kept for themselves."""
    cpus = (loop.train.resources or Resources()).cpus
    return cpus * sum(trial.seconds or 0.0 for trial in trials)


def _room(resources: Resources, capacity: Capacity) -> int:
    return max(1, min(_MOST_PARALLEL, capacity.at_once(resources)))


def trial_value(job: Job, target: Target, metric: Metric, money: Any = None) -> float:
    """Return the metric of a trained model on the validation rows; `money` is what each earns."""
    said = pl.read_parquet(job.out / "validation.parquet")
    if target.task == "regression":
        y, raw = said["actual"].to_numpy(), said["prediction"].to_numpy()
    else:
        places = {name: float(place) for place, name in enumerate(target.classes)}
        y = said["actual"].replace_strict(places, return_dtype=pl.Float64).to_numpy()
        column = "probability" if target.task == "binary" else "probabilities"
        raw = said[column].to_numpy()
    # money is judged at the threshold that earns most, as the loop judges its candidates
    threshold = 0.5
    if metric.name in MONEY_METRICS and target.task == "binary":
        threshold = best_threshold(metric, y, raw, money=money)
    answers = as_answers(raw, target, threshold=threshold, money=money)
    return float(metric.resampled(y, answers, np.ones((1, len(y))))[0])
