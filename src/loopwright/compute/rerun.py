"""Running a job again from its record, and telling whether the same came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loopwright.compute.backend import Compute
from loopwright.compute.job import Job, JobSpec, JobState
from loopwright.compute.origin import REDACTED
from loopwright.core.digest import digest_file
from loopwright.core.errors import InvalidInputError, NotFoundError, WrongStateError
from loopwright.core.names import new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Whether two runs of the same work gave the same files.

    Parameters
    ----------
    is_same
        Whether every file that was compared is equal, bit for bit.
    n_files
        How many were compared.
    difference
        The first difference, in words; empty if there is none.
    not_compared
        Files that may vary, such as those that tell times.
    """

    is_same: bool
    n_files: int
    difference: str
    not_compared: tuple[str, ...] = ()


def rerun_spec(compute: Compute, job_id: str, *, environment: Mapping[str, str]) -> JobSpec:
    """Return the specification of a job once more, under a key of its own.

    Parameters
    ----------
    environment
        Where the values that were not kept, since they looked secret, are found by their names.

    Raises
    ------
    NotFoundError
        If the job, or what it was given, is not there any more.
    InvalidInputError
        If a file is not what it was, or a value that was not kept is not in `environment`.
    WrongStateError
        If it did not succeed: there is nothing to compare with.
    """
    job = compute.get(job_id)
    if job.state is not JobState.SUCCEEDED:
        raise WrongStateError(
            f"The job {job.id} ({job.name}) is {job.state.value}; only one that succeeded can be "
            "compared with its repetition.",
            hint="Submit it again instead.",
            job=job.id,
        )
    if not job.out.is_dir():
        raise NotFoundError(
            f"What the job {job.id} ({job.name}) left is not there any more, so nothing can be "
            "compared with it.",
            hint="Its folder was cleaned up; submit it anew.",
            job=job.id,
        )
    origin = compute.origin(job_id)
    return JobSpec(
        key=f"{job.key}/rerun/{new_id()}",
        name=job.name,
        kind=job.kind,
        command=origin.command,
        files={name: _file(job, name, digest) for name, digest in origin.files.items()},
        env={name: _value(name, value, environment) for name, value in origin.env.items()},
        resources=job.resources,
        time_limit_s=job.time_limit_s,
        counted=job.counted,
        labels=job.labels,
        limits=job.limits,
        retries=job.retries,
        # a checkpoint folder of its own, so that it does not go on from where the first one ended
        checkpoint=origin.checkpoint,
        seed=origin.seed,
        varying=origin.varying,
        rerun_of=job.id,
    )


def _file(job: Job, name: str, digest: str) -> Path:
    path = job.folder / name
    if not path.is_file():
        raise NotFoundError(
            f"The file {name} that the job {job.id} was given is not there any more.",
            hint="Its folder was cleaned up; train again from the source.",
            job=job.id,
            file=name,
        )
    found = digest_file(path)
    if found != digest:
        raise InvalidInputError(
            f"The file {name} of the job {job.id} is not what it was: {digest} then, {found} now.",
            hint="The job, or someone else, has changed it; it cannot be repeated.",
            field=name,
            value=found,
        )
    return path


def _value(name: str, value: str, environment: Mapping[str, str]) -> str:
    if value != REDACTED:
        return value
    if name not in environment:
        raise InvalidInputError(
            f"The value of {name} was not kept, since it looks like a secret.",
            hint=f"Set it in the environment and try again: export {name}=...",
            field=name,
            value=None,
        )
    return environment[name]


def compared(first: Job, second: Job, *, varying: tuple[str, ...]) -> Comparison:
    """Return whether two jobs left the same in `out/`, except for files that may vary."""
    before, now = _outputs(first.out), _outputs(second.out)
    names = sorted({*before, *now})
    chosen = [name for name in names if name not in varying]
    difference = next((said for name in chosen if (said := _difference(name, before, now))), "")
    return Comparison(
        is_same=not difference,
        n_files=len(chosen),
        difference=difference,
        not_compared=tuple(name for name in names if name in varying),
    )


def _outputs(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    return {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}


def _difference(name: str, before: Mapping[str, Path], now: Mapping[str, Path]) -> str:
    if name not in now:
        return f"{name} is missing from the second run"
    if name not in before:
        return f"{name} is in the second run only"
    sizes = before[name].stat().st_size, now[name].stat().st_size
    if sizes[0] != sizes[1]:
        return f"{name} has {sizes[0]:,} bytes in the first run and {sizes[1]:,} in the second"
    at = _first_unequal(before[name], now[name])
    return "" if at is None else f"{name} differs from byte {at:,} of {sizes[0]:,} on"


def _first_unequal(first: Path, second: Path) -> int | None:
    at = 0
    with first.open("rb") as one, second.open("rb") as other:
        while piece := one.read(1 << 20):
            beside = other.read(1 << 20)
            if piece != beside:
                unequal = (
                    n
                    for n, pair in enumerate(zip(piece, beside, strict=False))
                    if pair[0] != pair[1]
                )
                return at + next(unequal, min(len(piece), len(beside)))
            at += len(piece)
    return None
