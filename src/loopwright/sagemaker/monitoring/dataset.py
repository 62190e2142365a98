"""Data sets as tables of texts: CSV, JSON lines, Parquet, or what an endpoint captured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.monitoring.captured import INPUT, OUTPUT, Event, flat, payload

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

Preprocess = Callable[[Any], Any]


def read_dataset(folder: Path, about: Mapping[str, Any]) -> pl.DataFrame:
    """Return the files below a folder as one table of texts.

    Parameters
    ----------
    about
        `dataset_format` of the job: `csv` with or without a `header`, `json`, or `parquet`.

    Raises
    ------
    InvalidInputError
        If there is no file, or one cannot be read so.
    """
    paths = sorted(each for each in folder.rglob("*") if each.is_file())
    if not paths:
        raise InvalidInputError("Job inputs had no data")
    kinds = {name.lower(): value for name, value in about.items()}
    try:
        if "csv" in kinds:
            options = {name.lower(): value for name, value in kinds["csv"].items()}
            tables = [_csv(path, has_header=bool(options.get("header", True))) for path in paths]
        elif "json" in kinds:
            tables = [_json(path) for path in paths]
        elif "parquet" in kinds:
            tables = [_texts(pl.read_parquet(path)) for path in paths]
        else:
            raise InvalidInputError(f"The dataset format {json.dumps(dict(about))} is not known.")
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise InvalidInputError(f"The data set cannot be read: {error}") from error
    return pl.concat(tables, how="diagonal")


def _csv(path: Path, *, has_header: bool) -> pl.DataFrame:
    table = pl.read_csv(path, has_header=has_header, infer_schema=False, encoding="utf8-lossy")
    if has_header:
        return table
    return table.rename({name: f"_c{n}" for n, name in enumerate(table.columns)})


def _json(path: Path) -> pl.DataFrame:
    text = path.read_text(errors="replace")
    try:
        value = json.loads(text)
        records = value if isinstance(value, list) else [value]
    except ValueError:
        records = [json.loads(line) for line in text.splitlines() if line.strip()]
    return table_of(flat(each) for each in records)


def _texts(table: pl.DataFrame) -> pl.DataFrame:
    return table.select(pl.all().cast(pl.String, strict=False))


def table_of(records: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Return records as a table of texts; what a record does not have is missing."""
    rows = list(records)
    names = dict.fromkeys(name for row in rows for name in row)
    return pl.DataFrame(
        {name: [_text(row.get(name)) for row in rows] for name in names},
        schema=dict.fromkeys(names, pl.String),
    )


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value)


def captured_table(
    events: Iterable[Event],
    *,
    names: Sequence[str] = (),
    preprocess: Preprocess | None = None,
) -> pl.DataFrame:
    """Return captured requests as a table: the answer first, then what was asked.

    Parameters
    ----------
    names
        Of the columns of the baseline, which CSV takes by place.
    preprocess
        The `preprocess_handler` of a user's script: makes one record, or several, of an event.

    Raises
    ------
    InvalidInputError
        If answer and question of an event are not of one kind, as in SageMaker.
    """
    rows: list[Mapping[str, Any]] = []
    for event in events:
        if preprocess is not None:
            rows += _preprocessed(preprocess, event)
        else:
            rows += _rows(event, names)
    return table_of(rows)


def _rows(event: Event, names: Sequence[str]) -> list[dict[str, str | None]]:
    parts = [payload(event.data[each]) for each in (OUTPUT, INPUT) if each in event.data]
    is_csv = [all(isinstance(each, list) for each in part) for part in parts]
    if len(set(is_csv)) > 1:
        output, asked = ("CSV" if each else "JSON" for each in is_csv)
        raise InvalidInputError(
            f"Error: Encoding mismatch: Encoding is {asked} for endpointInput, but Encoding is "
            f"{output} for endpointOutput. We currently only support the same type of input and "
            "output encoding at the moment."
        )
    parts = _of_one_length(parts)
    found = []
    for records in zip(*parts, strict=True):
        if is_csv[0]:
            cells = [cell for record in records for cell in record]
            named = [names[n] if n < len(names) else f"_c{n}" for n in range(len(cells))]
            found.append(dict(zip(named, cells, strict=True)))
        else:
            row: dict[str, str | None] = {}
            for record in records:
                row |= flat(record)
            found.append(row)
    return found


def _of_one_length(parts: list[list[Any]]) -> list[list[Any]]:
    """Return answers and questions row by row; a line of several answers is one a row."""
    if len({len(part) for part in parts}) <= 1:
        return parts
    answers, asked = parts
    if len(answers) == 1 and isinstance(answers[0], list) and len(answers[0]) == len(asked):
        return [[[each] for each in answers[0]], asked]
    raise InvalidInputError(
        f"A captured request has {len(asked)} records and its answer has {len(answers)}."
    )


def _preprocessed(preprocess: Preprocess, event: Event) -> list[Mapping[str, Any]]:
    found = preprocess(_record(event))
    rows = found if isinstance(found, list) else [found] if found else []
    return [flat(each) if isinstance(each, Mapping) else _listed(each) for each in rows if each]


def _listed(value: Any) -> dict[str, str | None]:
    cells = value if isinstance(value, list | tuple) else str(value).split(",")
    return {f"_c{n}": _text(cell) for n, cell in enumerate(cells)}


def _record(event: Event) -> SimpleNamespace:
    """Return an event as SageMaker hands it to a `preprocess_handler`."""
    about = event.about
    return SimpleNamespace(
        endpoint_input=_part(event.data.get(INPUT)),
        endpoint_output=_part(event.data.get(OUTPUT)),
        event_metadata=SimpleNamespace(
            event_id=about.get("eventId"),
            event_time=about.get("inferenceTime"),
            inference_id=about.get("inferenceId"),
            custom_attribute=about.get("customAttributes"),
        ),
    )


def _part(part: Mapping[str, str] | None) -> SimpleNamespace | None:
    if part is None:
        return None
    return SimpleNamespace(
        data=part["data"],
        encoding=part.get("encoding"),
        observed_content_type=part.get("observedContentType"),
        mode=part.get("mode"),
    )
