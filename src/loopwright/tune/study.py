"""Studies: a search over hyperparameters whose trials are ordinary jobs, kept in the store."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from loopwright.compute import Compute, Job, JobSpec, JobState
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.store import MetadataStore
from loopwright.train.job import METRICS_FILE
from loopwright.tune.sampling import Sampling
from loopwright.tune.study_plan import StudyPlan
from loopwright.tune.trial import TrialRecord, TrialState, best_of

_FORMAT = 1
_POLL_S = 0.2
# so many failures in a row before the first model, and the search gives up
_MOST_FAILURES = 10

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
    are taken up, and what is tried next is what would have been tried.
    """

    plan: StudyPlan
    metadata: MetadataStore
    compute: Compute
    order: Order
    judge: Judge
    on_trial: OnTrial = _tell_nobody
    clock: Callable[[], float] = time.monotonic
    _sampling: Sampling = field(init=False)
    _trials: dict[int, TrialRecord] = field(default_factory=dict)
    _n_ended: int = 0
    _n_failed: int = 0

    def run(self) -> list[TrialRecord]:
        """Search, and return all trials in the order of their beginning.

        Raises
        ------
        BackendError
            If every trial failed, or the first ten of this run did; the message says why the
            first one did.
        """
        started = self.clock()
        known = list_trials(self.metadata, self.plan.name)
        self._trials = {trial.number: trial for trial in known}
        self._sampling = Sampling(plan=self.plan, known=known)
        try:
            while self._start_trials(started) or self._running():
                n_ended = self._n_ended
                self._look()
                if self._is_late(started):
                    self._end_running("the time of the study was up")
                    break
                if self._is_hopeless():
                    self._end_running("the trials before it failed")
                    break
                # what has ended made room for the next
                if self._n_ended == n_ended:
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

    def _start_trials(self, started: float) -> bool:
        """Begin trials while there is room; return whether one more may be begun later."""
        plan = self.plan
        left = plan.n_trials - len(self._trials)
        while left > 0 and len(self._running()) < plan.parallel and not self._is_late(started):
            trial = self._sampling.ask()
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
        told, behind_at = self._sampling.told(trial, _curve(job))
        if behind_at is not None:
            self.compute.stop(job.id, grace_s=1.0)
            reason = f"its learning curve fell behind at step {behind_at}"
            seconds = _seconds(self.compute.get(job.id))
            self._end(replace(told, state=TrialState.PRUNED, reason=reason, seconds=seconds))
        elif told is not trial:
            self._keep(told)

    def _take(self, trial: TrialRecord, job: Job) -> None:
        trial = replace(self._sampling.told(trial, _curve(job))[0], seconds=_seconds(job))
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
        self._n_ended += 1
        self._n_failed = self._n_failed + 1 if trial.state is TrialState.FAILED else 0
        self._sampling.end(trial)
        self._keep(trial)
        self.on_trial(trial, self.best())

    def _end_running(self, reason: str) -> None:
        for trial in self._running():
            if trial.job:
                self.compute.stop(trial.job, grace_s=1.0)
            self._end(replace(trial, state=TrialState.STOPPED, reason=reason))

    def _is_hopeless(self) -> bool:
        """Tell whether all that was tried failed, so that more of it would only take time."""
        return self._n_failed >= _MOST_FAILURES and self.best() is None

    def _is_late(self, started: float) -> bool:
        return self.plan.seconds is not None and self.clock() - started >= self.plan.seconds

    def _keep(self, trial: TrialRecord) -> None:
        self._trials[trial.number] = trial
        self.metadata.put(
            "trial",
            f"{self.plan.name}/{trial.number:06d}",
            {"format": _FORMAT, "study": self.plan.name, "trial": trial.to_json()},
        )


def list_trials(metadata: MetadataStore, study: str) -> list[TrialRecord]:
    """Return the trials of a study in the order of their beginning; none if there is no such study."""
    found: list[TrialRecord] = []
    after = ""
    while page := metadata.list_("trial", prefix=f"{study}/", after=after):
        found += [TrialRecord.from_json(record.body["trial"]) for record in page]
        after = page[-1].key
    return found


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
