"""A compute backend that tells someone when jobs were submitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from loopwright.compute.backend import Compute
from loopwright.compute.job import Job, JobSpec
from loopwright.compute.origin import Origin
from loopwright.compute.resource import Capacity


class AnnouncedCompute:
    """Does what another backend does, and calls a function after every job that was submitted.

    Parameters
    ----------
    inner
        The backend.
    tell
        Called after each submission; must not raise nor take long.
    """

    def __init__(self, inner: Compute, tell: Callable[[], None]) -> None:
        self.inner = inner
        self._tell = tell

    def capacity(self) -> Capacity:
        """See `Compute.capacity`."""
        return self.inner.capacity()

    def submit(self, spec: JobSpec) -> Job:
        """See `Compute.submit`."""
        job = self.inner.submit(spec)
        self._tell()
        return job

    def get(self, job_id: str) -> Job:
        """See `Compute.get`."""
        return self.inner.get(job_id)

    def find(self, key: str) -> Job | None:
        """See `Compute.find`."""
        return self.inner.find(key)

    def list_(
        self, *, kind: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Job]:
        """See `Compute.list_`."""
        return self.inner.list_(kind=kind, labels=labels)

    def wait(
        self,
        job_ids: Sequence[str],
        *,
        on_change: Callable[[Job], None] | None = None,
        poll_s: float = 0.2,
    ) -> list[Job]:
        """See `Compute.wait`."""
        return self.inner.wait(job_ids, on_change=on_change, poll_s=poll_s)

    def stop(self, job_id: str, *, grace_s: float = 10.0) -> Job:
        """See `Compute.stop`."""
        return self.inner.stop(job_id, grace_s=grace_s)

    def log(self, job_id: str, *, tail_bytes: int | None = None) -> str:
        """See `Compute.log`."""
        return self.inner.log(job_id, tail_bytes=tail_bytes)

    def origin(self, job_id: str) -> Origin:
        """See `Compute.origin`."""
        return self.inner.origin(job_id)

    def delete_files(self, job_id: str) -> int:
        """See `Compute.delete_files`."""
        return self.inner.delete_files(job_id)
