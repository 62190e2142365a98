"""Runs jobs in processes of their own: a specification goes in, a watched and remembered job comes out."""

from loopwright.compute.backend import Compute
from loopwright.compute.inline import InlineCompute
from loopwright.compute.job import Job, JobSpec, JobState
from loopwright.compute.limits import Limits
from loopwright.compute.local import LocalCompute
from loopwright.compute.origin import Origin
from loopwright.compute.rerun import Comparison, compared, rerun_spec
from loopwright.compute.resource import Capacity, Resources, machine_capacity

__all__ = [
    "Capacity",
    "Comparison",
    "Compute",
    "InlineCompute",
    "Job",
    "JobSpec",
    "JobState",
    "Limits",
    "LocalCompute",
    "Origin",
    "Resources",
    "compared",
    "machine_capacity",
    "rerun_spec",
]
