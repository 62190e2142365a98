"""The records of a batch transform: split, put together as requests, filtered, joined to answers."""

from __future__ import annotations

import csv
import io
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

from loopwright.sagemaker.json_path import NothingFoundError, Step, selected

Form = Literal["csv", "json", ""]

_RECORD_MAGIC = 0xCED7230A
_LENGTH_BITS = (1 << 29) - 1
_LONGEST_LINE = 128 << 20


class BadDataError(Exception):
    """Data or an answer that a transform cannot use; the file gets no output."""


def form_of(media_type: str) -> Form:
    """Return whether records of a media type are CSV, JSON, or something that is not looked into."""
    kind = media_type.partition(";")[0].strip().lower()
    if kind in ("application/json", "application/jsonlines"):
        return "json"
    return "csv" if kind == "text/csv" else ""


def records_of(file: IO[bytes], split: str) -> Iterator[bytes]:
    """Yield the records of a file, each as it stands there, lines without their ends.

    Raises
    ------
    BadDataError
        If the file is torn.
    """
    if split == "Line":
        while line := file.readline(_LONGEST_LINE):
            text = line.rstrip(b"\r\n")
            if text:
                yield text
    elif split == "RecordIO":
        yield from _record_io(file)
    elif split == "TFRecord":
        yield from _tf_records(file)
    else:
        yield file.read()


def _record_io(file: IO[bytes]) -> Iterator[bytes]:
    while head := file.read(8):
        if len(head) < 8:
            raise BadDataError("The last record is cut off.")
        magic, length = struct.unpack("<II", head)
        if magic != _RECORD_MAGIC:
            raise BadDataError("The data is no RecordIO.")
        size = length & _LENGTH_BITS
        yield head + _whole(file, size + (-size) % 4)


def _tf_records(file: IO[bytes]) -> Iterator[bytes]:
    while head := file.read(12):
        if len(head) < 12:
            raise BadDataError("The last record is cut off.")
        size = struct.unpack("<Q", head[:8])[0]
        if size > _LONGEST_LINE:
            raise BadDataError("The data is no TFRecord.")
        yield head + _whole(file, size + 4)


def _whole(file: IO[bytes], size: int) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise BadDataError("The last record is cut off.")
    return found


def requests_of(
    records: Iterator[bytes], *, is_multi: bool, most_bytes: int | None
) -> Iterator[list[bytes]]:
    """Yield the records of one request after the other.

    Raises
    ------
    BadDataError
        If a record alone is too much for one request.
    """
    held: list[bytes] = []
    size = 0
    for record in records:
        if most_bytes is not None and len(record) > most_bytes:
            raise BadDataError("Too much data for max payload size")
        if held and (
            not is_multi or (most_bytes is not None and size + len(record) + 1 > most_bytes)
        ):
            yield held
            held, size = [], 0
        held.append(record)
        size += len(record) + 1
    if held:
        yield held


@dataclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """What is done to records before and after the model.

    Parameters
    ----------
    before, after
        The paths of the filters; empty for `$`.
    joins
        Whether answers are joined to the records that they are about.
    """

    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    joins: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether answers are written as they come."""
        return not (self.after or self.joins)


def body_of(records: Sequence[bytes], processing: Processing, *, split: str, form: Form) -> bytes:
    """Return the body of a request.

    Raises
    ------
    BadDataError
        If a filter finds nothing.
    """
    sent = [_filtered(each, processing.before, form) for each in records]
    return b"".join(each + b"\n" for each in sent) if split == "Line" else b"".join(sent)


def _filtered(record: bytes, steps: tuple[Step, ...], form: Form) -> bytes:
    if not steps:
        return record
    return _written(_select(_read(record, form), steps), form)


def joined(
    records: Sequence[bytes], answer: bytes, processing: Processing, *, given: Form, said: Form
) -> list[bytes]:
    """Return what is written for each record: its answer, joined and filtered.

    Raises
    ------
    BadDataError
        If the answers are not one for each record, or of another form than what they are joined to.
    """
    if processing.joins and given != said:
        raise BadDataError(
            "The input and the answers must both be CSV or both be JSON to be joined."
        )
    answers = _answers(answer, said, len(records))
    found = []
    for record, each in zip(records, answers, strict=True):
        value = each
        if processing.joins:
            value = _join(_read(record, given), each, said)
        found.append(_written(_select(value, processing.after), said))
    return found


def _answers(answer: bytes, form: Form, n: int) -> list[Any]:
    """Return the answers to `n` records, as cells or as values."""
    if form == "csv":
        lines = [line for line in answer.splitlines() if line.strip()]
        rows: list[Any] = [_read(line, "csv") for line in lines]
        if len(rows) == 1 and len(rows[0]) == n > 1:
            rows = [[cell] for cell in rows[0]]
    else:
        rows = _values(answer, n)
    if len(rows) != n:
        raise BadDataError(
            f"Failed to parse output from the algorithm: {len(rows)} answers to {n} records."
        )
    return rows


def _values(answer: bytes, n: int) -> list[Any]:
    try:
        value = json.loads(answer)
    except ValueError:
        return [_read(line, "json") for line in answer.splitlines() if line.strip()]
    if n == 1:
        return [value]
    if isinstance(value, dict) and isinstance(value.get("predictions"), list):
        value = value["predictions"]
    return value if isinstance(value, list) else [value]


def _join(record: Any, answer: Any, form: Form) -> Any:
    if form == "csv":
        return [*record, *answer]
    if isinstance(record, dict):
        return {**record, "SageMakerOutput": answer}
    return {"SageMakerInput": record, "SageMakerOutput": answer}


def _read(record: bytes, form: Form) -> Any:
    try:
        if form == "csv":
            return next(csv.reader([record.decode()], strict=True), [])
        return json.loads(record)
    except (ValueError, csv.Error) as error:
        raise BadDataError(f"A record is no {form.upper()}: {error}.") from error


def _written(value: Any, form: Form) -> bytes:
    if form == "json":
        return json.dumps(value).encode()
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(value if isinstance(value, list) else [value])
    return out.getvalue().encode()


def _select(value: Any, steps: tuple[Step, ...]) -> Any:
    try:
        return selected(value, steps)
    except NothingFoundError as error:
        raise BadDataError(f"The JSONPath of a filter finds no {error} in a record.") from error
