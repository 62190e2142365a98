"""The session of a person at a notebook or a script: one object per loop, one verb per wish."""

from loopwright.notebook.display import Page, RunResult, Status
from loopwright.notebook.home import existing_workspace
from loopwright.notebook.row import as_rows, read_table
from loopwright.notebook.session import Loop, init, loops, page_of, run, status

__all__ = [
    "Loop",
    "Page",
    "RunResult",
    "Status",
    "as_rows",
    "existing_workspace",
    "init",
    "loops",
    "page_of",
    "read_table",
    "run",
    "status",
]
