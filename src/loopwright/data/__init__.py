"""Where rows come from: a source in a loop file goes in, a frozen, typed, split snapshot comes out."""

from typing import TYPE_CHECKING

from loopwright.core.lazy import lazy_exports
from loopwright.data.difference import ColumnShift, Difference, difference

if TYPE_CHECKING:
    from loopwright.data.contract import (
        ColumnContract,
        Contract,
        Tolerances,
        extended,
        infer_contract,
    )
    from loopwright.data.conversion import Conversion, check_convertible, convert, trimmed
    from loopwright.data.export import ExportFormat, export_rows
    from loopwright.data.image import holds_images, open_image
    from loopwright.data.increment import (
        Increment,
        check_cursor,
        check_key,
        cursor_end,
        take_increment,
    )
    from loopwright.data.leak import (
        SplitLeak,
        SplitRemark,
        naming_columns,
        split_leaks,
        split_remarks,
    )
    from loopwright.data.plan import ContractPlan, DataPlan, Refresh, check_plan
    from loopwright.data.resumable import sorted_by
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
    from loopwright.data.spec import DynamoDbSource, ImageSource, MongoDbSource
    from loopwright.data.split import PARTS, Split, assign_parts, check_split
    from loopwright.data.violation import Violation, contract_violations, not_allowed, planned
else:
    # a serving process needs few of them
    __getattr__ = lazy_exports(
        __name__,
        {
            "contract": "ColumnContract Contract Tolerances extended infer_contract",
            "conversion": "Conversion check_convertible convert trimmed",
            "export": "ExportFormat export_rows",
            "image": "holds_images open_image",
            "increment": "Increment check_cursor check_key cursor_end take_increment",
            "leak": "SplitLeak SplitRemark naming_columns split_leaks split_remarks",
            "plan": "ContractPlan DataPlan Refresh check_plan",
            "resumable": "sorted_by",
            "snapshot": "Column Snapshot scan take_snapshot",
            "source": "FileSource PluginSource RedisSource Source SourceSpec SqlSource open_source",
            "spec": "DynamoDbSource ImageSource MongoDbSource",
            "split": "PARTS Split assign_parts check_split",
            "violation": "Violation contract_violations not_allowed planned",
        },
    )

__all__ = [
    "PARTS",
    "Column",
    "ColumnContract",
    "ColumnShift",
    "Contract",
    "ContractPlan",
    "Conversion",
    "DataPlan",
    "Difference",
    "DynamoDbSource",
    "ExportFormat",
    "FileSource",
    "ImageSource",
    "Increment",
    "MongoDbSource",
    "PluginSource",
    "RedisSource",
    "Refresh",
    "Snapshot",
    "Source",
    "SourceSpec",
    "Split",
    "SplitLeak",
    "SplitRemark",
    "SqlSource",
    "Tolerances",
    "Violation",
    "assign_parts",
    "check_convertible",
    "check_cursor",
    "check_key",
    "check_plan",
    "check_split",
    "contract_violations",
    "convert",
    "cursor_end",
    "difference",
    "export_rows",
    "extended",
    "holds_images",
    "infer_contract",
    "naming_columns",
    "not_allowed",
    "open_image",
    "open_source",
    "planned",
    "scan",
    "sorted_by",
    "split_leaks",
    "split_remarks",
    "take_increment",
    "take_snapshot",
    "trimmed",
]
