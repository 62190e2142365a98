"""Experiments: what was to be found out, the jobs that were run for it, and what came of it.

People begin their own; every round of a loop and every study of hyperparameters is one by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from loopwright.core.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from loopwright.core.names import checked_name, did_you_mean
from loopwright.loop.step import round_key
from loopwright.loop.workspace import Workspace
from loopwright.store import Record
from loopwright.tune.study import list_trials
from loopwright.tune.trial import TrialState

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
    """
    known = list(parts)
    for part in known:
        jobs_named(workspace, part)
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


def find_experiment(workspace: Workspace, name: str) -> Experiment:
    """Return one experiment: a person's own, a round such as `house-prices/3`, or `study/NAME`.

    Raises
    ------
    NotFoundError
        If there is none, with the nearest name.
    """
    record = workspace.metadata.find(_RECORD, name) if name else None
    if record is not None:
        return _own(workspace, record)
    if name.startswith(_STUDY) and name.removeprefix(_STUDY) in _study_names(workspace):
        return _study(workspace, name.removeprefix(_STUDY))
    found = _round_record(workspace, name)
    if found is not None:
        return _round(workspace, found)
    known = [each.name for each in list_experiments(workspace)]
    raise NotFoundError(
        f"There is no experiment {name!r}.",
        hint=did_you_mean(name, known),
        kind=_RECORD,
        name=name,
    )


def jobs_named(workspace: Workspace, part: str) -> list[str]:
    """Return the ids of the jobs that a name stands for: a job, an experiment, a study, a round.

    Raises
    ------
    NotFoundError
        If it stands for nothing.
    """
    try:
        return list(find_experiment(workspace, part).jobs)
    except NotFoundError as error:
        if "/" in part:
            raise
        try:
            return [workspace.compute.get(part).id]
        except NotFoundError:
            raise NotFoundError(
                f"There is no job, experiment, study or round {part!r}.",
                hint=error.hint or "`loopwright experiments list` lists them.",
                kind="job",
                name=part,
            ) from error


def _own(workspace: Workspace, record: Record) -> Experiment:
    body = record.body
    jobs: list[str] = []
    for part in body["parts"]:
        try:
            jobs += _jobs_of_part(workspace, part)
        except NotFoundError:  # what was put in may be forgotten since
            continue
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


def _jobs_of_part(workspace: Workspace, part: str) -> list[str]:
    if part.startswith(_STUDY):
        return list(_study(workspace, part.removeprefix(_STUDY)).jobs)
    record = _round_record(workspace, part)
    if record is not None:
        return list(_round(workspace, record).jobs)
    own = workspace.metadata.find(_RECORD, part)
    if own is not None:
        return list(_own(workspace, own).jobs)
    return [part]


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
    done = [trial for trial in trials if trial.value is not None]
    counts = ", ".join(
        f"{n} {state.value}"
        for state in TrialState
        if (n := sum(trial.state is state for trial in trials))
    )
    names = sorted({each for trial in trials for each in trial.hyperparameters})
    values = [trial.value for trial in done if trial.value is not None]
    told = f"; from {min(values):.6g} to {max(values):.6g}" if values else ""
    return Experiment(
        name=f"{_STUDY}{name}",
        kind="study",
        hypothesis=f"other values of {', '.join(names)} help" if names else "",
        conclusion="" if running else f"{counts}{told}",
        state="open" if running else "concluded",
        jobs=tuple(trial.job for trial in trials if trial.job),
        by="loopwright",
        started_at=first.created_at.isoformat() if first else "",
    )


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
