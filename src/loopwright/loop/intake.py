"""Taking rows in: in full or beyond the cursor, and held against what was agreed on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.data import (
    ColumnContract,
    Contract,
    ContractPlan,
    Snapshot,
    Source,
    Violation,
    check_cursor,
    check_key,
    contract_violations,
    cursor_end,
    extended,
    infer_contract,
    not_allowed,
    planned,
    scan,
    sorted_by,
    take_increment,
    take_snapshot,
)
from loopwright.explore import masked_value, personal_data

if TYPE_CHECKING:
    import polars as pl

    from loopwright.core.clock import Clock
    from loopwright.store import ArtifactStore
else:
    pl = LazyModule("polars")

_JUDGED_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What a new extraction goes on from: the last good snapshot and where its rows are kept.

    `contract` is None in a store of an earlier release; it is then inferred from the rows.
    """

    snapshot: Snapshot
    artifacts: ArtifactStore
    contract: Contract | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Rows that were taken in.

    Parameters
    ----------
    snapshot
        All rows; the snapshot before where nothing is new.
    kind
        `full` or `increment`.
    n_new
        How many rows an increment added; None for a full extraction that follows another.
    start, end
        The greatest value of the cursor before and after; None without a cursor.
    remark
        Why the rows were read in full although there is a cursor; empty otherwise.
    violations
        How the rows break the contract.
    contract
        What is expected from now on, if these rows are taken.
    n_replaced
        How many older rows the new ones took the place of, by their key.
    """

    snapshot: Snapshot
    kind: str
    n_new: int | None
    start: Any = None
    end: Any = None
    remark: str = ""
    violations: tuple[Violation, ...] = ()
    contract: Contract
    n_replaced: int = 0


def take_rows(
    source: Source,
    *,
    cursor: str | None,
    before: Before | None,
    artifacts: ArtifactStore,
    clock: Clock,
    folder: Path,
    full: bool,
    keep: Path | None = None,
    key: Sequence[str] = (),
    plan: ContractPlan | None = None,
) -> Intake:
    """Extract the rows of a source and check them.

    Parameters
    ----------
    source
        Where the rows come from.
    cursor
        The column that tells new rows from old ones, if any.
    before
        The last good snapshot of the same source, if there is one.
    artifacts
        Where a new snapshot goes, be it good or not.
    clock, folder
        See `loopwright.data.take_snapshot`.
    full
        Whether to read all rows although there is a cursor.
    keep
        Where what was read before a break of the connection waits for the next call.
    key
        Columns whose newer rows take the place of older ones; none without a cursor.
    plan
        What the loop file tolerates; the contract's own tolerances when absent.

    Raises
    ------
    InvalidInputError
        If the source is broken or the cursor cannot be used; also what opening it raises.
    BackendError
        If a database breaks off again and again, or the disk is full. No snapshot is kept then.
    """
    plan = plan or ContractPlan()
    source = sorted_by(source, cursor, key)
    remark = ""
    if before is not None and cursor is not None and not full:
        intake, remark = _increment(
            source, cursor, before, artifacts, clock, folder, keep, key, plan
        )
        if intake is not None:
            return intake
    snapshot = take_snapshot(source, artifacts=artifacts, clock=clock, folder=folder, keep=keep)
    rows = scan(snapshot, artifacts)
    contract = _contract(before)
    violations: tuple[Violation, ...] = ()
    if contract is not None and before is not None and before.snapshot.digest != snapshot.digest:
        found = contract_violations(
            planned(contract, plan),
            rows,
            n_before=before.snapshot.n_rows,
            show=_masks(before, rows),
        )
        violations = not_allowed(found, plan)
    start = None
    if cursor is not None and not violations:
        check_cursor(cursor, rows)
        check_key(key, rows)
    if cursor is not None and before is not None:
        start = _end(cursor, scan(before.snapshot, before.artifacts))
    agreed = contract or infer_contract(rows)
    if not violations:
        agreed = extended(agreed, rows)
        planned(agreed, plan)
    return Intake(
        snapshot=snapshot,
        kind="full",
        n_new=snapshot.n_rows if before is None else None,
        start=start,
        end=None if cursor is None else _end(cursor, rows),
        remark=remark,
        violations=violations,
        contract=agreed,
    )


def _increment(
    source: Source,
    cursor: str,
    before: Before,
    artifacts: ArtifactStore,
    clock: Clock,
    folder: Path,
    keep: Path | None,
    key: Sequence[str],
    plan: ContractPlan,
) -> tuple[Intake | None, str]:
    """Return the rows beyond the cursor, or None and why all rows have to be read."""
    old = scan(before.snapshot, before.artifacts)
    check_cursor(cursor, old)
    check_key(key, old)
    found = take_increment(
        source,
        base=before.snapshot,
        rows=old,
        cursor=cursor,
        artifacts=artifacts,
        clock=clock,
        folder=folder,
        keep=keep,
        key=key,
    )
    if found.snapshot is None:
        return None, found.misfit
    contract = _contract(before) or infer_contract(old)
    violations: tuple[Violation, ...] = ()
    if found.n_new:
        rows = scan(found.snapshot, artifacts)
        fresh = rows.slice(found.snapshot.n_rows - found.n_new)
        broken = contract_violations(
            planned(contract, plan),
            rows,
            fresh=fresh,
            show=_masks(before, rows),
        )
        violations = not_allowed(broken, plan)
    return Intake(
        snapshot=found.snapshot,
        kind="increment",
        n_new=found.n_new,
        start=found.start,
        end=found.end,
        violations=violations,
        contract=contract,
        n_replaced=found.n_replaced,
    ), ""


def _masks(before: Before, rows: pl.LazyFrame) -> Callable[[str, str], str]:
    """Return what may be shown of values: of personal data as little as on the pages."""
    found: dict[str, bool] = {}

    def shown(name: str, value: str) -> str:
        if name not in found:
            known = (rows, scan(before.snapshot, before.artifacts))
            found[name] = any(_is_personal(name, each) for each in known)
        return masked_value(value) if found[name] else value

    return shown


def _is_personal(name: str, rows: pl.LazyFrame) -> bool:
    if name not in rows.collect_schema():
        return False
    first = rows.select(name).head(_JUDGED_ROWS).collect().to_series()
    return personal_data(first) is not None


def shown_categories(column: ColumnContract) -> list[str]:
    """Return the categories that are expected of a column; of personal data as little as on pages."""
    texts = pl.Series(column.name, column.categories, dtype=pl.String)
    is_personal = bool(column.categories) and personal_data(texts) is not None
    return [masked_value(each) if is_personal else each for each in column.categories]


def _contract(before: Before | None) -> Contract | None:
    if before is None:
        return None
    return before.contract or infer_contract(scan(before.snapshot, before.artifacts))


def _end(cursor: str, rows: Any) -> Any:
    return cursor_end(cursor, rows) if cursor in rows.collect_schema() else None
