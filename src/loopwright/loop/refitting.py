"""The winner of a round once more, from all its rows: those that chose and judged it included.

A challenger is judged by rows that it did not learn from, and those are the newest. Once it has
passed, they are of more use as lessons. The same recipe policy, algorithm and settings are fitted
on all of them. No row is left that could judge the result, so it is held against the fit that was
judged: it must not be worse, nor differ more than that one errs. Else the judged fit goes live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.compute import Job, JobSpec
from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError, LoopwrightError, WrongStateError
from loopwright.core.lazy import LazyModule
from loopwright.evaluate import EvaluatePlan
from loopwright.evaluate.resampling import measured
from loopwright.loop.attempt import Attempt
from loopwright.loop.candidate import Candidate, candidate_model
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import all_rows, read_part, stored_part, truth
from loopwright.loop.judging import as_answers
from loopwright.loop.refit_check import LEAST_SEGMENT, Beside, RefitEvidence, refusals
from loopwright.loop.slices import slice_masks
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult, round_key
from loopwright.loop.training import kept_job, training_order
from loopwright.loop.training_turn import ended_jobs
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import row_money
from loopwright.problem import Answers, primary_metric
from loopwright.train import AUTO, TrainingResult
from loopwright.train.reason import explanation_member
from loopwright.tune.replay import replaying

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")

# how long training goes on, and what ends it before, of each kind of learner
_LENGTHS = (("rounds", "early_stopping_rounds"), ("epochs", "early_stopping_epochs"))
# where the early end is off unless it is set
_OFF: Mapping[str, Any] = {"random-forest": None}

Told = Callable[[Job], None]


def fitted_again(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    winner: Candidate,
    *,
    number: int,
    seconds: float,
    golden: str | None = None,
    on_change: Told,
) -> StepResult:
    """Fit the winner of a round on all rows it may learn from, and hold the result against it.

    Whatever goes wrong here is on record and refuses the new fit alone: the judged one is there.

    Parameters
    ----------
    parts
        See `parted_rows`; of a round that learns from live rows.
    number
        Of the round.
    seconds
        How long the training job may take.
    golden
        Digest of the rows whose truth is certain.

    Returns
    -------
    StepResult
        `taken` tells whether the new fit goes live; then `members` are its files, `rows` the digest
        of what it learnt from and `member` what explains it. `jobs` is as a training step leaves
        it, `evidence` what decided, `told` it all in words.
    """
    rows = all_rows(workspace, loop, parts, winner.window)  # type: ignore[arg-type] # one of them
    digest = stored_part(workspace, rows)
    try:
        job = _trained(workspace, loop, target, parts, winner, digest, number, seconds, on_change)
        kept = kept_job(workspace, job, algorithm=winner.algorithm, window=winner.window)
        if "members" not in kept:
            return _refused([f"its training job {kept['state']}: {kept['reason']}"], rows=digest)
        again = replace(winner, members=kept["members"], best_iteration=kept["best_iteration"])
        evidence = _evidence(workspace, loop, target, parts, winner, again, rows.height, golden)
    except LoopwrightError as error:
        return _refused([error.message], rows=digest)
    told = msgspec.to_builtins(evidence)
    if why := refusals(evidence):
        return _refused(why, rows=digest, jobs=[kept], evidence=told)
    member = explanation_member(candidate_model(workspace, loop, target, again), rows)
    explains = workspace.artifacts.put_bytes(member)
    said = (
        f"It was fitted again on all {rows.height:,} rows; the figures are those of the fit before, "
        "and no row is left to judge the new one by."
    )
    return StepResult(
        output={
            "taken": True,
            "told": said,
            "rows": digest,
            "n_rows": rows.height,
            "jobs": [kept],
            "members": kept["members"],
            "best_iteration": kept["best_iteration"],
            "member": explains,
            "evidence": told,
        },
        summary=f"{winner.title} on all {rows.height:,} rows, {kept['fit_s']:.2f} s; beside the "
        f"judged fit: {evidence.told}",
        reason="rows that have judged are of more use as lessons now; thresholds, calibration and "
        "intervals stay those of the judged fit",
        artifacts=(digest, explains, *kept["members"].values()),
    )


def refit_of(winner: Candidate, output: Mapping[str, Any] | None) -> Candidate:
    """Return the fit that goes live: the one on all rows if it was taken, else the judged one.

    How it answers (threshold, calibration, interval) stays as it was found on held-out rows.
    """
    if output is None or not output["taken"]:
        return winner
    return replace(winner, members=output["members"], best_iteration=output["best_iteration"])


def _refused(
    why: list[str],
    *,
    rows: str,
    jobs: list[dict[str, Any]] | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> StepResult:
    told = "; ".join(each.rstrip(".") for each in why)
    kept = [digest for job in jobs or () for digest in job["members"].values()]
    return StepResult(
        output={
            "taken": False,
            "told": f"A fit on all rows was refused ({told}); the judged one goes on.",
            "rows": rows,
            "jobs": jobs or [],
            "evidence": evidence,
        },
        summary="refused; the judged fit goes on",
        reason=told,
        artifacts=(rows, *kept),
    )


def _trained(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    winner: Candidate,
    rows: str,
    number: int,
    seconds: float,
    on_change: Told,
) -> Job:
    """Return the training job once it has ended."""
    order = _order(workspace, loop, target, parts, winner, rows, number, seconds)
    workers = loop.train.workers_of(winner.algorithm)
    return ended_jobs(workspace.compute, [order], workers=[workers], on_change=on_change)[0]


def _order(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    winner: Candidate,
    rows: str,
    number: int,
    seconds: float,
) -> JobSpec:
    suffix = "" if winner.attempt == 1 else f".{winner.attempt}"
    prepared = workspace.metadata.get("step", f"{round_key(loop.name, number)}/prepare{suffix}")
    attempt = Attempt(
        number=winner.attempt,
        idea="all rows",
        hypothesis="",
        algorithms=(winner.algorithm,),
        hyperparameters={winner.algorithm: settings_again(workspace, winner)},
        windows=(winner.window,),
    )
    order = training_order(
        workspace,
        loop,
        target,
        # the rows that judged are learnt from too; the job answers them, so that it can be compared
        {**parts, "windows": {winner.window: rows}, "validation": parts["test"]},
        prepared.body["output"],
        attempt,
        algorithm=winner.algorithm,
        window=winner.window,
        seconds=seconds,
    )
    if winner.algorithm != AUTO:
        return order
    again = replaying(order, _job_of(workspace, loop.name, number, winner))
    # a search of these rows is another job than the repetition of this one
    key = digest_value([order.key, rows, winner.members["predictor.npz"]])
    return replace(again, key=f"training/{key.removeprefix('sha256:')}")


def settings_again(workspace: Workspace, winner: Candidate) -> dict[str, Any]:
    """Return the settings that fit the winner again: those it used, for as long as it was best.

    What was chosen on the validation rows is fixed now. The number of trees, or of passes, stays:
    more rows would bear a few more, and fewer are the safer side.
    """
    if winner.algorithm == AUTO:
        return {}
    kept = workspace.artifacts.get_bytes(winner.members["training.json"])
    settings = dict(msgspec.json.decode(kept, type=TrainingResult).hyperparameters)
    for length, early in _LENGTHS:
        if winner.best_iteration and early in settings and settings.get(length) is not None:
            settings |= {length: winner.best_iteration, early: _OFF.get(winner.algorithm, 0)}
    return settings


def _job_of(workspace: Workspace, loop: str, number: int, winner: Candidate) -> Job:
    """Return the job of the round that left the winner."""
    prefix = f"{round_key(loop, number)}/train"
    for step in workspace.metadata.list_("step", prefix=prefix):
        for each in (step.body.get("output") or {}).get("jobs", []):
            if each.get("members") == winner.members:
                return workspace.compute.get(each["job"])
    raise WrongStateError(
        "The search that left the model is not on record.", hint="The judged model goes on."
    )


def _evidence(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    parts: dict[str, Any],
    winner: Candidate,
    again: Candidate,
    n_rows: int,
    golden: str | None,
) -> RefitEvidence:
    """Return both fits side by side, on the rows that judged the first."""
    fits = [candidate_model(workspace, loop, target, each) for each in (winner, again)]
    test = read_part(workspace, parts["test"])
    y = truth(test, target)
    metric = primary_metric(loop.problem, task=target.task)
    plan = loop.evaluate or EvaluatePlan()
    raws = [model.predict_frame(test) for model in fits]
    said = [_answers(loop, target, test, raw, winner.threshold) for raw in raws]
    shown = _as_shown(y, raws[0])

    def beside(name: str, y: npt.NDArray[np.float64], both: list[Answers]) -> Beside:
        judged, new = (measured(metric, y, each) for each in both)
        return Beside(name=name, n_rows=len(y), judged=float(judged), again=float(new))

    segments = []
    for name, (_, mask) in slice_masks(plan, test).items():
        chosen = np.flatnonzero(mask)
        if len(chosen) >= LEAST_SEGMENT:
            segments.append(beside(name, y[chosen], [each.rows(chosen) for each in said]))
    sure = None
    if golden is not None:
        rows = read_part(workspace, golden)
        both = [
            _answers(loop, target, rows, model.predict_frame(rows), winner.threshold)
            for model in fits
        ]
        sure = beside("golden", truth(rows, target), both)
    return RefitEvidence(
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        n_learnt=n_rows,
        newest=beside("", y, said),
        segments=tuple(segments),
        segment_margin=plan.margin,
        golden=sure,
        difference=_root_mean_square(raws[1] - raws[0]),
        error=_root_mean_square(raws[0] - shown),
        spread=_root_mean_square(shown - shown.mean(axis=0)),
    )


def _answers(
    loop: LoopFile, target: Target, rows: pl.DataFrame, raw: Any, threshold: float
) -> Answers:
    money = row_money(loop.problem, target, rows)
    return as_answers(raw, target, threshold=threshold, money=money)


def _as_shown(y: npt.NDArray[np.float64], raw: npt.NDArray[np.float64]) -> Any:
    """Return the truth in the shape of the numbers behind answers."""
    return y if raw.ndim == 1 else np.eye(raw.shape[1])[y.astype(np.int64)]


def _root_mean_square(values: npt.NDArray[np.float64]) -> float:
    found = float(np.sqrt(np.mean(np.square(values))))
    if not np.isfinite(found):
        raise BackendError(
            "A fit on all rows answers with no number.", hint="The judged one goes on."
        )
    return found
