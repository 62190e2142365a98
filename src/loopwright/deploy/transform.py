"""Batch transform: the answers to all rows of files, in parts that are written whole or not at all.

A part is a fixed number of rows, so that a transform that was interrupted goes on where it was: parts
that are done stay as they are. Memory is bounded by one part and one batch of the reader.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec

from loopwright.core.errors import InvalidInputError, WrongStateError
from loopwright.core.files import read_json, write_json_atomically
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.deploy.transform_part import (
    DONE,
    DatedModel,
    DonePart,
    PartFormat,
    TransformPlan,
    written_part,
)

if TYPE_CHECKING:
    import polars as pl

    from loopwright.data import Source
    from loopwright.train import ServingModel
else:
    pl = LazyModule("polars")

NumberedPart = tuple[int, "pl.DataFrame"]
"""Rows with the number of their part."""

PartsWriter = Callable[[Iterator[NumberedPart], TransformPlan, date, Path], Iterator[DonePart]]
"""Answers parts as of a day, puts their files into a folder, and says what is done, in any order."""

_MANIFEST, _LOCK = "transform.json", ".lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformResult:
    """What came of a transform.

    Parameters
    ----------
    output
        The folder with `part-*`, `rejects-*` and `transform.json`.
    n_rows, n_rejected
        Rows of the input, and those of them that could not be used.
    n_parts, n_kept_parts
        Parts there are, and those that an earlier run had done.
    """

    output: Path
    n_rows: int
    n_rejected: int
    n_parts: int
    n_kept_parts: int


def transform(
    model: ServingModel,
    source: Source,
    output: Path,
    *,
    plan: TransformPlan | None = None,
    today: date,
    on_part: Callable[[int, int, int], None] | None = None,
    write: PartsWriter | None = None,
) -> TransformResult:
    """Write a model's answers to all rows of a source; go on where an earlier run was interrupted.

    Answers and numbers are those the endpoint gives. A row that cannot be used goes to a file of
    rejects with the reason; the others are answered.

    Parameters
    ----------
    model
        What answers.
    source
        Where the rows are.
    output
        A folder for the parts; made if it is not there.
    plan
        What is written.
    today
        The date for features that depend on it; a transform that goes on keeps that of its beginning.
    on_part
        Told the number of each part, its rows and its rejects.
    write
        Answers the parts; nothing: this process does. It answers by the same model.

    Raises
    ------
    InvalidInputError
        If the source cannot be read, or the plan names columns that it does not have.
    WrongStateError
        If the folder holds something else, another process writes there, or the input has changed.
    """
    plan = plan or TransformPlan()
    columns = list(source.schema())
    _check(plan, model, columns)
    output.mkdir(parents=True, exist_ok=True)
    with _locked(output):
        begun = _manifest(model, source, output, plan, today)
        done = _done_parts(output)
        n_kept = len(done)
        if begun.get("n_parts") is None or n_kept < begun["n_parts"]:
            parts = _parts(source, plan.part_rows, frozenset(done))
            day = date.fromisoformat(begun["today"])
            for part in (write or _written_here(model))(parts, plan, day, output):
                done[part.number] = part
                if on_part is not None:
                    on_part(part.number, part.n_rows, part.n_rejected)
        result = TransformResult(
            output=output,
            n_rows=sum(part.n_rows for part in done.values()),
            n_rejected=sum(part.n_rejected for part in done.values()),
            n_parts=len(done),
            n_kept_parts=n_kept,
        )
        counts = {
            "n_rows": result.n_rows,
            "n_rejected": result.n_rejected,
            "n_parts": result.n_parts,
        }
        write_json_atomically(output / _MANIFEST, {**begun, **counts})
    return result


def _written_here(model: ServingModel) -> PartsWriter:
    def write(
        parts: Iterator[NumberedPart], plan: TransformPlan, today: date, output: Path
    ) -> Iterator[DonePart]:
        dated = DatedModel(model, today)
        for number, part in parts:
            yield written_part(dated, part, output, plan, number)

    return write


# --- before the first row ---


def _check(plan: TransformPlan, model: ServingModel, columns: Sequence[str]) -> None:
    model.check_extras(plan.extras)
    if plan.format not in get_args(PartFormat):
        raise InvalidInputError(
            f"Parts cannot be written as {plan.format!r}.",
            hint=f"Choose one of {', '.join(get_args(PartFormat))}.",
            field="format",
            value=plan.format,
        )
    if not 1 <= plan.part_rows <= 10_000_000:
        raise InvalidInputError(
            f"A part cannot have {plan.part_rows} rows.",
            hint="Give a number from 1 to 10,000,000.",
            field="part_rows",
            value=plan.part_rows,
        )
    wanted = [name for name in (plan.id_column, *plan.keep) if name not in (None, "*")]
    for name in wanted:
        if name not in columns:
            raise InvalidInputError(
                f"The input has no column {name!r}.",
                hint=did_you_mean(str(name), columns),
                field="keep",
                value=name,
            )
    fields = model.signature.fields
    missing = [f.name for f in fields if not f.nullable and f.name not in columns]
    if missing:
        raise InvalidInputError(
            f"The input has no column {missing[0]!r}, which the model needs in every row.",
            hint=did_you_mean(missing[0], columns),
            field=missing[0],
            expected=[field.name for field in fields],
        )


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    with (output / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise WrongStateError(
                f"Another process writes to {output}.",
                hint="Wait for it, or choose another folder.",
            ) from error
        yield


def _manifest(
    model: ServingModel, source: Source, output: Path, plan: TransformPlan, today: date
) -> dict[str, Any]:
    """Return what the folder is for; written at the first run, compared at others."""
    wanted = {
        "format": 1,
        "model": {"name": model.name, "version": model.version},
        "input": source.describe(),
        "input_fingerprint": source.fingerprint(),
        "plan": msgspec.json.decode(msgspec.json.encode(plan)),
    }
    path = output / _MANIFEST
    known = read_json(path)
    if known is None:
        others = [each.name for each in output.iterdir() if each.name != _LOCK]
        if others:
            raise WrongStateError(
                f"{output} holds other files, such as {sorted(others)[0]!r}.",
                hint="Choose a folder of its own.",
                field="output",
            )
        begun = {**wanted, "today": today.isoformat()}
        write_json_atomically(path, begun)
        return begun
    changed = [name for name in wanted if known.get(name) != wanted[name]]
    if wanted["input_fingerprint"] is None and not changed:
        # nobody can tell whether the input is still the same
        changed = ["input_fingerprint"]
    if changed:
        raise WrongStateError(
            f"{output} holds the answers of another transform: {changed[0]} was"
            f" {known.get(changed[0])}, and is {wanted[changed[0]]}.",
            hint="Choose another folder, or remove this one.",
            field=changed[0],
        )
    return dict(known)


def _done_parts(output: Path) -> dict[int, DonePart]:
    folder = output / DONE
    folder.mkdir(exist_ok=True)
    for path in output.glob(".tmp-*"):
        path.unlink(missing_ok=True)  # of a process that was ended
    for left in output.glob(".rows-*"):
        shutil.rmtree(left, ignore_errors=True)
    found = [
        msgspec.json.decode(path.read_bytes(), type=DonePart) for path in folder.glob("part-*.json")
    ]
    return {part.number: part for part in sorted(found, key=lambda part: part.number)}


# --- rows ---


def _parts(source: Source, part_rows: int, done: Collection[int]) -> Iterator[NumberedPart]:
    """Yield the parts that are not done, with their numbers."""
    number, held, n_held = 0, [], 0
    for batch in source.batches():
        begin = 0
        while begin < batch.height:
            taken = min(part_rows - n_held, batch.height - begin)
            if number not in done:
                held.append(batch.slice(begin, taken))
            n_held += taken
            begin += taken
            if n_held == part_rows:
                if held:
                    yield number, pl.concat(held, how="vertical_relaxed")
                number, held, n_held = number + 1, [], 0
    if held:
        yield number, pl.concat(held, how="vertical_relaxed")
