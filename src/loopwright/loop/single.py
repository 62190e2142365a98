"""One algorithm trained on a loop's rows by itself: no round, no decision, no endpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.compute import Limits, Resources
from loopwright.core.clock import SystemClock
from loopwright.core.files import write_atomically
from loopwright.data import Snapshot
from loopwright.loop.attempt import first_attempt
from loopwright.loop.build import best_candidate, prepared_recipes
from loopwright.loop.candidate import Candidate, candidate_model, model_files, outcome_of
from loopwright.loop.file import LoopFile, ReadFile
from loopwright.loop.framing import explored, parted_rows
from loopwright.loop.lineage import keep_extraction
from loopwright.loop.noting import notes_in_force, reasons_to_drop, with_notes
from loopwright.loop.preflight import checked_over_columns, checked_plans, checked_sizes
from loopwright.loop.sourcing import Target, extracted
from loopwright.loop.step import OnNews, StepResult, StepRunner
from loopwright.loop.tuning import OnTrial, Tuning, run_study
from loopwright.loop.workspace import Workspace, checked_home, locked_loop
from loopwright.train import (
    AUTO,
    Distill,
    TrainPlan,
    checked_train,
    get_algorithm,
    pack_bundle,
)
from loopwright.tune import TunePlan, checked_space, checked_tune

if TYPE_CHECKING:
    from loopwright.compute import Capacity
    from loopwright.train import ServingModel


BUNDLE_FILE = "model.tar.gz"
_MINUTES = 30.0


class AsideRunner(StepRunner):
    """Runs steps beside the rounds: takes what rounds have worked out, and records nothing."""

    job_id = ""

    def _known(self, stage: str, fingerprint: str) -> dict[str, Any] | None:
        result = self.workspace.metadata.find("result", fingerprint)
        if result is None:
            return None
        if not all(self.workspace.artifacts.has(digest) for digest in result.body["artifacts"]):
            return None
        output: dict[str, Any] = result.body["output"]
        return output

    def _work(self, stage: str, fingerprint: str, work: Callable[[], StepResult]) -> dict[str, Any]:
        self._tell(stage, "started")
        clock = time.perf_counter()
        result = work()
        wall_s = time.perf_counter() - clock
        self._tell(stage, "done", result.summary, reason=result.reason, wall_s=wall_s)
        if stage == "train":
            self.job_id = str(result.output["jobs"][0]["job"])
        return result.output

    def _event(self, kind: str, body: dict[str, Any]) -> None:
        """Record nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleTraining:
    """A model trained by itself, and how it does on validation rows.

    Parameters
    ----------
    job_id
        The training job.
    algorithm
        What was trained.
    figures
        Every criterion's metric on validation rows, with its bounds; see `Figure.to_json`.
    meets
        Whether every criterion holds there.
    missed
        Metrics of the criteria that do not hold.
    """

    job_id: str
    algorithm: str
    figures: Mapping[str, Mapping[str, Any]]
    meets: bool
    missed: tuple[str, ...]
    n_criteria: int
    workspace: Workspace
    loop: LoopFile
    target: Target
    candidate: Candidate

    def model(self) -> ServingModel:
        """Return the model, ready to answer."""
        return candidate_model(self.workspace, self.loop, self.target, self.candidate)

    def bundle(self) -> Path:
        """Return the model as the `model.tar.gz` in the folder of its job, made at the first call."""
        path = self.workspace.compute.get(self.job_id).folder / BUNDLE_FILE
        if path.exists():
            return path
        packed = pack_bundle(
            model_files(self.workspace, self.candidate),
            name=self.loop.name,
            algorithm=self.algorithm,
            outcome=outcome_of(self.target, self.candidate),
        )
        write_atomically(path, packed)
        return path


def train_single(
    read: ReadFile,
    *,
    algorithm: str,
    hyperparameters: Mapping[str, Any],
    resources: Resources | None,
    minutes: float | None,
    workers: int | None = None,
    distill: Distill | None = None,
    limits: Limits | None = None,
    retries: int | None = None,
    home: Path,
    find_workspace: Callable[[], Workspace | None],
    open_workspace: Callable[[], Workspace],
    capacity: Capacity,
    on_news: OnNews,
) -> SingleTraining:
    """Train one algorithm, as a job, on the split and with the features a round would use.

    The test rows are not read, nothing is decided, and no round begins. What a round has worked
    out already, it takes; a training job it has done already is found and not repeated.

    Parameters
    ----------
    read
        The loop file.
    algorithm, hyperparameters
        What to train; the hyperparameters win over those in the file.
    resources
        What the job is given; those of the file when None.
    minutes
        The time limit of the job; when None that of the file, or for `auto` its budget, or half
        an hour.
    workers, limits, retries
        See `TrainPlan`; those of the file when None.
    distill
        See `AutoPlan`; that of the file when None.
    home, find_workspace, open_workspace, capacity, on_news
        See `loopwright.loop.run_loop`.

    Raises
    ------
    InvalidInputError
        If the file, the algorithm or a hyperparameter cannot be used; nothing was changed.
    BackendError
        If the job failed.
    """
    plan = read.content.train
    changes: dict[str, Any] = {
        "resources": resources,
        "workers": workers,
        "limits": limits,
        "retries": retries,
        "auto": distill and msgspec.structs.replace(plan.auto, distill=distill),
    }
    with read.telling_lines():
        only = _only(
            read,
            algorithm,
            dict(hyperparameters),
            minutes or _usual_minutes(plan, algorithm),
            time_limit=None,
            **{name: value for name, value in changes.items() if value is not None},
        )
    aside = prepared_aside(
        only,
        home=home,
        find_workspace=find_workspace,
        open_workspace=open_workspace,
        capacity=capacity,
        on_news=on_news,
    )
    runner, loop, target = aside.runner, aside.loop, aside.target
    candidate = best_candidate(
        runner,
        aside.workspace,
        loop,
        target,
        parts=aside.parts,
        kinds=aside.kinds,
        reasons=aside.reasons,
    )
    return SingleTraining(
        job_id=runner.job_id,
        algorithm=algorithm,
        figures=candidate.figures,
        meets=candidate.meets,
        missed=candidate.missed,
        n_criteria=len(loop.problem.criteria),
        workspace=aside.workspace,
        loop=loop,
        target=target,
        candidate=candidate,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """A loop's rows as a round would use them, beside the rounds.

    Parameters
    ----------
    workspace, loop, target
        What is worked with; the loop with what notes say about columns.
    runner
        Takes what rounds have worked out, and records nothing.
    parts
        The training and validation rows; see `parted_rows`.
    kinds
        What columns mean.
    reasons
        People's own for the columns they drop.
    """

    workspace: Workspace
    loop: LoopFile
    target: Target
    runner: AsideRunner
    parts: dict[str, Any]
    kinds: dict[str, str]
    reasons: dict[str, str]


def prepared_aside(
    read: ReadFile,
    *,
    home: Path,
    find_workspace: Callable[[], Workspace | None],
    open_workspace: Callable[[], Workspace],
    capacity: Capacity,
    on_news: OnNews,
) -> Aside:
    """Return a loop's rows, read, divided and profiled as a round would; no round begins.

    Parameters are those of `loopwright.loop.run_loop`.

    Raises
    ------
    InvalidInputError
        If the file cannot be used; nothing was changed.
    """
    checked_home(home)
    with read.telling_lines():
        checked_plans(read, capacity)
    workspace = find_workspace()
    with extracted(
        read,
        metadata=workspace.metadata if workspace else None,
        artifacts=workspace.artifacts if workspace else None,
        clock=workspace.clock if workspace else SystemClock(),
        refresh=False,
        scratch=workspace.scratch_folder() if workspace else None,
        home=home,
    ) as extraction:
        with read.telling_lines():
            checked_over_columns(read.content, extraction.sourced)
            checked_sizes(read.content, extraction.sourced)
        workspace = workspace or open_workspace()
        with locked_loop(home, read.content.name):
            keep_extraction(workspace, read, extraction)
    sourced = extraction.sourced
    columns = [column.name for column in Snapshot.from_json(sourced.snapshot).columns]
    notes = notes_in_force(workspace.metadata, read.content, columns)
    loop, target = with_notes(read.content, notes), sourced.target
    runner = AsideRunner(workspace, loop.name, 0, on_news)
    split = msgspec.json.decode(msgspec.json.encode(loop.data.split))
    parts = runner.run(
        "data",
        inputs=[sourced.snapshot["digest"], split, target.column, None],
        work=lambda: parted_rows(workspace, loop, sourced, None),
    )
    looked = runner.run(
        "explore",
        inputs=[
            {name: parts[name] for name in ("windows", "validation")},
            target.column,
            target.task,
            [note.content for note in notes],
        ],
        work=lambda: explored(workspace, target, parts, notes),
    )
    return Aside(
        workspace=workspace,
        loop=loop,
        target=target,
        runner=runner,
        parts=parts,
        kinds=looked["kinds"],
        reasons=reasons_to_drop(notes),
    )


def tune_single(
    read: ReadFile,
    *,
    algorithm: str,
    plan: TunePlan,
    name: str | None,
    on_trial: OnTrial | None,
    home: Path,
    find_workspace: Callable[[], Workspace | None],
    open_workspace: Callable[[], Workspace],
    capacity: Capacity,
    on_news: OnNews,
) -> Tuning:
    """Search the hyperparameters of one algorithm on the split and with the features of a round.

    The test rows are not read, nothing is decided, and no round begins. Every trial is a job; a
    search that was ended goes on where it was.

    Parameters
    ----------
    read
        The loop file.
    algorithm, plan, name, on_trial
        See `run_study`.
    home, find_workspace, open_workspace, capacity, on_news
        See `loopwright.loop.run_loop`.

    Raises
    ------
    InvalidInputError
        If the file, the algorithm or the space cannot be used; nothing was changed.
    BackendError
        If every trial failed.
    """
    # the space is checked before anything is read
    checked_space(get_algorithm(algorithm), checked_tune(plan).space.get(algorithm))
    given = read.content.train.hyperparameters.get(algorithm, {})
    minutes = plan.minutes or read.content.train.budget.minutes
    aside = prepared_aside(
        _only(read, algorithm, dict(given), minutes, workers=1),
        home=home,
        find_workspace=find_workspace,
        open_workspace=open_workspace,
        capacity=capacity,
        on_news=on_news,
    )
    attempt = first_attempt((algorithm,), aside.loop.train.settings())
    recipes = prepared_recipes(
        aside.runner,
        aside.workspace,
        aside.loop,
        aside.target,
        aside.parts,
        aside.kinds,
        attempt,
        "",
        aside.reasons,
    )
    return run_study(
        aside.workspace,
        aside.loop,
        aside.target,
        parts=aside.parts,
        recipes=recipes,
        attempt=attempt,
        algorithm=algorithm,
        plan=plan,
        capacity=capacity,
        name=name,
        on_trial=on_trial,
    )


def _usual_minutes(plan: TrainPlan, algorithm: str) -> float:
    if plan.time_limit_s is not None:
        return plan.time_limit_s / 60
    return plan.budget.minutes if algorithm == AUTO else _MINUTES


def _only(
    read: ReadFile, algorithm: str, hyperparameters: dict[str, Any], minutes: float, **changes: Any
) -> ReadFile:
    """Return the file with one algorithm, one job, one attempt, and other changes of its plan."""
    loop = read.content
    given = {**loop.train.hyperparameters.get(algorithm, {}), **hyperparameters}
    plan = msgspec.structs.replace(
        loop.train,
        algorithms=(algorithm,),
        hyperparameters={algorithm: given} if given else {},
        budget=msgspec.structs.replace(loop.train.budget, minutes=minutes, jobs=1),
        # the file's are for those of its algorithms that can
        **{"workers": loop.train.workers_of(algorithm), **changes},
    )
    content = msgspec.structs.replace(loop, train=checked_train(plan))
    return ReadFile(path=read.path, content=content, lines=read.lines)
