"""The training jobs of an attempt: ordered, waited for, and what they leave kept by digest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from loopwright.compute import Job, JobSpec, JobState, Resources, machine_capacity
from loopwright.core.errors import BackendError
from loopwright.data import Snapshot
from loopwright.loop.attempt import Attempt
from loopwright.loop.file import LoopFile
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult, StepRunner
from loopwright.loop.workspace import Workspace
from loopwright.problem import primary_metric
from loopwright.train import (
    AUTO,
    TrainingSpec,
    get_algorithm,
    model_members,
    read_result,
    training_job,
)
from loopwright.train.job import RESULT_FILE
from loopwright.tune import AutoSpec, auto_job

_AT_A_THRESHOLD = (
    "accuracy",
    "balanced_accuracy",
    "f1",
    "macro_f1",
    "precision",
    "profit_per_case",
    "recall",
)
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
        submitted = [
            workspace.compute.submit(
                training_order(
                    workspace,
                    loop,
                    target,
                    parts,
                    recipes,
                    attempt,
                    algorithm=algorithm,
                    window=window,
                    seconds=max(30.0, minutes * 60),
                )
            )
            for algorithm, window in orders
        ]
        ended = workspace.compute.wait(
            [job.id for job in submitted],
            on_change=lambda job: runner.progress(
                f"train{suffix}", f"{job.name} {job.state.value}"
            ),
        )
        kept = [
            _kept(workspace, job, algorithm=algorithm, window=window)
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
        if failed:
            summary += f"; failed: {', '.join(failed)}"
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
        ],
        work=work,
    )


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
        time_limit_s=seconds,
        labels={"loop": loop.name, "window": window},
    )


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
    resources = loop.train.resources or _all_there_is()
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
        budget_s=seconds,
        memory_mib=resources.memory_mib,
        metric=_metric_of_search(loop, target),
        divide_by=split.by,
        divide_column=split.column,
        algorithms=loop.train.auto.algorithms,
        max_trials=loop.train.auto.trials,
    )
    of_window = {
        name.removesuffix(f"/{window}"): workspace.artifacts.get_bytes(digest)
        for name, digest in recipes["recipes"].items()
        if name.endswith(f"/{window}")
    }
    return auto_job(
        spec,
        name=f"{loop.name}/{AUTO}{'' if window == 'all' else '-' + window}",
        recipes=of_window,
        train=workspace.artifacts.local_path(parts["windows"][window]),
        validation=workspace.artifacts.local_path(parts["validation"]),
        resources=resources,
        labels={"loop": loop.name, "window": window},
    )


def _metric_of_search(loop: LoopFile, target: Target) -> str:
    """Return what a blend is weighed by: the loop's own metric, but never one at a threshold.

    The threshold is chosen afterwards, on the validation rows; until then probabilities are right
    when their logarithmic loss is small.
    """
    metric = primary_metric(loop.problem, task=target.task).name
    return "log_loss" if metric in _AT_A_THRESHOLD else metric


def _all_there_is() -> Resources:
    """Return what a search is given when nobody says: the machine's processors, half its memory."""
    capacity = machine_capacity()
    memory_mib = int(min(_MOST_MIB, capacity.memory_mib / 2))
    return Resources(cpus=float(min(_MOST_CPUS, int(capacity.cpus))), memory=f"{memory_mib} MiB")


def _kept(workspace: Workspace, job: Job, *, algorithm: str, window: str) -> dict[str, Any]:
    """Keep what a training job left behind, by digest."""
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
    }


def _covered_s(jobs: Sequence[Job], kept: Sequence[Mapping[str, Any]]) -> float:
    """Return the wall time in which at least one algorithm was training, in seconds."""
    spans = []
    for job, each in zip(jobs, kept, strict=True):
        if job.ended_at is not None and "fit_s" in each:
            end = job.ended_at - timedelta(seconds=each["export_s"])
            spans.append((end - timedelta(seconds=each["fit_s"]), end))
    covered, until = timedelta(), None
    for start, end in sorted(spans):
        start = start if until is None else max(start, until)
        if end > start:
            covered += end - start
            until = end
    return covered.total_seconds()
