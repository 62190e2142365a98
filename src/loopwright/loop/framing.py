"""The first steps of a round: the problem, its rows, and what they look like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.data import Snapshot, assign_parts, naming_columns, split_leaks, split_remarks
from loopwright.explore import ColumnNote, profile, profile_page, profile_summary
from loopwright.loop.choosing import chosen_windows, without_judged
from loopwright.loop.file import LoopFile
from loopwright.loop.retrain_plan import Window
from loopwright.loop.sourcing import Sourced, Target, class_indices
from loopwright.loop.step import StepResult
from loopwright.loop.workspace import Workspace
from loopwright.problem import sealed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

PARTS = ("train", "validation", "test")
# of the fresh live rows, where those end that teach, and those that choose; the rest judge
_LIVE_SHARES = (0.5, 0.7)


def sealed_criteria(workspace: Workspace, loop: LoopFile) -> list[dict[str, Any]]:
    """Seal the criteria before anything is learnt and return all seals of the loop, oldest first.

    The same criteria are sealed once; any change, also back to earlier ones, is one more seal.
    """
    record = workspace.metadata.find("seal", loop.name)
    history: list[dict[str, Any]] = record.body["seals"] if record else []
    seal = sealed(loop.problem, name=workspace.user, at=workspace.clock.now())
    if not history or history[-1]["digest"] != seal.digest:
        history = [*history, msgspec.json.decode(msgspec.json.encode(seal))]
        workspace.metadata.put("seal", loop.name, {"seals": history})
    return history


def stated_problem(loop: LoopFile, target: Target, history: list[dict[str, Any]]) -> StepResult:
    """State what is to be solved; criteria that were changed show as moved goalposts."""
    moved = len(history) > 1
    wanted = "; ".join(str(criterion) for criterion in loop.problem.criteria) or "none stated"
    summary = f"{target.task} of {target.column!r}; criteria: {wanted}"
    today = loop.problem.today
    if today is not None and today.does:
        cost = "" if today.cost_per_case is None else f", {today.cost_per_case:g} per case"
        summary += f"; to beat: {today.does}{cost}"
    if moved:
        summary += f" (the goalposts were moved {len(history) - 1} time(s))"
    return StepResult(
        output={
            "task": target.task,
            "target": target.column,
            "classes": list(target.classes),
            "seal": history[-1],
            "seals": history,
            "today": msgspec.to_builtins(loop.problem.today),
        },
        summary=summary,
        reason=f"task {target.task}: {target.reason}",
    )


def parted_rows(
    workspace: Workspace, loop: LoopFile, sourced: Sourced, live: dict[str, Any] | None
) -> StepResult:
    """Split the rows into parts, each an artifact of its own.

    With live rows (a round that learns from what the endpoint saw) the newest live rows become
    validation and test, and training windows are made as `retrain.windows` says.
    """
    snapshot = Snapshot.from_json(sourced.snapshot)
    rows = pl.read_parquet(workspace.artifacts.local_path(snapshot.digest))
    n_unlabelled = rows[loop.problem.target].null_count()
    rows = rows.drop_nulls(loop.problem.target)
    parts = assign_parts(rows, loop.data.split, target=loop.problem.target)
    names = naming_columns(rows, target=loop.problem.target)
    leaks = split_leaks(rows, parts, without=names)
    # live rows that judge are the newest, whatever the split of the others
    remarks = (
        split_remarks(rows, parts, split=loop.data.split, target=loop.problem.target, leaks=leaks)
        if live is None
        else []
    )
    _check_classes(rows, parts, sourced.target)
    by_part = {name: rows.filter(parts == name) for name in PARTS}
    windows = {"all": by_part["train"]}
    if live is not None:
        windows, by_part = _with_live_rows(
            workspace, live, rows.schema, by_part, loop.retrain.windows
        )
    digests = {name: stored_part(workspace, by_part[name]) for name in ("validation", "test")}
    trained = {name: stored_part(workspace, frame) for name, frame in windows.items()}
    counts = {name: frame.height for name, frame in by_part.items()}
    counts["train"] = windows["all"].height
    summary = (
        f"{snapshot.n_rows:,} rows x {len(rows.columns)} columns from {snapshot.source}; "
        + " / ".join(f"{counts[name]:,} {name}" for name in PARTS)
    )
    if n_unlabelled:
        summary += f"; {n_unlabelled:,} rows without a target left out"
    return StepResult(
        output={
            "snapshot": sourced.snapshot,
            "windows": trained,
            **digests,
            "n_rows": counts,
            "n_unlabelled": n_unlabelled,
            "leaks": [msgspec.to_builtins(leak) for leak in leaks],
            "remarks": [msgspec.to_builtins(remark) for remark in remarks],
            "live": live,
        },
        summary=summary,
        reason="the newest live rows judge, older ones teach"
        if live
        else "; ".join(
            [
                f"split by {loop.data.split.by}, seed {loop.data.split.seed}",
                *(f"look out: {remark.text}" for remark in remarks),
            ]
        ),
        artifacts=(snapshot.digest, *digests.values(), *trained.values()),
    )


def _check_classes(rows: pl.DataFrame, parts: pl.Series, target: Target) -> None:
    """Refuse parts of a binary problem in which a class does not occur: nothing is judged there."""
    if len(target.classes) != 2:
        return
    for name in PARTS:
        found = rows.filter(parts == name)[target.column].n_unique()
        if found < 2:
            raise InvalidInputError(
                f"The {name} part has rows of one class only.",
                hint=f"Bring more rows of the rarer class ({' or '.join(target.classes)}), or give "
                f"data.split.{name} a larger share.",
                field=f"data.split.{name}",
                value=found,
            )


def _with_live_rows(
    workspace: Workspace,
    live: dict[str, Any],
    schema: pl.Schema,
    by_part: dict[str, pl.DataFrame],
    wanted: Sequence[Window],
) -> tuple[dict[str, pl.DataFrame], dict[str, pl.DataFrame]]:
    """Return training windows and parts: 50/20/30 of the fresh live rows in time order.

    No row is in two of them: what is judged by is later than what is learnt from, and cases that
    the source holds too are taken out of it. A winner learns from all of them in the end (see
    `refitting`), so that many may judge.
    """
    known, fresh = _live_rows(workspace, live, schema)
    n_train, n_judge = (int(fresh.height * share) for share in _LIVE_SHARES)
    recent, validation, test = fresh[:n_train], fresh[n_train:n_judge], fresh[n_judge:]
    old = without_judged(pl.concat([by_part["train"], known]), [validation, test])
    windows = chosen_windows(old, recent, wanted)
    return windows, {"train": recent, "validation": validation, "test": test}


def _live_rows(
    workspace: Workspace, live: dict[str, Any], schema: pl.Schema
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the live rows that were learnt from before, and the fresh ones, oldest first."""
    rows = pl.read_parquet(workspace.artifacts.local_path(live["digest"]))
    columns = list(schema.names())
    known = rows.filter(~pl.col("__fresh")).select(columns)
    return known, rows.filter(pl.col("__fresh")).select(columns)


def all_rows(
    workspace: Workspace, loop: LoopFile, parts: dict[str, Any], window: Window
) -> pl.DataFrame:
    """Return a choice of training rows made of all rows of a round, oldest first.

    Those that chose and judged its models are among them, and what the split of the source kept
    apart: they judge no model of this or a later round. Rows that a round may not learn from are
    not among its live rows in the first place.

    Parameters
    ----------
    parts
        Of a round that learns from live rows; see `parted_rows`.
    """
    snapshot = Snapshot.from_json(parts["snapshot"])
    rows = pl.read_parquet(workspace.artifacts.local_path(snapshot.digest))
    rows = rows.drop_nulls(loop.problem.target)
    named = assign_parts(rows, loop.data.split, target=loop.problem.target)
    known, fresh = _live_rows(workspace, parts["live"], rows.schema)
    source = [rows.filter(named == name) for name in PARTS]
    judged = [read_part(workspace, parts[name]) for name in ("validation", "test")]
    old = without_judged(pl.concat([*source, known]), judged)
    return chosen_windows(old, fresh, (window,))[window]


def stored_part(workspace: Workspace, frame: pl.DataFrame) -> str:
    """Keep some rows as an artifact and return its digest."""
    path = workspace.scratch_folder() / f"part-{id(frame)}.parquet"
    try:
        frame.write_parquet(path, compression="zstd")
        return workspace.artifacts.put_file(path)
    finally:
        path.unlink(missing_ok=True)


def read_part(workspace: Workspace, digest: str) -> pl.DataFrame:
    """Return the rows of a stored part."""
    return pl.read_parquet(workspace.artifacts.local_path(digest))


def truth(frame: pl.DataFrame, target: Target) -> npt.NDArray[np.float64]:
    """Return the target of some rows, `(n_rows,)`: values, or class indices."""
    values = frame[target.column]
    if target.classes:
        values = class_indices(values, target.classes)
    truth: npt.NDArray[np.float64] = values.cast(pl.Float64).to_numpy()
    return truth


def explored(
    workspace: Workspace, target: Target, parts: dict[str, Any], notes: Sequence[ColumnNote] = ()
) -> StepResult:
    """Profile the rows that may be looked at: all but the test part."""
    digests = (parts["windows"]["all"], parts["validation"])
    # a column at a time is read, so that memory does not decide how many rows there may be
    seen = pl.concat(
        [pl.scan_parquet(workspace.artifacts.local_path(each), glob=False) for each in digests]
    )
    found = profile(
        seen,
        target=target.column,
        task=target.task,
        notes={note.column: note for note in notes},
    )
    page = workspace.artifacts.put_bytes(profile_page(found).encode())
    data = workspace.artifacts.put_bytes(msgspec.json.encode(found.to_json()))
    return StepResult(
        output={
            "profile": data,
            "page": page,
            "kinds": {column.name: column.kind for column in found.columns},
            "summary": profile_summary(found),
            "n_findings": len(found.findings),
            "leaks": [each.column for each in found.findings if each.kind == "leak"],
        },
        summary=f"{len(found.columns)} columns, {len(found.findings)} findings",
        reason=" ".join(
            f"{each.column}: {each.evidence}" if each.column else each.evidence
            for each in found.findings[:2]
        ),
        artifacts=(data, page),
    )


def page_file(workspace: Workspace, digest: str, path: Path) -> Path:
    """Write a page kept in the store to a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(workspace.artifacts.get_bytes(digest))
    return path
