"""A job: what is asked for, what became of it, and the states it goes through."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from loopwright.compute.limits import Limits
from loopwright.compute.resource import Resources
from loopwright.core.digest import digest_value
from loopwright.core.errors import InvalidInputError, WrongStateError

# what a backend itself writes into the folder of a job
RESERVED_FILES = frozenset({"job.json", "env.json", "stop.json", "exit.json", "log.txt", "out"})
_CLAIM = re.compile(r"shim(-\d+)?\.json")
CHECKPOINTS = "checkpoints"
"""The folder, beside those of the jobs, that holds one folder of checkpoints for every key."""


class JobState(Enum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def has_ended(self) -> bool:
        """Tell whether the job can change no more."""
        return not _MOVES[self]

    def move_to(self, target: JobState) -> JobState:
        """Return `target` if the move is allowed, else raise `WrongStateError`."""
        if target not in _MOVES[self]:
            onward = " or ".join(sorted(state.value for state in _MOVES[self]))
            raise WrongStateError(
                f"A {self.value} job cannot become {target.value}.",
                hint=f"It can become {onward}." if onward else "It has ended; start a new one.",
            )
        return target


_ENDS = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED})
_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.STOPPED}),
    # a supervisor that is told to end by someone else stops the job without our asking; a job that
    # was lost through no fault of its own waits for its next try
    JobState.RUNNING: _ENDS | {JobState.STOPPING, JobState.QUEUED},
    JobState.STOPPING: _ENDS,
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.STOPPED: frozenset(),
}


MOST_RETRIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a job is to do.

    Parameters
    ----------
    key
        Names the work: submitting the same key again finds the job instead of repeating it.
    name, kind
        For people and for lists: `house-prices/xgboost`; `training`, `endpoint`, ...
    command
        The program and its arguments. It runs in the job's own folder, where it finds `files`
        and leaves its results in `out/`.
    files
        What is put into the folder before the start: bytes, or a file to copy, by relative name.
    env
        Environment variables beside the few every job gets; never shown in messages or records.
    time_limit_s
        How long it may run, in seconds; None for as long as it takes.
    counted
        Whether its CPUs and memory count when jobs wait for room. A service that mostly waits
        for requests starts at once and is not counted; its memory limit holds all the same.
    limits
        What its process tree may do beside that; see `Limits`.
    retries
        How often the job starts again, after 1, 2, 4, ... seconds, when it was lost through no
        fault of its own: its supervisor or its processes were killed from outside, or the machine
        restarted. A command that fails, crashes or meets a limit is not tried again. The
        environment then stays in the job's folder, readable by its owner alone, until the end.
    checkpoint
        Whether it gets a folder, named by `LOOPWRIGHT_CHECKPOINT_DIR`, that outlives it: the next
        try and the next attempt at the same key find there what this one left.
    seed
        The seed it works with, for its record.
    varying
        Files of `out/` that may differ between two runs of the same work, such as those that tell
        times; `rerun` does not compare them.
    rerun_of
        The job that this one repeats.
    keeps_room_for
        How many jobs of the same resources will join it. It starts when there is room for all,
        and keeps that room until it ends, so that two such groups never wait for each other.
    joins
        The job that keeps room for this one, by its id; it starts at once while that one runs.

    Raises
    ------
    InvalidInputError
        If one of them cannot be used.
    """

    key: str
    name: str
    kind: str
    command: tuple[str, ...]
    files: Mapping[str, bytes | Path] = field(default_factory=dict, repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    resources: Resources = field(default_factory=Resources)
    time_limit_s: float | None = None
    counted: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    retries: int = 0
    checkpoint: bool = False
    seed: int | None = None
    varying: tuple[str, ...] = ()
    rerun_of: str = ""
    keeps_room_for: int = 0
    joins: str = ""

    def __post_init__(self) -> None:
        """Refuse what no backend can run."""
        for name in ("key", "name", "kind"):
            if not getattr(self, name):
                raise _unusable(name, "", "Give it some text.")
        if not self.command or any("\0" in part for part in self.command):
            raise _unusable("command", self.command, "Give the program and its arguments.")
        if self.time_limit_s is not None and not 0 < self.time_limit_s < math.inf:
            raise _unusable("time_limit_s", self.time_limit_s, "Give seconds above 0, or None.")
        if self.keeps_room_for < 0:
            raise _unusable("keeps_room_for", self.keeps_room_for, "Give 0 or more.")
        if not 0 <= self.retries <= MOST_RETRIES:
            raise _unusable("retries", self.retries, f"Give 0 to {MOST_RETRIES}.")
        for name in self.files:
            parts = PurePosixPath(name).parts
            if not parts or _is_reserved(parts[0]) or ".." in parts or "\0" in name:
                hint = "Use a relative path inside the job's folder, not one of its own files."
                raise _unusable("files", name, hint)
        for name, value in self.env.items():
            if not name or "=" in name or "\0" in name + value:
                raise _unusable("env", name, "Use names without '=', and values without NUL.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One attempt at a `JobSpec` and what is known about it.

    `attempt` counts from 1 for each key. `folder` holds the job's files, `log.txt`, `out/` with
    its results and, once it has ended, `exit.json`. `exit_code` is negative for a signal and None
    when the job has not ended or nobody saw how. `reason` says why it did not succeed.
    `peak_memory_mib` and `cpu_s` are measured over the whole process tree, None until it ends.
    `retried` counts the tries after the first; `not_before` is when the next may start. `home` and
    `host` say whose it is and where it runs. `log_left_out_bytes` were printed beyond the limit.
    `waits_for` says what a queued job waits for as it was looked at; it is not remembered.
    """

    id: str
    key: str
    attempt: int
    name: str
    kind: str
    state: JobState
    folder: Path
    submitted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    reason: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    time_limit_s: float | None = None
    counted: bool = True
    gpu_ids: tuple[str, ...] = ()
    peak_memory_mib: float | None = None
    cpu_s: float | None = None
    limits: Limits = field(default_factory=Limits)
    retries: int = 0
    retried: int = 0
    not_before: datetime | None = None
    checkpoint: bool = False
    home: str = ""
    host: str = ""
    log_left_out_bytes: int = 0
    rerun_of: str = ""
    keeps_room_for: int = 0
    joins: str = ""
    waits_for: str = ""

    @property
    def out(self) -> Path:
        """Return the folder of the job's results."""
        return self.folder / "out"

    @property
    def log_path(self) -> Path:
        """Return the file of the job's output and errors."""
        return self.folder / "log.txt"

    @property
    def checkpoints(self) -> Path | None:
        """Return the folder of its checkpoints, or None if it asked for none."""
        return checkpoint_folder(self.folder.parent, self.key) if self.checkpoint else None


def checkpoint_folder(jobs: Path, key: str) -> Path:
    """Return where the work of a key leaves its checkpoints, beside the folders of the jobs."""
    return jobs / CHECKPOINTS / digest_value(key).removeprefix("sha256:")[:32]


_FORMAT = 2


def job_body(job: Job) -> dict[str, Any]:
    """Return a job as a record keeps it; the folder is told by the id."""
    return {
        "format": _FORMAT,
        "id": job.id,
        "key": job.key,
        "attempt": job.attempt,
        "name": job.name,
        "kind": job.kind,
        "state": job.state.value,
        "submitted_at": _iso(job.submitted_at),
        "started_at": _iso(job.started_at),
        "ended_at": _iso(job.ended_at),
        "exit_code": job.exit_code,
        "reason": job.reason,
        "labels": dict(job.labels),
        "resources": {
            "cpus": job.resources.cpus,
            "memory": job.resources.memory,
            "gpus": job.resources.gpus,
        },
        "time_limit_s": job.time_limit_s,
        "counted": job.counted,
        "gpu_ids": list(job.gpu_ids),
        "peak_memory_mib": job.peak_memory_mib,
        "cpu_s": job.cpu_s,
        "limits": msgspec.to_builtins(job.limits),
        "retries": job.retries,
        "retried": job.retried,
        "not_before": _iso(job.not_before),
        "checkpoint": job.checkpoint,
        "home": job.home,
        "host": job.host,
        "log_left_out_bytes": job.log_left_out_bytes,
        "rerun_of": job.rerun_of,
        "keeps_room_for": job.keeps_room_for,
        "joins": job.joins,
        "folder": str(job.folder),
    }


def job_of_body(body: Mapping[str, Any], *, folder: Path) -> Job:
    """Return the job that a record keeps; `folder` holds the folders of this home's jobs.

    Format 1 knew neither limits nor retries, nor any other home than this one.
    """
    values = {name: value for name, value in body.items() if name not in ("format", "folder")}
    return Job(
        **values
        | {
            "state": JobState(body["state"]),
            "folder": Path(body["folder"]) if "folder" in body else folder / body["id"],
            "submitted_at": datetime.fromisoformat(body["submitted_at"]),
            "started_at": _time(body["started_at"]),
            "ended_at": _time(body["ended_at"]),
            "not_before": _time(body.get("not_before")),
            "resources": Resources(**body["resources"]),
            "limits": Limits(**body.get("limits", {})),
            "gpu_ids": tuple(body["gpu_ids"]),
        }
    )


def _is_reserved(name: str) -> bool:
    return name == "/" or name in RESERVED_FILES or _CLAIM.fullmatch(name) is not None


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _unusable(name: str, value: object, hint: str) -> InvalidInputError:
    return InvalidInputError(
        f"A job's {name} cannot be {value!r}.", hint=hint, field=name, value=value
    )
