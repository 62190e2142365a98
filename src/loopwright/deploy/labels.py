"""Ground truth as it arrives, by inference id, kept until the monitor has joined it."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.deploy.capture import column, plain_value, times, utc_text
from loopwright.deploy.segment import SEGMENT_BYTES, Cursor, SegmentLog, read_page

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

MAX_ID_CHARACTERS = 256
_SHAPES = ({"inference_id", "label"}, {"key", "label"})


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What turned out to be true for one prediction.

    Parameters
    ----------
    inference_id
        The id that the prediction was answered with.
    label
        A number for regression, a class otherwise.
    at
        When the label was received: ISO 8601, UTC.
        For a source that tells when the label became true, that time.
    source
        Who sent it: `endpoint`, `cli`, the name of a table.
    key
        A business key, such as a customer's number, where the id is not known and empty: the label
        is for the newest prediction before it whose input of that name says the same.
    """

    inference_id: str
    label: bool | int | float | str
    at: str
    source: str
    key: str | None = None


class LabelLog:
    """Write labels so that they are on the disk before they are acknowledged; from any thread."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._log = SegmentLog(folder, segment_bytes=segment_bytes, durable=True)
        self._lock = threading.Lock()

    def append(self, labels: Sequence[Label]) -> None:
        """Write labels; when this returns they survive a power cut.

        Raises
        ------
        BackendError
            If the disk is full or failing. Send the same labels again later: a label that was
            written twice says the same thing twice.
        """
        if not labels:
            return
        try:
            with self._lock:
                self._log.append(msgspec.json.Encoder(enc_hook=plain_value).encode_lines(labels))
        except OSError as error:
            raise BackendError(
                f"{len(labels)} labels could not be written to {self._log.folder}: {error}.",
                hint="Make room or repair the disk, then send them again.",
                retryable=True,
            ) from error

    def close(self) -> None:
        """Let the segment go."""
        self._log.close()


def add_labels(
    endpoint_folder: Path,
    labels: Iterable[tuple[Any, Any]],
    *,
    task: str,
    at: datetime | Sequence[datetime],
    source: str,
    by_key: bool = False,
) -> int:
    """Take in ground truth for an endpoint, all of it or nothing; return how many labels it was.

    The endpoint need not run, and may take in labels itself at the same time.

    Parameters
    ----------
    endpoint_folder
        The endpoint's folder; the labels go where it keeps its own.
    labels
        Pairs of an inference id and what turned out to be true.
    task
        One of regression, binary, multiclass.
    at
        When the labels became known, an aware time: one for all, or one for each.
    source
        Who sends them.
    by_key
        Whether the pairs begin with a business key in place of an inference id; see `Label`.

    Raises
    ------
    InvalidInputError
        If an id or a label cannot be one; the facts say which. Nothing was written.
    BackendError
        If the disk is full or failing.
    """
    moments = itertools.repeat(at) if isinstance(at, datetime) else at
    checked = [
        checked_label(
            {"key" if by_key else "inference_id": inference_id, "label": label},
            index=index,
            task=task,
            at=utc_text(moment),
            source=source,
        )
        for index, ((inference_id, label), moment) in enumerate(zip(labels, moments, strict=False))
    ]
    log = LabelLog(endpoint_folder / "labels")
    try:
        log.append(checked)
    finally:
        log.close()
    return len(checked)


def checked_label(value: Any, *, index: int, task: str, at: str, source: str) -> Label:
    """Return a label made of what a caller sent: `{"inference_id": ..., "label": ...}`.

    A business key may stand in place of the id: `{"key": ..., "label": ...}`.

    Raises
    ------
    InvalidInputError
        If a key is missing or unknown, the id is not an inference id, or the label is not a finite
        number (regression) or a class (other tasks). The facts say which row.
    """
    if not isinstance(value, Mapping) or set(value) not in _SHAPES:
        raise _wrong_label(
            index, field=None, value=value, expected="an object with inference_id and label"
        )
    label = value["label"]
    # a table gives NumPy's numbers
    label = label.item() if hasattr(label, "item") else label
    if task == "regression":
        is_fit = isinstance(label, int | float) and not isinstance(label, bool)
        if not is_fit or not math.isfinite(label):
            raise _wrong_label(index, field="label", value=label, expected="a finite number")
    elif not _can_be_a_class(label):
        raise _wrong_label(index, field="label", value=label, expected="a class")
    by_key = "key" in value
    return Label(
        inference_id="" if by_key else checked_inference_id(value["inference_id"], index=index),
        label=label,
        at=at,
        source=source,
        key=checked_business_key(value["key"], index=index) if by_key else None,
    )


def checked_business_key(value: Any, *, index: int | None = None) -> str:
    """Return a business key as text: 1 to 256 characters, or a whole number; else raise."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and 0 < len(value.strip()) <= MAX_ID_CHARACTERS:
        return value
    raise InvalidInputError(
        f"{str(value)[:80]!r} is not a business key.",
        hint=f"Use 1 to {MAX_ID_CHARACTERS} characters or a whole number.",
        row=index,
        field="key",
        value=value,
        expected=f"1 to {MAX_ID_CHARACTERS} characters",
    )


def _can_be_a_class(label: object) -> bool:
    if isinstance(label, float):  # grades such as 2.5
        return math.isfinite(label)
    return isinstance(label, bool | int | str) and label != ""


def checked_inference_id(value: Any, *, index: int | None = None) -> str:
    """Return an inference id: 1 to 256 printable ASCII characters, else raise `InvalidInputError`."""
    if (
        isinstance(value, str)
        and 0 < len(value) <= MAX_ID_CHARACTERS
        and value.isascii()
        and value.isprintable()
    ):
        return value
    raise InvalidInputError(
        f"{str(value)[:80]!r} is not an inference id.",
        hint=f"Use 1 to {MAX_ID_CHARACTERS} printable ASCII characters, or leave it out.",
        row=index,
        field="inference_id",
        value=value,
        expected=f"1 to {MAX_ID_CHARACTERS} printable ASCII characters",
    )


def _wrong_label(index: int, *, field: str | None, value: Any, expected: str) -> InvalidInputError:
    return InvalidInputError(
        f"Label {index} is {str(value)[:80]!r}; expected {expected}.",
        hint='Send {"inference_id": "...", "label": ...}, or a list of such objects.',
        row=index,
        field=field,
        value=value,
        expected=expected,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPage:
    """Labels as a table, and where to go on reading.

    Parameters
    ----------
    frame
        Columns `inference_id`, `label` (numbers, or text when any label is text), `at` (UTC),
        `source` and `key`, in the order they came; a corrected label follows the one it corrects.
    cursor
        Pass it as `after` to read what comes next.
    n_unreadable
        Lines left out because a failed write tore them.
    """

    frame: pl.DataFrame
    cursor: Cursor
    n_unreadable: int = 0


def read_labels(
    folder: Path,
    *,
    after: Cursor | None = None,
    max_bytes: int = SEGMENT_BYTES,
    until: Cursor | None = None,
) -> LabelPage:
    """Return the labels received since a cursor, one page at a time, oldest first."""
    page = read_page(folder, after=after, max_bytes=max_bytes, until=until)
    decoder = msgspec.json.Decoder(Label)
    labels: list[Label] = []
    for line in page.lines:
        try:
            labels.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    frame = pl.DataFrame(
        [
            pl.Series("inference_id", [each.inference_id for each in labels], dtype=pl.String),
            column("label", [each.label for each in labels]),
            times("at", [each.at for each in labels]),
            pl.Series("source", [each.source for each in labels], dtype=pl.String),
            pl.Series("key", [each.key for each in labels], dtype=pl.String),
        ]
    )
    return LabelPage(frame=frame, cursor=page.cursor, n_unreadable=len(page.lines) - len(labels))
