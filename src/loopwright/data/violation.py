"""How later rows break the contract with the first ones: every way, with its figures, in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.data.contract import ColumnContract, Contract, Tolerances, n_unique, type_named
from loopwright.data.plan import ContractPlan

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SHOWN = 3
_LENGTH = 60

Show = Callable[[str, str], str]
"""Gives what may be shown of a value, from the name of its column and its text."""


def _all_of_it(_: str, value: str) -> str:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One way in which rows break a contract.

    Parameters
    ----------
    column
        The column; None for the table as a whole.
    kind
        `column gone`, `type changed`, `nulls`, `unseen categories`, `out of range`,
        `duplicate keys` or `row count`.
    message
        One sentence with the figures.
    share
        Share of the rows concerned, 0 to 1; None where it makes no sense.
    """

    column: str | None
    kind: str
    message: str
    share: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the violation as JSON types."""
        return asdict(self)


def contract_violations(
    contract: Contract,
    rows: pl.LazyFrame,
    *,
    fresh: pl.LazyFrame | None = None,
    n_before: int | None = None,
    show: Show = _all_of_it,
) -> tuple[Violation, ...]:
    """Return every way in which rows break a contract, the table's first; empty when none does.

    Parameters
    ----------
    contract
        What is expected.
    rows
        All rows of the new snapshot, typed.
    fresh
        The rows that are new in it: shares are taken of these, so that many old rows do not hide a
        few bad new ones; all of `rows` when absent.
    n_before
        How many rows the snapshot before had; that of the contract when absent. Not looked at for
        an increment.
    show
        Called for every value that stands in a sentence, as an example of what is wrong.
    """
    limits = contract.tolerances
    schema = dict(rows.collect_schema())
    looked = rows if fresh is None else fresh
    known = [column for column in contract.columns if column.name in schema]
    n_rows = int(rows.select(pl.len()).collect().item())
    facts = _checked(looked, schema, known)
    found = [] if fresh is not None else _row_count(n_rows, n_before or contract.n_rows, limits)
    for column in contract.columns:
        if column.name not in schema:
            found.append(_said(column, "column gone", f"The column {column.name!r} is gone."))
        else:
            found += _of_column(column, schema[column.name], facts, looked, limits, show)
    retyped = {each.column for each in found if each.kind == "type changed"}
    for column in known:
        if column.is_key and column.name not in retyped:
            found += _duplicates(column, rows, n_rows - _n_null(rows, column.name), show)
    return tuple(found)


def planned(contract: Contract, plan: ContractPlan) -> Contract:
    """Return a contract with the tolerances that a loop file sets in place of its own.

    Raises
    ------
    InvalidInputError
        If the loop file names a column that the contract does not know.
    """
    names = [column.name for column in contract.columns]
    for field, asked in (("ignore", plan.ignore), ("allow", tuple(plan.allow))):
        for name in asked:
            if name not in names:
                raise InvalidInputError(
                    f"data.contract.{field} names {name!r}, which is no column.",
                    hint=did_you_mean(name, names),
                    field=f"data.contract.{field}",
                    value=name,
                )
    own = contract.tolerances
    tolerances = replace(
        own,
        null_share=own.null_share if plan.nulls is None else plan.nulls,
        unseen_share=own.unseen_share if plan.unseen is None else plan.unseen,
        out_of_range_share=own.out_of_range_share
        if plan.out_of_range is None
        else plan.out_of_range,
        row_count_share=own.row_count_share if plan.fewest_rows is None else plan.fewest_rows,
    )
    return replace(contract, tolerances=tolerances)


def not_allowed(violations: Iterable[Violation], plan: ContractPlan) -> tuple[Violation, ...]:
    """Return the violations that a loop file does not allow."""
    return tuple(
        each
        for each in violations
        if each.column is None
        or (each.column not in plan.ignore and each.kind not in plan.allow.get(each.column, ()))
    )


def _said(column: ColumnContract, kind: str, message: str, share: float | None = None) -> Violation:
    return Violation(column=column.name, kind=kind, message=message, share=share)


def _row_count(n_rows: int, n_before: int, limits: Tolerances) -> list[Violation]:
    if n_rows >= limits.row_count_share * n_before:
        return []
    message = f"There are {n_rows:,} rows where there were {n_before:,}."
    share = n_rows / n_before
    return [Violation(column=None, kind="row count", message=message, share=share)]


def _checked(
    rows: pl.LazyFrame, schema: Mapping[str, pl.DataType], columns: Sequence[ColumnContract]
) -> dict[str, Any]:
    """Return the counts that the checks of all columns need, in one streaming pass."""
    counts = [pl.len().alias("n")]
    for column in columns:
        cell = pl.col(column.name)
        counts.append(cell.null_count().alias(f"0:{column.name}"))
        if type_named(schema[column.name]) != column.type:
            continue
        if column.categories:
            unseen = ~cell.is_in(list(column.categories))
            counts.append(unseen.sum().alias(f"c:{column.name}"))
        if column.low is not None:
            outside = (cell < column.low) | (cell > column.high)
            counts += [
                outside.sum().alias(f"r:{column.name}"),
                cell.min().alias(f"<:{column.name}"),
                cell.max().alias(f">:{column.name}"),
            ]
    return rows.select(counts).collect(engine="streaming").row(0, named=True)


def _of_column(
    column: ColumnContract,
    dtype: pl.DataType,
    facts: Mapping[str, Any],
    rows: pl.LazyFrame,
    limits: Tolerances,
    show: Show,
) -> list[Violation]:
    name, n_rows = column.name, facts["n"]
    n_null = facts[f"0:{name}"]
    n_values = n_rows - n_null
    found = []
    if n_null and not column.nullable and n_null > limits.null_share * n_rows:
        share = n_null / n_rows
        message = f"{n_null:,} of {n_rows:,} values of {name!r} are missing; none was before."
        found.append(_said(column, "nulls", message, share))
    now = type_named(dtype)
    if now != column.type and column.type != "nothing" and n_values:
        example = rows.select(_telling(column, name)).collect().item()
        message = (
            f"The column {name!r} held {_plural(column.type)} and now holds {_plural(now)}, "
            f"such as {_example(show, name, example)}."
        )
        found.append(_said(column, "type changed", message))
    n_unseen = facts.get(f"c:{name}") or 0
    if n_unseen > limits.unseen_share * n_values:
        examples = _unseen(column, rows, show)
        message = (
            f"{n_unseen:,} of {n_values:,} values of {name!r} are none of its "
            f"{len(column.categories)} categories, such as {examples}."
        )
        found.append(_said(column, "unseen categories", message, n_unseen / n_values))
    n_outside = facts.get(f"r:{name}") or 0
    if n_outside > limits.out_of_range_share * n_values:
        least, greatest = (show(name, f"{facts[f'{end}:{name}']:,.6g}") for end in "<>")
        message = (
            f"{n_outside:,} of {n_values:,} values of {name!r} are outside {column.low:,.6g} to "
            f"{column.high:,.6g}; they go from {least} to {greatest}."
        )
        found.append(_said(column, "out of range", message, n_outside / n_values))
    return found


def _telling(column: ColumnContract, name: str) -> pl.Expr:
    """Return a value of another type, of text that holds numbers one that is none where there is any."""
    values = pl.col(name).drop_nulls()
    if column.type != "number":
        return values.first()
    odd = values.filter(values.cast(pl.String).cast(pl.Float64, strict=False).is_null())
    return pl.coalesce(odd.first(), values.first())


def _plural(type_: str) -> str:
    return type_ if type_ in ("text", "nothing") else f"{type_}s"


def _example(show: Show, name: str, value: object) -> str:
    return repr(show(name, str(value))[:_LENGTH])


def _unseen(column: ColumnContract, rows: pl.LazyFrame, show: Show) -> str:
    cell = pl.col(column.name)
    unseen = rows.select(cell).filter(~cell.is_in(list(column.categories)))
    examples = unseen.select(cell.unique(maintain_order=True).head(_SHOWN)).collect().to_series()
    return ", ".join(_example(show, column.name, text) for text in examples)


def _n_null(rows: pl.LazyFrame, name: str) -> int:
    return int(rows.select(pl.col(name).null_count()).collect(engine="streaming").item())


def _duplicates(
    column: ColumnContract, rows: pl.LazyFrame, n_values: int, show: Show
) -> list[Violation]:
    cell = pl.col(column.name)
    present = rows.select(cell).filter(cell.is_not_null())
    n_repeated = n_values - n_unique(present, column.name)
    if not n_repeated:
        return []
    twice = present.group_by(cell).len().filter(pl.col("len") > 1).select(cell.min())
    example = twice.collect(engine="streaming").item()
    message = (
        f"{n_repeated:,} of {n_values:,} rows repeat a value of the key {column.name!r}, "
        f"such as {_example(show, column.name, example)}."
    )
    return [_said(column, "duplicate keys", message, n_repeated / n_values)]
