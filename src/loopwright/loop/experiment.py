"""Experiments: what was to be found out, the jobs that were run for it, and what came of it.

People begin their own; every round of a loop and every study of hyperparameters is one by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loopwright.compute.identity import job_id_of
from loopwright.core.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from loopwright.core.names import checked_name, did_you_mean
from loopwright.loop.step import round_key
from loopwright.loop.workspace import Workspace
from loopwright.problem import METRICS
from loopwright.store import Record
from loopwright.tune.comparison import shown
from loopwright.tune.study import list_trials
from loopwright.tune.trial import TrialRecord, TrialState, best_of

_RECORD = "experiment"
_FORMAT = 1
_STUDY = "study/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What was to be found out, the jobs that were run for it, and what came of it.

    Parameters
    ----------
    name
        Of a person's own: as given; of a round: `house-prices/3`; of a study: `study/NAME`.
    kind
        `own`, `round` or `study`.
    hypothesis
        What was thought to help.
    conclusion
        What came of it; empty while nobody knows.
    state
        `open` or `concluded` of a person's own; of a round, where it stands; of a study, `open`
        while a trial runs.
    jobs
        Ids, in the order they were put in, those of its studies and rounds included.
    parts
        What was put in: jobs, studies and rounds by their names.
    attempts
        Of a round: the idea, hypothesis and conclusion of each attempt.
    snapshot
        Of a round: the digest of the rows.
    by, started_at, concluded_at
        Who began it and when; ISO times in UTC.
    """

    name: str
    kind: str = "own"
    hypothesis: str = ""
    conclusion: str = ""
    state: str = "open"
    jobs: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    attempts: tuple[Mapping[str, str], ...] = ()
    snapshot: str = ""
    by: str = ""
    started_at: str = ""
    concluded_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the experiment as JSON types."""
        return {
            name: list(value) if isinstance(value := getattr(self, name), tuple) else value
            for name in self.__slots__
        }


def start_experiment(workspace: Workspace, name: str, *, hypothesis: str = "") -> Experiment:
    """Begin an experiment and return it.

    Parameters
    ----------
    name
        Letters, digits and hyphens.
    hypothesis
        What you think will help, and why.

    Raises
    ------
    AlreadyExistsError
        If there is one of that name.
    InvalidInputError
        If it cannot be a name.
    """
    checked_name(name, what="experiment")
    body = {
        "format": _FORMAT,
        "name": name,
        "hypothesis": hypothesis.strip(),
        "conclusion": "",
        "parts": [],
        "by": workspace.user,
        "started_at": workspace.clock.now().isoformat(),
        "concluded_at": None,
    }
    try:
        record = workspace.metadata.create(_RECORD, name, body)
    except AlreadyExistsError as error:
        raise AlreadyExistsError(
            f"There is already an experiment {name!r}.",
            hint=f"`loopwright experiments show {name}` shows it; choose another name for a new one.",
            kind=_RECORD,
            name=name,
        ) from error
    return _own(workspace, record)


def add_to_experiment(workspace: Workspace, name: str, parts: Iterable[str]) -> Experiment:
    """Put jobs, studies (`study/NAME`) and rounds (`house-prices/3`) into an experiment.

    What is in it already stays once.

    Raises
    ------
    NotFoundError
        If the experiment, or one of the parts, does not exist; nothing was changed.
    InvalidInputError
        If a part holds the experiment itself.
    """
    known = list(parts)
    for part in known:
        jobs_named(workspace, part)
        if name in _held_by(workspace, part):
            raise InvalidInputError(
                f"The experiment {name!r} cannot hold {part!r}, which holds {name!r}.",
                hint="Put its jobs in instead.",
                field="parts",
                value=part,
            )
    with workspace.metadata.transaction():
        record = _record(workspace, name)
        together = list(dict.fromkeys([*record.body["parts"], *known]))
        record = workspace.metadata.replace(record, {**record.body, "parts": together})
    return _own(workspace, record)


def conclude_experiment(workspace: Workspace, name: str, conclusion: str) -> Experiment:
    """Write down what came of an experiment; a later conclusion takes the place of this one.

    Raises
    ------
    NotFoundError
        If there is no such experiment of a person's own.
    InvalidInputError
        If the conclusion is empty.
    """
    if not conclusion.strip():
        raise InvalidInputError(
            "The conclusion is empty.",
            hint="Say what came of it, such as: depth beyond 8 does not help.",
            field="conclusion",
            value=conclusion,
        )
    at = workspace.clock.now().isoformat()
    with workspace.metadata.transaction():
        record = _record(workspace, name)
        before = record.body["conclusion"]
        body = {**record.body, "conclusion": conclusion.strip(), "concluded_at": at}
        record = workspace.metadata.replace(record, body)
        workspace.metadata.append(
            f"experiment/{name}",
            "concluded",
            {"conclusion": conclusion.strip(), "before": before, "by": workspace.user},
        )
    return _own(workspace, record)


def list_experiments(workspace: Workspace) -> list[Experiment]:
    """Return people's own experiments, the rounds of all loops and all studies, oldest first."""
    own = [_own(workspace, record) for record in _records(workspace, _RECORD)]
    rounds = [_round(workspace, record) for record in _records(workspace, "round")]
    studies = [_study(workspace, name) for name in _study_names(workspace)]
    return sorted([*own, *rounds, *studies], key=lambda each: (each.started_at, each.name))


def find_experiment(workspace: Workspace, name: str) -> Experiment | None:
    """Return one experiment, or None: a person's own, a round (`house-prices/3`), `study/NAME`."""
    record = workspace.metadata.find(_RECORD, name) if name else None
    if record is not None:
        return _own(workspace, record)
    study = name.removeprefix(_STUDY)
    if study != name and workspace.metadata.find("trial", f"{study}/{0:06d}") is not None:
        return _study(workspace, study)
    found = _round_record(workspace, name)
    return _round(workspace, found) if found else None


def get_experiment(workspace: Workspace, name: str) -> Experiment:
    """Return one experiment; see `find_experiment`.

    Raises
    ------
    NotFoundError
        If there is none, with the nearest name.
    """
    found = find_experiment(workspace, name)
    if found is None:
        raise _unknown(workspace, name, what="experiment")
    return found


def jobs_named(workspace: Workspace, part: str) -> list[str]:
    """Return the ids of the jobs that a name stands for: a job, an experiment, a study, a round.

    Raises
    ------
    NotFoundError
        If it stands for nothing.
    """
    found = find_experiment(workspace, part)
    if found is not None:
        return list(found.jobs)
    try:
        return [workspace.compute.get(job_id_of(workspace.compute, part)).id]
    except NotFoundError as error:
        what = "job, experiment, study or round"
        raise _unknown(workspace, part, what=what) from error


def _unknown(workspace: Workspace, name: str, *, what: str) -> NotFoundError:
    known = [each.name for each in list_experiments(workspace)]
    return NotFoundError(
        f"There is no {what} {name!r}.", hint=did_you_mean(name, known), kind=what, name=name
    )


def _own(workspace: Workspace, record: Record) -> Experiment:
    body = record.body
    jobs: list[str] = []
    for part in body["parts"]:
        # what is none of these is a job, and was one when it was put in
        found = find_experiment(workspace, part)
        jobs += found.jobs if found else [part]
    return Experiment(
        name=body["name"],
        hypothesis=body["hypothesis"],
        conclusion=body["conclusion"],
        state="concluded" if body["conclusion"] else "open",
        jobs=tuple(dict.fromkeys(jobs)),
        parts=tuple(body["parts"]),
        by=body["by"],
        started_at=body["started_at"],
        concluded_at=body["concluded_at"],
    )


def _held_by(workspace: Workspace, name: str) -> set[str]:
    """Return an experiment of one's own and all that it holds, by their names."""
    held, waiting = set(), [name]
    while waiting:
        each = waiting.pop()
        record = workspace.metadata.find(_RECORD, each)
        held.add(each)
        waiting += [p for p in record.body["parts"] if p not in held] if record else []
    return held


def _round(workspace: Workspace, record: Record) -> Experiment:
    loop, number = record.key.rpartition("/")[0], record.body["number"]
    steps = workspace.metadata.list_("step", prefix=f"{round_key(loop, number)}/")
    outputs = {
        step.key.rpartition("/")[2]: step.body["output"]
        for step in steps
        if step.body.get("output")
    }
    jobs: list[str] = []
    attempts = []
    for stage in _by_number([stage for stage in outputs if stage.partition(".")[0] == "train"]):
        trained, chosen = outputs[stage], outputs.get(f"choose{stage.removeprefix('train')}", {})
        jobs += [each["job"] for each in trained.get("jobs", ())]
        attempts.append(
            {
                "idea": str(trained.get("idea", "")),
                "hypothesis": str(trained.get("hypothesis", "")),
                "conclusion": str(chosen.get("conclusion", "")),
            }
        )
    for stage, output in outputs.items():
        if stage.partition(".")[0] == "tune":
            jobs += [each["job"] for each in output.get("trials", ()) if each.get("job")]
    body = record.body
    cause = ": ".join(text for text in (body.get("cause", ""), body.get("reason", "")) if text)
    told = "; ".join(each["hypothesis"] for each in attempts if each["hypothesis"])
    return Experiment(
        name=f"{loop}/{number}",
        kind="round",
        hypothesis=told or cause,
        conclusion=str(body.get("conclusion") or ""),
        state=str(body["state"]),
        jobs=tuple(dict.fromkeys(jobs)),
        attempts=tuple(attempts),
        snapshot=str((body.get("spec") or {}).get("snapshot", "")),
        by="loopwright",
        started_at=record.created_at.isoformat(),
        concluded_at=record.updated_at.isoformat() if body.get("conclusion") else None,
    )


def _study(workspace: Workspace, name: str) -> Experiment:
    trials = list_trials(workspace.metadata, name)
    first = workspace.metadata.find("trial", f"{name}/{0:06d}")
    running = any(trial.state is TrialState.RUNNING for trial in trials)
    counts = ", ".join(
        f"{n} {state.value}"
        for state in TrialState
        if (n := sum(trial.state is state for trial in trials))
    )
    about = workspace.metadata.find("study", name)
    names = sorted({each for trial in trials for each in trial.hyperparameters})
    return Experiment(
        name=f"{_STUDY}{name}",
        kind="study",
        hypothesis=f"other values of {', '.join(names)} help" if names else "",
        conclusion="" if running else counts + _best_told(trials, about.body if about else {}),
        state="open" if running else "concluded",
        jobs=tuple(trial.job for trial in trials if trial.job),
        by="loopwright",
        started_at=first.created_at.isoformat() if first else "",
    )


def _best_told(trials: Iterable[TrialRecord], about: Mapping[str, Any]) -> str:
    """Return the best trial in words; without the study's own record, which way is better is open."""
    values = [trial.value for trial in trials if trial.value is not None]
    if not values:
        return ""
    metric = METRICS.get(str(about.get("metric", "")))
    best = best_of(trials, higher_is_better=metric.higher_is_better) if metric else None
    if metric is None or best is None:
        return f"; from {min(values):.6g} to {max(values):.6g}"
    settings = ", ".join(f"{name} {shown(value)}" for name, value in best.hyperparameters.items())
    return f"; best {metric.name} {best.value:.6g} with {settings}"


def _study_names(workspace: Workspace) -> list[str]:
    keys = (record.key for record in _records(workspace, "trial"))
    return list(dict.fromkeys(key.rpartition("/")[0] for key in keys))


def _round_record(workspace: Workspace, name: str) -> Record | None:
    loop, _, number = name.rpartition("/")
    if not loop or not number.isdecimal() or len(number) > 9:
        return None
    return workspace.metadata.find("round", round_key(loop, int(number)))


def _record(workspace: Workspace, name: str) -> Record:
    record = workspace.metadata.find(_RECORD, name) if name else None
    if record is None:
        known = [each.key for each in _records(workspace, _RECORD)]
        raise NotFoundError(
            f"There is no experiment {name!r} of your own.",
            hint=did_you_mean(name, known)
            if known
            else f"Begin it: loopwright experiments start {name} --hypothesis '...'",
            kind=_RECORD,
            name=name,
        )
    return record


def _records(workspace: Workspace, kind: str) -> Iterator[Record]:
    after = ""
    while page := workspace.metadata.list_(kind, after=after):
        yield from page
        after = page[-1].key


def _by_number(stages: Iterable[str]) -> list[str]:
    """Return `train`, `train.2`, ..., `train.10` in this order."""
    return sorted(stages, key=lambda stage: int(stage.partition(".")[2] or 1))
