"""Studies: a search over hyperparameters whose trials are ordinary jobs, kept in the store."""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from loopwright.compute import Compute, Job, JobSpec, JobState
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.store import MetadataStore
from loopwright.train import get_algorithm
from loopwright.train.job import METRICS_FILE
from loopwright.tune.space import Space, distributions
from loopwright.tune.trial import TrialRecord, TrialState, best_of

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

Sampler = Literal["tpe", "random"]
_FORMAT = 1
_POLL_S = 0.3
# a trial is compared with others from this step on, and then at every power of the factor
_FIRST_RUNG, _RUNG_FACTOR, _LAST_RUNG = 20, 3, 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What a study searches for.

    Parameters
    ----------
    name
        Names the study in the store; taking the same name again goes on with it.
    algorithm
        What is trained.
    space
        See `checked_space`.
    metric
        Name of what counts on the validation rows.
    higher_is_better
        Which way is better.
    n_trials
        How many trials in all, at least 1.
    seconds
        Wall time of this run of the study; nothing means no limit.
    parallel
        How many jobs side by side.
    sampler
        `tpe` learns where good values lie, `random` does not.
    prunes
        Whether jobs whose learning curve falls behind are ended early.
    seed
        Of the sampler.
    guesses
        Hyperparameters to try first, with where they come from: defaults, winners of other studies.
    """

    name: str
    algorithm: str
    space: Space
    metric: str
    higher_is_better: bool
    n_trials: int
    seconds: float | None = None
    parallel: int = 1
    sampler: Sampler = "tpe"
    prunes: bool = True
    seed: int = 7
    guesses: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def __post_init__(self) -> None:
        for name in ("n_trials", "parallel"):
            if getattr(self, name) < 1:
                raise InvalidInputError(
                    f"{name} is {getattr(self, name)!r}.",
                    hint="Give 1 or more.",
                    field=name,
                    value=getattr(self, name),
                )
        if self.seconds is not None and not self.seconds > 0:
            raise InvalidInputError(
                f"The study is given {self.seconds!r} seconds.",
                hint="Give some time, such as 600, or none for no limit.",
                field="seconds",
                value=self.seconds,
            )


Order = Callable[[Mapping[str, Any]], JobSpec]
"""Returns the training job for some hyperparameters."""
Judge = Callable[[Job], float]
"""Returns the metric of a succeeded job on the validation rows."""
OnTrial = Callable[[TrialRecord, "TrialRecord | None"], None]


def _tell_nobody(trial: TrialRecord, best: TrialRecord | None) -> None:
    """Do nothing with a trial that nobody asked for."""


@dataclass(slots=True, kw_only=True)
class Study:
    """Asks for hyperparameters, trains, and tells what came of it, until the budget is spent.

    Every trial is a record of its own in the store and its job is found again by its key, so that a
    study that was killed goes on where it was: finished trials are not trained again, running jobs
    are taken up. The search itself is Optuna's (`TPESampler`, `HyperbandPruner`: Li et al.,
    "Hyperband", JMLR 18, 2018).
    """

    plan: StudyPlan
    metadata: MetadataStore
    compute: Compute
    order: Order
    judge: Judge
    on_trial: OnTrial = _tell_nobody
    clock: Callable[[], float] = time.monotonic
    _study: optuna.Study = field(init=False)
    _trials: dict[int, TrialRecord] = field(default_factory=dict)

    def run(self) -> list[TrialRecord]:
        """Search, and return all trials in the order of their beginning.

        Raises
        ------
        BackendError
            If every trial failed; the message says why the first one did.
        """
        started = self.clock()
        self._open()
        try:
            while self._start_trials(started) or self._running():
                self._look()
                if self._is_late(started):
                    self._end_running("the time of the study was up")
                    break
                if self._running():
                    time.sleep(_POLL_S)
        except KeyboardInterrupt:
            # the jobs would only go on using the machine; the same trials are trained next time
            for trial in self._running():
                if trial.job:
                    self.compute.stop(trial.job, grace_s=1.0)
                self._keep(replace(trial, job=""))
            raise
        found = [self._trials[number] for number in sorted(self._trials)]
        if not any(trial.state is TrialState.DONE for trial in found):
            why = next((t.reason for t in found if t.reason), "no trial was begun")
            raise BackendError(
                f"No trial of the study {self.plan.name!r} gave a model: {why}.",
                hint="Look at `loopwright logs` of its job, widen the space or give more time.",
            )
        return found

    def best(self) -> TrialRecord | None:
        """Return the best trial so far, if one is done."""
        return best_of(self._trials.values(), higher_is_better=self.plan.higher_is_better)

    # --- the study as Optuna knows it

    def _open(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        plan = self.plan
        pruner = (
            optuna.pruners.HyperbandPruner(
                min_resource=_FIRST_RUNG, max_resource=_LAST_RUNG, reduction_factor=_RUNG_FACTOR
            )
            if plan.prunes
            else optuna.pruners.NopPruner()
        )
        known = list_trials(self.metadata, plan.name)
        # a study that goes on must not draw again what it began with
        seed = plan.seed + len(known)
        self._study = optuna.create_study(
            study_name=plan.name,
            direction="maximize" if plan.higher_is_better else "minimize",
            sampler=_sampler(plan, seed),
            pruner=pruner,
        )
        for trial in known:
            self._add_known(trial)
        for _, guess in plan.guesses[len(known) :]:
            self._study.enqueue_trial(self._inside(guess))

    def _add_known(self, trial: TrialRecord) -> None:
        from optuna.trial import TrialState as State
        from optuna.trial import create_trial

        states = {
            TrialState.RUNNING: State.RUNNING,
            TrialState.DONE: State.COMPLETE,
            TrialState.PRUNED: State.PRUNED,
            TrialState.STOPPED: State.FAIL,
            TrialState.FAILED: State.FAIL,
        }
        known = distributions(get_algorithm(self.plan.algorithm), self.plan.space)
        params = self._inside(trial.hyperparameters)
        self._study.add_trial(
            create_trial(
                state=states[trial.state],
                params=params,
                distributions={name: known[name] for name in params},
                value=trial.value if trial.state is TrialState.DONE else None,
                intermediate_values=dict(trial.steps),
            )
        )
        self._trials[trial.number] = trial

    def _inside(self, guess: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a guess lies in the space; the rest is left to the sampler."""
        known = distributions(get_algorithm(self.plan.algorithm), self.plan.space)
        return {
            name: value
            for name, value in guess.items()
            if name in known and _contains(known[name], value)
        }

    # --- trials

    def _start_trials(self, started: float) -> bool:
        """Begin trials while there is room; return whether one more may be begun later."""
        plan = self.plan
        left = plan.n_trials - len(self._trials)
        while left > 0 and len(self._running()) < plan.parallel and not self._is_late(started):
            asked = self._study.ask(
                fixed_distributions=distributions(get_algorithm(plan.algorithm), plan.space)
            )
            origin = plan.guesses[asked.number][0] if asked.number < len(plan.guesses) else "search"
            trial = TrialRecord(
                number=asked.number, hyperparameters=dict(asked.params), origin=origin
            )
            # first the record, then the job: after a kill the same order finds the same job
            self._keep(trial)
            self._submit(trial)
            left -= 1
        return left > 0

    def _submit(self, trial: TrialRecord) -> None:
        try:
            job = self.compute.submit(self.order(trial.hyperparameters))
        except InvalidInputError as error:
            self._end(replace(trial, state=TrialState.FAILED, reason=error.message))
            return
        self._keep(replace(trial, job=job.id))

    def _running(self) -> list[TrialRecord]:
        return [t for t in self._trials.values() if t.state is TrialState.RUNNING]

    def _look(self) -> None:
        """See what the running jobs do, and take in what has ended."""
        for trial in self._running():
            if not trial.job:
                self._submit(trial)
                continue
            job = self.compute.get(trial.job)
            if job.state in (JobState.QUEUED, JobState.RUNNING, JobState.STOPPING):
                self._compare(trial, job)
            else:
                self._take(trial, job)

    def _compare(self, trial: TrialRecord, job: Job) -> None:
        """End a job whose learning curve falls behind those of the others."""
        told, behind_at = self._told(trial, job)
        if behind_at is not None:
            self.compute.stop(job.id, grace_s=1.0)
            reason = f"its learning curve fell behind at step {behind_at}"
            seconds = _seconds(self.compute.get(job.id))
            self._end(replace(told, state=TrialState.PRUNED, reason=reason, seconds=seconds))
        elif told is not trial:
            self._keep(told)

    def _told(self, trial: TrialRecord, job: Job) -> tuple[TrialRecord, int | None]:
        """Tell Optuna how far the job has come; return the trial, and where it fell behind."""
        import optuna

        if not self.plan.prunes:
            return trial, None
        asked = optuna.trial.Trial(self._study, self._trial_id(trial))
        steps = dict(trial.steps)
        for step, loss in _curve(job):
            if step in steps or step not in _rungs():
                continue
            # the curve is a loss; the study may count something of which more is better
            steps[step] = -loss if self.plan.higher_is_better else loss
            asked.report(steps[step], step)
            if asked.should_prune():
                return replace(trial, steps=tuple(sorted(steps.items()))), step
        if len(steps) == len(trial.steps):
            return trial, None
        return replace(trial, steps=tuple(sorted(steps.items()))), None

    def _take(self, trial: TrialRecord, job: Job) -> None:
        trial = replace(self._told(trial, job)[0], seconds=_seconds(job))
        if job.state is not JobState.SUCCEEDED:
            reason = job.reason or f"its job {job.state.value}"
            self._end(replace(trial, state=TrialState.FAILED, reason=reason))
            return
        value = self.judge(job)
        if not math.isfinite(value):
            reason = f"{self.plan.metric} is {value} on the validation rows"
            self._end(replace(trial, state=TrialState.FAILED, reason=reason))
            return
        self._end(replace(trial, state=TrialState.DONE, value=value))

    def _end(self, trial: TrialRecord) -> None:
        from optuna.trial import TrialState as State

        # the last intermediate value stands for a pruned trial
        if trial.state is TrialState.DONE:
            self._study.tell(trial.number, trial.value)
        else:
            is_pruned = trial.state is TrialState.PRUNED
            self._study.tell(trial.number, state=State.PRUNED if is_pruned else State.FAIL)
        self._keep(trial)
        self.on_trial(trial, self.best())

    def _end_running(self, reason: str) -> None:
        for trial in self._running():
            if trial.job:
                self.compute.stop(trial.job, grace_s=1.0)
            self._end(replace(trial, state=TrialState.STOPPED, reason=reason))

    def _is_late(self, started: float) -> bool:
        return self.plan.seconds is not None and self.clock() - started >= self.plan.seconds

    def _trial_id(self, trial: TrialRecord) -> int:
        return self._study.get_trials(deepcopy=False)[trial.number]._trial_id

    def _keep(self, trial: TrialRecord) -> None:
        self._trials[trial.number] = trial
        self.metadata.put(
            "trial",
            f"{self.plan.name}/{trial.number:06d}",
            {"format": _FORMAT, "study": self.plan.name, "trial": trial.to_json()},
        )


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101 there are no others
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and distribution.low <= value <= distribution.high


def list_trials(metadata: MetadataStore, study: str) -> list[TrialRecord]:
    """Return the trials of a study in the order of their beginning; none if there is no such study."""
    found: list[TrialRecord] = []
    after = ""
    while page := metadata.list_("trial", prefix=f"{study}/", after=after):
        found += [TrialRecord.from_json(record.body["trial"]) for record in page]
        after = page[-1].key
    return found


def _sampler(plan: StudyPlan, seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    if plan.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # settings of boosters work together, which only the multivariate sampler sees
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, constant_liar=plan.parallel > 1
        )


def _rungs() -> frozenset[int]:
    """Return the steps at which learning curves are compared."""
    rungs, step = [], _FIRST_RUNG
    while step <= _LAST_RUNG:
        rungs.append(step)
        step *= _RUNG_FACTOR
    return frozenset(rungs)


def _curve(job: Job) -> list[tuple[int, float]]:
    """Return step and loss on validation rows as far as the job has come."""
    try:
        lines = (job.out / METRICS_FILE).read_text().splitlines()
    except OSError:
        return []
    found: dict[int, float] = {}
    name = ""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # the line that is being written
            continue
        if entry["name"].startswith("validation:"):
            # the first metric of the curve is the one that training stops by
            name = name or entry["name"]
            if entry["name"] == name:
                found[int(entry["step"])] = float(entry["value"])
    return sorted(found.items())


def _seconds(job: Job) -> float | None:
    if job.started_at is None or job.ended_at is None:
        return None
    return (job.ended_at - job.started_at).total_seconds()
