"""The command line: the nouns and verbs of the Python API, for a terminal."""

from loopwright.cli import alarms as alarms  # their commands join the group of main
from loopwright.cli import approval as approval
from loopwright.cli import data as data
from loopwright.cli import deploy as deploy
from loopwright.cli import env as env
from loopwright.cli import experiments as experiments
from loopwright.cli import feedback as feedback
from loopwright.cli import init as init
from loopwright.cli import jobs as jobs
from loopwright.cli import keys as keys
from loopwright.cli import labels as labels
from loopwright.cli import mlflow as mlflow
from loopwright.cli import report as report
from loopwright.cli import rollout as rollout
from loopwright.cli import sagemaker as sagemaker
from loopwright.cli import server as server
from loopwright.cli import train as train
from loopwright.cli import transform as transform
from loopwright.cli import tune as tune
from loopwright.cli.main import main

__all__ = ["main"]
