"""Where rows come from: a source in a loop file goes in, a frozen, typed, split snapshot comes out."""

from loopwright.data.conversion import Conversion, check_convertible, convert
from loopwright.data.plan import DataPlan, Refresh, check_plan
from loopwright.data.snapshot import Column, Snapshot, scan, take_snapshot
from loopwright.data.source import FileSource, Source, SourceSpec, SqlSource, open_source
from loopwright.data.split import PARTS, Split, SplitLeak, assign_parts, check_split, split_leaks

__all__ = [
    "PARTS",
    "Column",
    "Conversion",
    "DataPlan",
    "FileSource",
    "Refresh",
    "Snapshot",
    "Source",
    "SourceSpec",
    "Split",
    "SplitLeak",
    "SqlSource",
    "assign_parts",
    "check_convertible",
    "check_plan",
    "check_split",
    "convert",
    "open_source",
    "scan",
    "split_leaks",
    "take_snapshot",
]
