"""Batch transform: the answers to all rows of files, in parts that are written whole or not at all.

A part is a fixed number of rows, so that a transform that was interrupted goes on where it was: parts
that are done stay as they are. Memory is bounded by one part and one batch of the reader.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from loopwright.core.errors import BackendError, InvalidInputError, WrongStateError
from loopwright.core.files import read_json, write_json_atomically
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.deploy.capture import plain_value
from loopwright.deploy.row_by_row import ERROR, predicted_by_row
from loopwright.deploy.rows import text_reader

if TYPE_CHECKING:
    import polars as pl

    from loopwright.data import Source
    from loopwright.train import ServingModel
else:
    pl = LazyModule("polars")

PartFormat = Literal["parquet", "csv", "jsonl"]
PART_ROWS = 50_000
_CHUNK_ROWS = 1024
_MANIFEST, _DONE, _LOCK = "transform.json", ".done", ".lock"
ROW = "row"


class TransformPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a transform writes.

    Parameters
    ----------
    id_column
        A column of the input that is written beside every answer, and every rejection.
    keep
        Further columns of the input to write; `("*",)` keeps all.
    extras
        What the model adds to every answer, such as `interval`; as JSON text.
    format
        Of the parts.
    part_rows
        Rows of the input in a part, 1 to 10,000,000.
    """

    id_column: str | None = None
    keep: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    format: PartFormat = "parquet"
    part_rows: int = PART_ROWS


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


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    """What is noted of a part that is done."""

    number: int
    n_rows: int
    n_rejected: int


def transform(
    model: ServingModel,
    source: Source,
    output: Path,
    *,
    plan: TransformPlan | None = None,
    today: date,
    on_part: Callable[[int, int, int], None] | None = None,
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
        dated = _Dated(model, date.fromisoformat(begun["today"]))
        done = _done_parts(output)
        n_kept = len(done)
        if begun.get("n_parts") is None or n_kept < begun["n_parts"]:
            for number, part in _parts(source, plan.part_rows, done):
                done[number] = _written(dated, part, output, plan, number)
                if on_part is not None:
                    on_part(number, done[number].n_rows, done[number].n_rejected)
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


def _done_parts(output: Path) -> dict[int, _Part]:
    folder = output / _DONE
    folder.mkdir(exist_ok=True)
    for path in output.glob(".tmp-*"):
        path.unlink(missing_ok=True)  # of a process that was ended
    found = [
        msgspec.json.decode(path.read_bytes(), type=_Part) for path in folder.glob("part-*.json")
    ]
    return {part.number: part for part in sorted(found, key=lambda part: part.number)}


# --- rows ---


def _parts(
    source: Source, part_rows: int, done: Mapping[int, _Part]
) -> Iterator[tuple[int, pl.DataFrame]]:
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


class _Dated:
    """A model on one day."""

    def __init__(self, model: ServingModel, today: date) -> None:
        self.model = model
        self._today = today

    def check_and_predict(
        self, rows: Sequence[Mapping[str, Any]], *, index: int = 0, extras: Sequence[str] = ()
    ) -> tuple[Sequence[Mapping[str, Any]], list[dict[str, Any]]]:
        return self.model.check_and_predict(rows, index=index, today=self._today, extras=extras)


def _written(
    dated: _Dated, part: pl.DataFrame, output: Path, plan: TransformPlan, number: int
) -> _Part:
    answers, rejects = _answered(dated, part, plan, first_row=number * plan.part_rows)
    names = {
        "answers": f"part-{number:06d}.{plan.format}",
        "rejects": f"rejects-{number:06d}.jsonl",
    }
    kept = _kept(part, plan, number * plan.part_rows)
    if rejects:
        rejected = [each[ROW] for each in rejects]
        kept = kept.filter(~pl.col(ROW).is_in(rejected))
        lines = msgspec.json.Encoder(enc_hook=str).encode_lines(rejects)
        _put(output / names["rejects"], lambda path: path.write_bytes(lines))
    made = pl.DataFrame(answers, schema=_schema(dated.model, plan))
    frame = kept.hstack(made)
    _put(output / names["answers"], lambda path: _write(frame, path, plan.format))
    done = _Part(number=number, n_rows=part.height, n_rejected=len(rejects))
    write_json_atomically(output / _DONE / f"part-{number:06d}.json", msgspec.to_builtins(done))
    return done


def _answered(
    dated: _Dated, part: pl.DataFrame, plan: TransformPlan, *, first_row: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return answers as flat rows, and what became of the rows that have none."""
    model = dated.model
    names = [field.name for field in model.signature.fields if field.name in part.columns]
    readers = {
        field.name: text_reader(field.kind)
        for field in model.signature.fields
        if field.name in part.columns
        and part.schema[field.name] == pl.String
        and field.conversion is None
        and field.kind in ("number", "boolean")
    }
    frame = part.select(names).with_columns(pl.col(pl.Decimal).cast(pl.Float64)).fill_nan(None)
    answers: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    for begin in range(0, part.height, _CHUNK_ROWS):
        # a table without any column the model reads still has rows
        chunk = frame.slice(begin, _CHUNK_ROWS)
        height = min(_CHUNK_ROWS, part.height - begin)
        rows = chunk.to_dicts() if names else [{} for _ in range(height)]
        for name, read in readers.items():
            for row in rows:
                if row[name] is not None:
                    row[name] = read(row[name].strip())
        outcomes = predicted_by_row(dated, rows, slice(0, len(rows)), plan.extras)
        for at, (_, answer) in enumerate(outcomes, start=begin):
            if ERROR in answer:
                rejects.append(_reject(answer[ERROR], part, plan, at=at, row=first_row + at))
            else:
                answers.append(_flat(answer, plan.extras))
    return answers, rejects


def _reject(
    error: dict[str, Any], part: pl.DataFrame, plan: TransformPlan, *, at: int, row: int
) -> dict[str, Any]:
    message = error["message"].replace(f"ow {error.get('row')}", f"ow {row}", 1)
    told = {ROW: row, **{name: error.get(name) for name in ("field", "value", "expected")}}
    known = {"id": part[plan.id_column][at]} if plan.id_column else {}
    return {**known, **told, "message": message}


def _flat(answer: Mapping[str, Any], extras: Sequence[str]) -> dict[str, Any]:
    flat = {name: answer[name] for name in ("prediction", "probability") if name in answer}
    for name, share in answer.get("probabilities", {}).items():
        flat[f"probability_{name}"] = share
    for name in extras:
        flat[name] = msgspec.json.Encoder(enc_hook=plain_value).encode(answer.get(name)).decode()
    return flat


def _schema(model: ServingModel, plan: TransformPlan) -> dict[str, Any]:
    schema: dict[str, Any] = {"prediction": pl.Float64 if model.task == "regression" else pl.String}
    if model.task == "binary":
        schema["probability"] = pl.Float64
    elif model.task == "multiclass":
        schema |= {f"probability_{name}": pl.Float64 for name in model.classes or ()}
    return {**schema, **dict.fromkeys(plan.extras, pl.String)}


def _kept(part: pl.DataFrame, plan: TransformPlan, first_row: int) -> pl.DataFrame:
    """Return the columns of the input that are written, with the number of every row."""
    names = part.columns if "*" in plan.keep else list(plan.keep)
    if plan.id_column is not None:
        names = [plan.id_column, *(name for name in names if name != plan.id_column)]
    numbers = pl.int_range(first_row, first_row + part.height, dtype=pl.Int64)
    # an input column may have the name of an answer
    ours = {ROW, "prediction", "probability", *plan.extras}
    names = [name for name in dict.fromkeys(names) if name is not None]
    titles = [f"input_{n}" if n in ours or n.startswith("probability_") else n for n in names]
    columns = [pl.col(name).alias(title) for name, title in zip(names, titles, strict=True)]
    return part.select(numbers.alias(ROW), *columns)


def _write(frame: pl.DataFrame, path: Path, kind: PartFormat) -> None:
    if kind == "parquet":
        frame.write_parquet(path, compression="zstd")
    elif kind == "csv":
        from loopwright.data.export import without_formulas

        without_formulas(frame.lazy()).collect().write_csv(path)
    else:
        frame.write_ndjson(path)


def _put(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole, or not at all."""
    temporary = path.with_name(f".tmp-{path.name}.{uuid.uuid4().hex}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise BackendError(
            f"{path} could not be written: {error}.",
            hint="Make room, and run the same transform again; what is done stays.",
            retryable=True,
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
