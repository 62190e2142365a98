"""Runs jobs in processes of their own: a specification goes in, a watched and remembered job comes out."""

from loopwright.compute.backend import Compute
from loopwright.compute.inline import InlineCompute
from loopwright.compute.job import Job, JobSpec, JobState
from loopwright.compute.local import LocalCompute
from loopwright.compute.resource import Capacity, Resources, machine_capacity

__all__ = [
    "Capacity",
    "Compute",
    "InlineCompute",
    "Job",
    "JobSpec",
    "JobState",
    "LocalCompute",
    "Resources",
    "machine_capacity",
]
