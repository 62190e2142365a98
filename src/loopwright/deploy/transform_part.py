"""A part of a batch transform: the answers to some rows, written whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loopwright.core.errors import BackendError
from loopwright.core.files import write_json_atomically
from loopwright.core.lazy import LazyModule
from loopwright.deploy.capture import plain_value
from loopwright.deploy.row_by_row import ERROR, predicted_by_row
from loopwright.deploy.rows import text_reader

if TYPE_CHECKING:
    import polars as pl

    from loopwright.train import ServingModel
else:
    pl = LazyModule("polars")

PartFormat = Literal["parquet", "csv", "jsonl"]
PART_ROWS = 50_000
DONE = ".done"
_CHUNK_ROWS = 1024
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


class DonePart(msgspec.Struct, frozen=True, kw_only=True):
    """What is noted of a part that is done."""

    number: int
    n_rows: int
    n_rejected: int

    @property
    def mark(self) -> str:
        """Return the file that says so, in the folder of the transform."""
        return f"{DONE}/part-{self.number:06d}.json"


class DatedModel:
    """A model on one day."""

    def __init__(self, model: ServingModel, today: date) -> None:
        self.model = model
        self._today = today

    def check_and_predict(
        self, rows: Sequence[Mapping[str, Any]], *, index: int = 0, extras: Sequence[str] = ()
    ) -> tuple[Sequence[Mapping[str, Any]], list[dict[str, Any]]]:
        """Return the rows as the model read them, and their answers; see `ServedModel`."""
        return self.model.check_and_predict(rows, index=index, today=self._today, extras=extras)


def written_part(
    dated: DatedModel, part: pl.DataFrame, output: Path, plan: TransformPlan, number: int
) -> DonePart:
    """Write the answers to the rows of a part, and which rows have none, into a folder.

    Parameters
    ----------
    dated
        What answers.
    part
        The rows, `plan.part_rows` of them, fewer in the last part.
    output
        The folder.
    plan
        What is written.
    number
        Of the part, from 0.
    """
    answers, rejects = _answered(dated, part, plan, first_row=number * plan.part_rows)
    done = DonePart(number=number, n_rows=part.height, n_rejected=len(rejects))
    names = part_files(done, plan)
    kept = _kept(part, plan, number * plan.part_rows)
    if rejects:
        rejected = [each[ROW] for each in rejects]
        kept = kept.filter(~pl.col(ROW).is_in(rejected))
        lines = msgspec.json.Encoder(enc_hook=str).encode_lines(rejects)
        put(output / names[1], lambda path: path.write_bytes(lines))
    made = pl.DataFrame(answers, schema=_schema(dated.model, plan))
    frame = kept.hstack(made)
    put(output / names[0], lambda path: _write(frame, path, plan.format))
    (output / DONE).mkdir(exist_ok=True)
    write_json_atomically(output / done.mark, msgspec.to_builtins(done))
    return done


def part_files(done: DonePart, plan: TransformPlan) -> tuple[str, ...]:
    """Return the files of a part: the answers, and the rejected rows if there are any."""
    answers = f"part-{done.number:06d}.{plan.format}"
    return (answers, f"rejects-{done.number:06d}.jsonl") if done.n_rejected else (answers,)


def _answered(
    dated: DatedModel, part: pl.DataFrame, plan: TransformPlan, *, first_row: int
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


def put(path: Path, write: Callable[[Path], Any]) -> None:
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
