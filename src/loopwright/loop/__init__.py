"""A loop file and a workspace come in; a model behind an endpoint that is watched comes out."""

from loopwright.loop.cycle import Outcome, look_at_loop, run_loop
from loopwright.loop.feedback_history import LoopDecision, LoopHistory, loop_history
from loopwright.loop.feedback_state import LoopState
from loopwright.loop.file import LoopFile, ReadFile, parse_loop_file, read_loop_file
from loopwright.loop.lineage import (
    Refreshed,
    accept_snapshot,
    find_snapshot,
    list_snapshots,
    refresh_rows,
)
from loopwright.loop.page import last_decision, loop_page
from loopwright.loop.retrain_plan import RetrainPlan
from loopwright.loop.schedule import Store, next_refresh, refresh_due_rows, watch_rows
from loopwright.loop.status import LoopStatus, list_loops, loop_status
from loopwright.loop.step import StepNews
from loopwright.loop.trigger import Policy, Seen, triaged
from loopwright.loop.workspace import Workspace

__all__ = [
    "LoopDecision",
    "LoopFile",
    "LoopHistory",
    "LoopState",
    "LoopStatus",
    "Outcome",
    "Policy",
    "ReadFile",
    "Refreshed",
    "RetrainPlan",
    "Seen",
    "StepNews",
    "Store",
    "Workspace",
    "accept_snapshot",
    "find_snapshot",
    "last_decision",
    "list_loops",
    "list_snapshots",
    "look_at_loop",
    "loop_history",
    "loop_page",
    "loop_status",
    "next_refresh",
    "parse_loop_file",
    "read_loop_file",
    "refresh_due_rows",
    "refresh_rows",
    "run_loop",
    "triaged",
    "watch_rows",
]
