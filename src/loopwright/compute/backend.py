"""The protocol of a compute backend: runs jobs somewhere, watches them, remembers every state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from loopwright.compute.job import Job, JobSpec
from loopwright.compute.origin import Origin
from loopwright.compute.resource import Capacity


class Compute(Protocol):
    """Runs jobs, each in processes of its own, and loses none.

    Any thread of any process may call any method on the same home. A job lives on when the process
    that submitted it dies, and is found again by the next one. What a job used is cleaned up when
    it ends: no process of it stays behind. Queued jobs start in the order of submission when there
    is room, through whoever calls a method; a later one starts first only with what the earlier
    ones cannot use. Limits hold for the whole process tree. A job that was lost through no fault
    of its own is tried again as often as it declares, under the same id.
    """

    def capacity(self) -> Capacity:
        """Return what there is for one job, and on a cluster the nodes as well.

        Raises
        ------
        BackendError
            If the cluster cannot be reached.
        """
        ...

    def submit(self, spec: JobSpec) -> Job:
        """Start a job, or queue it until there is room, and return it at once.

        A live job with the same key is returned as it is, and so is a succeeded one whose results
        are still there; after any other, a new attempt starts.

        Raises
        ------
        InvalidInputError
            If the machine can never give what it asks for, or a file to copy cannot be read.
            Nothing was changed.
        """
        ...

    def get(self, job_id: str) -> Job:
        """Return a job as it stands now, a queued one with what it waits for.

        Raises
        ------
        NotFoundError
            If there is none.
        """
        ...

    def find(self, key: str) -> Job | None:
        """Return the latest attempt at a key, or None if there was none."""
        ...

    def list_(
        self, *, kind: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Job]:
        """Return the jobs of a kind that carry all of `labels`, the first submitted first."""
        ...

    def wait(
        self,
        job_ids: Sequence[str],
        *,
        on_change: Callable[[Job], None] | None = None,
        poll_s: float = 0.2,
    ) -> list[Job]:
        """Return the jobs, in the order asked for, once all have ended.

        `on_change` is called with each job as first seen and whenever its state has changed; an
        end is noticed within some 10 ms, other changes within `poll_s` seconds. An interrupt ends
        the waiting, not the jobs.
        """
        ...

    def stop(self, job_id: str, *, grace_s: float = 10.0) -> Job:
        """End a job and return it once it has ended; nothing happens to one that has.

        Its processes get SIGTERM, and after `grace_s` seconds SIGKILL.
        """
        ...

    def log(self, job_id: str, *, tail_bytes: int | None = None) -> str:
        """Return what the job has printed so far, or the last `tail_bytes` of it."""
        ...

    def origin(self, job_id: str) -> Origin:
        """Return what a job was made of; `NotFoundError` if there is no job, or no record of it."""
        ...

    def delete_files(self, job_id: str) -> int:
        """Remove the folder of a job that has ended, and return how many bytes came free.

        Its record stays. Checkpoints stay as well while a job of the same key is live.

        Raises
        ------
        WrongStateError
            If it has not ended.
        """
        ...
