"""Runs each job at once, while its submitter waits: for tests and for looking into a failure."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from loopwright.compute.job import Job, JobSpec, JobState
from loopwright.compute.ledger import queued_job
from loopwright.compute.resource import Capacity, machine_capacity, refuse_impossible
from loopwright.compute.workspace import (
    create_folder,
    job_environment,
    read_log,
    with_last_lines,
)
from loopwright.core.clock import Clock
from loopwright.core.errors import InvalidInputError, NotFoundError
from loopwright.core.names import did_you_mean, new_id
