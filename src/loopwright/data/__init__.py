"""Where rows come from: a source in a loop file goes in, a frozen, typed, split snapshot comes out."""

from loopwright.data.contract import (
    ColumnContract,
    Contract,
    Tolerances,
    extended,
    infer_contract,
)
from loopwright.data.conversion import Conversion, check_convertible, convert
from loopwright.data.difference import ColumnShift, Difference, difference
from loopwright.data.export import ExportFormat, export_rows
from loopwright.data.increment import Increment, check_cursor, cursor_end, take_increment
from loopwright.data.plan import DataPlan, Refresh, check_plan
from loopwright.data.snapshot import Column, Snapshot, scan, take_snapshot
from loopwright.data.source import (
    FileSource,
    PluginSource,
    RedisSource,
    Source,
    SourceSpec,
    SqlSource,
    open_source,
)
from loopwright.data.split import PARTS, Split, SplitLeak, assign_parts, check_split, split_leaks
from loopwright.data.violation import Violation, contract_violations

__all__ = [
    "PARTS",
    "Column",
    "ColumnContract",
    "ColumnShift",
    "Contract",
    "Conversion",
    "DataPlan",
    "Difference",
    "ExportFormat",
    "FileSource",
    "Increment",
    "PluginSource",
    "RedisSource",
    "Refresh",
    "Snapshot",
    "Source",
    "SourceSpec",
    "Split",
    "SplitLeak",
    "SqlSource",
    "Tolerances",
    "Violation",
    "assign_parts",
    "check_convertible",
    "check_cursor",
    "check_plan",
    "check_split",
    "contract_violations",
    "convert",
    "cursor_end",
    "difference",
    "export_rows",
    "extended",
    "infer_contract",
    "open_source",
    "scan",
    "split_leaks",
    "take_increment",
    "take_snapshot",
]
