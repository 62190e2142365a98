"""The session of a person at a notebook or a script: one object per loop, one verb per wish."""

from loopwright.notebook.comparison import (
    ComparedJobs,
    OwnExperiment,
    compare,
    experiment,
    experiments,
    open_model,
)
from loopwright.notebook.deploying import DeployedEndpoint, deploy
from loopwright.notebook.display import Page, RunResult, Status
from loopwright.notebook.home import existing_workspace
from loopwright.notebook.reproduction import Reproduction, reproduce
from loopwright.notebook.row import as_rows, read_table
from loopwright.notebook.session import Loop, init, loops, page_of, run, status
from loopwright.notebook.training import job, jobs, train
from loopwright.notebook.training_job import TrainingJob
from loopwright.notebook.transforming import transform
from loopwright.notebook.tuning import TuningResult, tune

__all__ = [
    "ComparedJobs",
    "DeployedEndpoint",
    "Loop",
    "OwnExperiment",
    "Page",
    "Reproduction",
    "RunResult",
    "Status",
    "TrainingJob",
    "TuningResult",
    "as_rows",
    "compare",
    "deploy",
    "existing_workspace",
    "experiment",
    "experiments",
    "init",
    "job",
    "jobs",
    "loops",
    "open_model",
    "page_of",
    "read_table",
    "reproduce",
    "run",
    "status",
    "train",
    "transform",
    "tune",
]
