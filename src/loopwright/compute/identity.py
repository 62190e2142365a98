"""A job as a person types it: its identifier, or as much of it as tells it from all others."""

from __future__ import annotations

from loopwright.compute.backend import Compute
from loopwright.core.errors import InvalidInputError

_WHOLE = 32
_LEAST = 4
_N_SHOWN = 8


def job_id_of(compute: Compute, typed: str) -> str:
    """Return the identifier of the one job that is called so, or whose own begins or ends so.

    Tables show whole identifiers, and messages the last six characters. Of several jobs of one name
    the one that has not ended is meant. What belongs to no job is returned as it is, for whoever
    looks for it to say so.

    Raises
    ------
    InvalidInputError
        If it belongs to several, with those.
    """
    jobs = compute.list_()
    if any(job.id == typed for job in jobs):
        return typed
    called = [job for job in jobs if job.name == typed]
    found = [job for job in called if not job.state.has_ended] or called
    if not found and _LEAST <= len(typed) < _WHOLE:
        start = typed.lower()
        found = [job for job in jobs if job.id.startswith(start) or job.id.endswith(start)]
    if len(found) <= 1:
        return found[0].id if found else typed
    shown = ", ".join(f"{job.id} ({job.name}, {job.state.value})" for job in found[-_N_SHOWN:])
    raise InvalidInputError(
        f"{typed!r} may be any of {len(found)} jobs.",
        hint=f"Write more of it: {'..., ' if len(found) > _N_SHOWN else ''}{shown}.",
        field="job",
        value=typed,
    )
