"""The training jobs of an attempt: ordered, waited for, and what they leave kept by digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec

from loopwright.compute import Capacity, Job, JobSpec, JobState, Resources
from loopwright.core.errors import BackendError
from loopwright.data import Snapshot
from loopwright.loop.attempt import Attempt
from loopwright.loop.file import LoopFile
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult, StepRunner
from loopwright.loop.training_turn import Order, ended_jobs, in_time, length_s
from loopwright.loop.workspace import Workspace
from loopwright.problem import AT_A_THRESHOLD, primary_metric
from loopwright.train import (
    AUTO,
    TrainingSpec,
    TrainPlan,
    get_algorithm,
    model_members,
    read_result,
    training_job,
)
from loopwright.train.job import RESULT_FILE
from loopwright.tune import AutoSpec, auto_job
from loopwright.tune.kept_fit import going_on
from loopwright.tune.standby import read_remark

_LEAST_JOB_S = 30.0
_MOST_CPUS, _MOST_MIB = 8, 16_384


def trained_models(
    runner: StepRunner,
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    recipes: dict[str, Any],
    attempt: Attempt,
    suffix: str,
    *,
    minutes: float,
    jobs: int,
) -> dict[str, Any]:
    """Train every algorithm of the attempt on every window, as jobs, and keep the models."""

    def work() -> StepResult:
        orders = [
            (algorithm, window) for window in attempt.windows for algorithm in attempt.algorithms
        ][:jobs]

        def ended_of(some: Sequence[Order], seconds: float) -> list[Job]:
            return ended_jobs(
                workspace.compute,
                [
                    training_order(
                        workspace,
                        loop,
                        target,
                        parts,
                        recipes,
                        attempt,
                        algorithm=algorithm,
                        window=window,
                        seconds=seconds,
                    )
                    for algorithm, window in some
                ],
                workers=[loop.train.workers_of(algorithm) for algorithm, _ in some],
                on_change=lambda job: runner.progress(
                    f"train{suffix}", f"{job.name} {job.state.value}"
                ),
            )

        ended = in_time(
            orders,
            ended_of,
            seconds=max(least_job_s(loop.train), minutes * 60),
            least_s=least_job_s(loop.train),
            side_by_side=_side_by_side(loop.train, workspace.compute.capacity()),
        )
        kept = [
            kept_job(workspace, job, algorithm=algorithm, window=window)
            for job, (algorithm, window) in zip(ended, orders, strict=True)
        ]
        models = [each for each in kept if "members" in each]
        if not models:
            raise BackendError(
                f"All {len(ended)} training jobs failed. The first: {ended[0].reason}",
                hint=f"`loopwright logs {ended[0].id}` shows its log.",
                job=ended[0].id,
            )
        failed = [each["algorithm"] for each in kept if "members" not in each]
        summary = ", ".join(f"{m['algorithm']}{_window(m)} {m['fit_s']:.2f} s" for m in models)
        cost = loop.train.budget.cost(sum(_reserved_s(job) for job in ended))
        if cost is not None:
            summary += f"; cost {cost:.4g}"
        if failed:
            summary += f"; failed: {', '.join(failed)}"
        summary += "".join(f"; {m['remark']}" for m in models if m.get("remark"))
        return StepResult(
            output={"jobs": kept, "hypothesis": attempt.hypothesis, "idea": attempt.idea},
            summary=f"{len(models)} models: {summary}",
            reason=attempt.hypothesis,
            artifacts=tuple(digest for m in models for digest in m["members"].values()),
            algorithm_s=_covered_s(ended, kept),
        )

    return runner.run(
        f"train{suffix}",
        inputs=[
            parts["windows"],
            parts["validation"],
            recipes["recipes"],
            recipes["target_transform"],
            recipes["today"],
            attempt.to_json(),
            loop.train.seed,
            msgspec.to_builtins(target),
            min(jobs, len(attempt.windows) * len(attempt.algorithms)),
            # a job that failed for want of time or memory may do with more
            loop.train.budget.minutes,
            msgspec.to_builtins(loop.train.resources),
            *_unusual(loop.train),
            *([msgspec.to_builtins(loop.train.auto)] if AUTO in attempt.algorithms else []),
        ],
        work=work,
    )


def _side_by_side(plan: TrainPlan, capacity: Capacity) -> int:
    """Return how many searches there is room for at the same time."""
    cpus = (plan.resources or _all_there_is(capacity)).cpus
    return max(1, int(capacity.cpus // cpus))


def _unusual(plan: TrainPlan) -> list[Any]:
    """Return what a plan says of its jobs where that is not the usual.

    What was trained before these keys existed is still found.
    """
    said = msgspec.to_builtins((plan.workers, plan.time_limit, plan.limits, plan.retries))
    usual = TrainPlan()
    other = msgspec.to_builtins((usual.workers, usual.time_limit, usual.limits, usual.retries))
    return [] if said == other else [said]


def least_job_s(plan: TrainPlan) -> float:
    """Return what a job is given even where the time is up: no more than money allows."""
    return _LEAST_JOB_S if plan.budget.money is None else 1.0


def round_minutes(plan: TrainPlan, capacity: Capacity) -> float:
    """Return the wall time a round may train, so that it costs no more than it may.

    All its jobs are taken to work side by side all the time, as far as the machine has room.
    """
    each = [
        (_all_there_is(capacity) if name == AUTO else Resources())
        if plan.resources is None
        else plan.resources
        for name in plan.algorithms
    ]
    return plan.budget.minutes_for(min(capacity.cpus, sum(one.cpus for one in each)))


def _reserved_s(job: Job) -> float:
    """Return the seconds of processors that a job kept for itself."""
    if job.started_at is None or job.ended_at is None:
        return 0.0
    return job.resources.cpus * (job.ended_at - job.started_at).total_seconds()


def _window(model: Mapping[str, Any]) -> str:
    return "" if model["window"] == "all" else f"/{model['window']}"


def training_order(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    recipes: dict[str, Any],
    attempt: Attempt,
    *,
    algorithm: str,
    window: str,
    seconds: float,
) -> JobSpec:
    """Return the training job of one algorithm on one window."""
    if algorithm == AUTO:
        return _auto_order(workspace, loop, target, parts, recipes, window=window, seconds=seconds)
    resources = loop.train.resources
    family = get_algorithm(algorithm).features
    conversions = Snapshot.from_json(parts["snapshot"]).conversions
    spec = TrainingSpec(
        algorithm=algorithm,
        task=target.task,  # type: ignore[arg-type]
        target=target.column,
        classes=target.classes,
        target_transform=recipes["target_transform"],
        hyperparameters=attempt.hyperparameters.get(algorithm, {}),
        seed=loop.train.seed,
        threads=max(1, int(resources.cpus)) if resources else 1,
        today=recipes["today"],
        conversions=tuple(conversion.to_json() for conversion in conversions),
    )
    return training_job(
        spec,
        name=f"{loop.name}/{algorithm}{'' if window == 'all' else '-' + window}",
        recipe=workspace.artifacts.get_bytes(recipes["recipes"][f"{family}/{window}"]),
        train=workspace.artifacts.local_path(parts["windows"][window]),
        validation=workspace.artifacts.local_path(parts["validation"]),
        resources=resources,
        time_limit_s=_time_limit_s(loop.train, seconds),
        limits=loop.train.limits,
        retries=loop.train.retries,
        labels={"loop": loop.name, "window": window},
    )


def _time_limit_s(plan: TrainPlan, seconds: float) -> float:
    return min(seconds, plan.time_limit_s or seconds)


def _auto_order(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    recipes: dict[str, Any],
    *,
    window: str,
    seconds: float,
) -> JobSpec:
    """Return the job that searches for the best model on one window."""
    resources = loop.train.resources or _all_there_is(workspace.compute.capacity())
    conversions = Snapshot.from_json(parts["snapshot"]).conversions
    split = loop.data.split
    training = TrainingSpec(
        algorithm=AUTO,
        task=target.task,  # type: ignore[arg-type]
        target=target.column,
        classes=target.classes,
        target_transform=recipes["target_transform"],
        seed=loop.train.seed,
        threads=max(1, int(resources.cpus)),
        today=recipes["today"],
        conversions=tuple(conversion.to_json() for conversion in conversions),
    )
    spec = AutoSpec(
        training=training,
        budget_s=_time_limit_s(loop.train, seconds),
        memory_mib=resources.memory_mib,
        metric=_metric_of_search(loop, target),
        divide_by=split.by,
        divide_column=split.column,
        algorithms=loop.train.auto.algorithms,
        max_trials=loop.train.auto.trials,
        distill=loop.train.auto.distill,
        distill_may_cost=loop.train.auto.distill_may_cost,
    )
    of_window = {
        name.removesuffix(f"/{window}"): workspace.artifacts.get_bytes(digest)
        for name, digest in recipes["recipes"].items()
        if name.endswith(f"/{window}")
    }
    ordered = auto_job(
        spec,
        name=f"{loop.name}/{AUTO}{'' if window == 'all' else '-' + window}",
        recipes=of_window,
        train=workspace.artifacts.local_path(parts["windows"][window]),
        validation=workspace.artifacts.local_path(parts["validation"]),
        resources=resources,
        labels={"loop": loop.name, "window": window},
    )
    # with more time than the last search of the same rows had, this one begins where that ended
    ordered = going_on(ordered, workspace.compute.list_(kind="training"))
    return replace(ordered, limits=loop.train.limits, retries=loop.train.retries)


def _metric_of_search(loop: LoopFile, target: Target) -> str:
    """Return what a blend is weighed by: the loop's own metric, but never one at a threshold.

    The threshold is chosen afterwards, on the validation rows; until then probabilities are right
    when their logarithmic loss is small.
    """
    metric = primary_metric(loop.problem, task=target.task).name
    return "log_loss" if metric in AT_A_THRESHOLD else metric


def _all_there_is(capacity: Capacity) -> Resources:
    """Return what a search is given when nobody says: a machine's processors, half its memory."""
    memory_mib = int(min(_MOST_MIB, capacity.memory_mib / 2))
    return Resources(cpus=float(min(_MOST_CPUS, int(capacity.cpus))), memory=f"{memory_mib} MiB")


def kept_job(workspace: Workspace, job: Job, *, algorithm: str, window: str) -> dict[str, Any]:
    """Keep what a training job left behind, by digest; of one that failed, only why."""
    about: dict[str, Any] = {"job": job.id, "algorithm": algorithm, "window": window}
    # a search that was stopped has left the best model so far
    was_stopped = algorithm == AUTO and (job.out / RESULT_FILE).is_file()
    if job.state is not JobState.SUCCEEDED and not was_stopped:
        return {**about, "state": job.state.value, "reason": job.reason}
    result = read_result(job.folder)
    members = {
        name: workspace.artifacts.put_file(path) for name, path in model_members(job.folder).items()
    }
    members["validation.parquet"] = workspace.artifacts.put_file(job.out / "validation.parquet")
    members["training.json"] = workspace.artifacts.put_file(job.out / "result.json")
    return {
        **about,
        "state": job.state.value,
        "members": members,
        "fit_s": result.fit_s,
        "export_s": result.export_s,
        "best_iteration": result.best_iteration,
        "hyperparameters": result.hyperparameters,
        "importance": [list(pair) for pair in result.importance[:20]],
        "peak_memory_mib": job.peak_memory_mib,
        "remark": read_remark(job.folder) if algorithm == AUTO else "",
    }


def _covered_s(jobs: Sequence[Job], kept: Sequence[Mapping[str, Any]]) -> float:
    """Return the wall time in which at least one algorithm was training, in seconds."""
    spans = []
    for job, each in zip(jobs, kept, strict=True):
        if job.ended_at is not None and "fit_s" in each:
            end = job.ended_at - timedelta(seconds=each["export_s"])
            spans.append((end - timedelta(seconds=each["fit_s"]), end))
    return length_s(spans)
