"""The command line: the nouns and verbs of the Python API, for a terminal."""

from loopwright.cli import data as data  # its commands join the group of main
from loopwright.cli.main import main

__all__ = ["main"]
