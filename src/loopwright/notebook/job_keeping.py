"""Jobs of a home looked after: what one was made of, running it again, removing old files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from loopwright.compute import Comparison, Job, JobState, compared, rerun_spec
from loopwright.compute.cleaning import removable
from loopwright.compute.limits import MEMORY_HELD_BY
from loopwright.compute.origin import differences
from loopwright.compute.supervisor.watchdog import folder_bytes
from loopwright.core.errors import BackendError, NotFoundError
from loopwright.loop import Workspace
from loopwright.notebook.training_job import cause
from loopwright.store.metadata import MOST_ROWS
from loopwright.train.distributed import rerun_in_parallel
from loopwright.train.script import KIND as SCRIPT
from loopwright.tune.entry import list_entries
from loopwright.tune.job import AUTO_FILE
from loopwright.tune.replay import replaying

# rounds in any other state go on with the jobs they have
_ENDED_ROUNDS = frozenset(
    {"live", "kept champion", "criterion missed", "not ml", "rule enough", "rejected"}
)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Rerun:
    """A job that was run once more, and what came of it.

    `changed` names what is not as it was the first time: code, packages, hardware.
    """

    first: Job
    second: Job
    comparison: Comparison
    changed: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether every file that was compared is equal, bit for bit."""
        return self.comparison.is_same

    def __repr__(self) -> str:
        found = self.comparison
        said = [f"same model: {'yes' if found.is_same else 'no'}"]
        if found.is_same:
            said.append(f"  {found.n_files} files are equal, bit for bit")
        else:
            said.append(f"  first difference: {found.difference}")
        if found.not_compared:
            said.append(f"  not compared: {', '.join(found.not_compared)}")
        return "\n".join([*said, *(f"  changed since: {each}" for each in self.changed)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """A folder that was, or would be, removed, and the bytes it took of the disk."""

    what: str
    folder: Path
    n_bytes: int


def job_facts(workspace: Workspace, job_id: str) -> dict[str, Any]:
    """Return all that is on record of a job, as JSON types.

    Raises
    ------
    NotFoundError
        If there is no such job.
    """
    job = workspace.compute.get(job_id)
    try:
        origin = msgspec.to_builtins(workspace.compute.origin(job_id))
    except NotFoundError:
        origin = {}
    return {
        "id": job.id,
        "key": job.key,
        "name": job.name,
        "kind": job.kind,
        "state": job.state.value,
        "reason": _reason(job),
        "waits_for": job.waits_for,
        "attempt": job.attempt,
        "retried": job.retried,
        "retries": job.retries,
        "exit_code": job.exit_code,
        "submitted_at": job.submitted_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "resources": msgspec.to_builtins(job.resources),
        "memory_held_by": MEMORY_HELD_BY,
        "time_limit_s": job.time_limit_s,
        "limits": msgspec.to_builtins(job.limits),
        "gpu_ids": list(job.gpu_ids),
        "peak_memory_mib": job.peak_memory_mib,
        "cpu_s": job.cpu_s,
        "log_left_out_bytes": job.log_left_out_bytes,
        "labels": dict(job.labels),
        "host": job.host,
        "folder": str(job.folder),
        "files_kept": job.folder.is_dir(),
        "checkpoints": str(job.checkpoints) if job.checkpoints else None,
        "rerun_of": job.rerun_of or None,
        **{name: value for name, value in origin.items() if name != "format"},
    }


def _reason(job: Job) -> str:
    """Return why a job did not succeed, and what its supervisor says of it with the end of its log."""
    known = cause(job)
    return known if known == job.reason else f"{known}\n{job.reason}"


def rerun(
    workspace: Workspace,
    job_id: str,
    *,
    environment: Mapping[str, str] = os.environ,
    on_change: Callable[[Job], None] | None = None,
) -> Rerun:
    """Run a job once more from its record, wait for it, and compare what came out.

    Parameters
    ----------
    environment
        Where values are found that were not kept, since they looked secret.

    Raises
    ------
    BackendError
        If the second run failed.
    InvalidInputError
        If what it was given has changed; see `rerun_spec`.
    """
    compute = workspace.compute
    first, before = compute.get(job_id), compute.origin(job_id)
    if "workers" in first.labels:
        second = rerun_in_parallel(compute, first, environment=environment, on_change=on_change)
    else:
        spec = rerun_spec(compute, job_id, environment=environment)
        if AUTO_FILE in spec.files:
            # how far a search comes depends on the time; what it ended with is done again
            spec = replaying(spec, first)
        second = compute.wait([compute.submit(spec).id], on_change=on_change)[0]
    if second.state is not JobState.SUCCEEDED:
        raise BackendError(
            f"The second run of {first.name!r} is {second.state.value}. {second.reason}",
            hint=f"`loopwright logs {second.id}` shows its log.",
            job=second.id,
        )
    return Rerun(
        first=first,
        second=second,
        comparison=compared(first, second, varying=before.varying),
        changed=tuple(differences(before, compute.origin(second.id))),
    )


def clean(
    workspace: Workspace,
    *,
    older_than: timedelta,
    most_bytes: int | None = None,
    with_results: bool = False,
    dry_run: bool = False,
) -> list[Removed]:
    """Remove the folders of old jobs, and environments and downloads unused for as long.

    Nothing is removed that a live record needs: jobs that have not ended, those of loops whose
    round is under way, and, unless `with_results`, scripts that succeeded, whose model lies in
    their folder and nowhere else. The records of all jobs stay.

    Parameters
    ----------
    older_than, most_bytes
        See `removable`; the size is that of the jobs' folders together.
    dry_run
        Only tell what would be removed.
    """
    jobs = [job for job in workspace.compute.list_() if job.folder.is_dir()]
    sizes = {job.id: folder_bytes(str(job.folder)) for job in jobs}
    chosen = removable(
        jobs,
        needed=_needed(workspace, jobs, with_results=with_results),
        sizes=sizes,
        now=workspace.clock.now(),
        older_than=older_than,
        most_bytes=most_bytes,
    )
    if not dry_run:
        # what they told is kept as long as their records
        list_entries(workspace.metadata, workspace.compute, jobs=chosen)
    removed = []
    for job in chosen:
        freed = sizes[job.id] if dry_run else workspace.compute.delete_files(job.id)
        removed.append(Removed(what=f"job {job.name}", folder=job.folder, n_bytes=freed))
    if all(job.state.has_ended for job in jobs):
        removed += _unused(workspace, older_than=older_than, dry_run=dry_run)
    return removed


def _needed(workspace: Workspace, jobs: list[Job], *, with_results: bool) -> set[str]:
    rounds = workspace.metadata.list_("round", limit=MOST_ROWS)
    busy = {
        record.key.rpartition("/")[0]
        for record in rounds
        if record.body["state"] not in _ENDED_ROUNDS
    }
    return {
        job.id
        for job in jobs
        if job.labels.get("loop") in busy
        or (job.kind == SCRIPT and job.state is JobState.SUCCEEDED and not with_results)
    }


def _unused(workspace: Workspace, *, older_than: timedelta, dry_run: bool) -> Iterator[Removed]:
    """Remove what can be made or fetched again and was not touched for long."""
    latest = (workspace.clock.now() - older_than).timestamp()
    for kind in ("environments", "cache"):
        parent = workspace.home / kind
        for path in sorted(parent.iterdir()) if parent.is_dir() else []:
            status = path.lstat()
            if max(status.st_atime, status.st_mtime) > latest:
                continue
            is_folder = path.is_dir() and not path.is_symlink()
            size = folder_bytes(str(path)) if is_folder else status.st_blocks * 512
            if not dry_run:
                if is_folder:
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
            yield Removed(what=kind, folder=path, n_bytes=size)
