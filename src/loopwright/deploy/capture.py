"""What the endpoint was asked and what it answered, kept for the monitor."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.deploy.segment import SEGMENT_BYTES, Cursor, SegmentLog, read_page

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_log = logging.getLogger(__name__)


class CapturedPrediction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answered row.

    Parameters
    ----------
    inference_id
        Joins the prediction with the ground truth that comes later.
    at
        When it was answered: ISO 8601, UTC.
    version
        The model version that made the answer.
    inputs
        The row as the input signature accepted it, before any feature was made.
    prediction
        A number for regression, a class otherwise.
    probability
        P(positive), binary tasks only; `probabilities` gives one for each class of a multiclass task.
    variant
        The variant that made the answer; None where the endpoint has no variants.
    shadow
        Whether nobody saw the answer: it was made to be compared with the one under the same id.
    """

    inference_id: str
    at: str
    version: int | str
    inputs: dict[str, Any]
    prediction: Any
    probability: float | None = None
    probabilities: dict[str, float] | None = None
    variant: str | None = None
    shadow: bool = False


def plain_value(value: Any) -> Any:
    """Return a NumPy scalar as the Python number it holds (an `enc_hook` for msgspec)."""
    if hasattr(value, "item"):
        return value.item()
    raise NotImplementedError(f"{type(value).__name__} cannot be written as JSON.")


class CaptureLog:
    """Write answered predictions to a `SegmentLog` before the answer is sent.

    A prediction is never failed or delayed by a full or broken disk: what could not be written is
    counted in `n_dropped`, and `problem` says why.

    Parameters
    ----------
    folder
        Where the segments lie.
    share
        Share of predictions to keep, 0 to 1. Which ones depends on the inference id alone, so a
        repeated request is kept both times or neither.
    segment_bytes
        Size past which a new segment is begun.
    """

    def __init__(
        self, folder: Path, *, share: float = 1.0, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self.folder = folder
        self.share = checked_share(share)
        self.n_written = 0
        self.n_dropped = 0
        self.problem: str | None = None
        self._log = SegmentLog(folder, segment_bytes=segment_bytes)
        self._encoder = msgspec.json.Encoder(enc_hook=plain_value)

    def encoded(self, predictions: Sequence[CapturedPrediction]) -> bytes:
        """Return the lines of those predictions that fall into the share."""
        if self.share >= 1:
            return self._encoder.encode_lines(predictions)
        kept = [each for each in predictions if is_sampled(each.inference_id, share=self.share)]
        return self._encoder.encode_lines(kept)

    def write(self, lines: bytes) -> None:
        """Write the encoded lines of one request in one piece."""
        if not lines:
            return
        n_lines = lines.count(b"\n")
        try:
            self._log.append(lines)
        except OSError as error:
            self.n_dropped += n_lines
            if self.problem is None:
                _log.warning("Predictions are answered but not captured: %s", error)
            self.problem = str(error)
        else:
            self.n_written += n_lines
            self.problem = None

    def close(self) -> None:
        """Hand everything to the disk."""
        try:
            self._log.close()
        except OSError as error:
            self.problem = str(error)
            _log.warning("The capture log could not be flushed: %s", error)


def utc_text(at: datetime) -> str:
    """Return an aware moment as ISO 8601 in UTC, with microseconds and a Z."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


_second: tuple[int, str] = (-1, "")


def utc_now_text() -> str:
    """Return the present moment as `utc_text` does, in less time."""
    global _second
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    known, text = _second
    if seconds != known:
        text = utc_text(datetime.fromtimestamp(seconds, UTC))[:-7]
        _second = (seconds, text)
    return f"{text}{nanoseconds // 1000:06d}Z"


def checked_share(share: float) -> float:
    """Return `share` if it lies between 0 and 1, else raise `InvalidInputError`."""
    if not 0 <= share <= 1:
        raise InvalidInputError(
            f"The capture share is {share}, which is not a share of the requests.",
            hint="Give a number from 0 (keep none) to 1 (keep all).",
            field="capture_share",
            value=share,
        )
    return share


def is_sampled(inference_id: str, *, share: float) -> bool:
    """Return whether a share of all predictions includes this one; the same answer every time."""
    hashed = hashlib.blake2b(inference_id.encode(), digest_size=8).digest()
    return int.from_bytes(hashed, "big") < share * 2**64


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePage:
    """Captured predictions as a table, and where to go on reading.

    Parameters
    ----------
    frame
        Columns `inference_id`, `at` (UTC), `version` (text), `inputs` (a struct of the raw columns;
        `frame.unnest("inputs")` spreads them), `prediction`, `probability`, `probabilities` and
        `variant`.
    shadows
        The same columns for the answers of shadow variants, which nobody saw; their ids are those of
        the predictions in `frame`.
    cursor
        Pass it as `after` to read what comes next.
    n_repeated
        Lines left out because their inference id came earlier in this page.
    n_unreadable
        Lines left out because a failed write tore them.
    """

    frame: pl.DataFrame
    shadows: pl.DataFrame
    cursor: Cursor
    n_repeated: int = 0
    n_unreadable: int = 0


def read_capture(
    folder: Path, *, after: Cursor | None = None, max_bytes: int = SEGMENT_BYTES
) -> CapturePage:
    """Return what was captured since a cursor, one page at a time, oldest first.

    Memory stays bounded by `max_bytes`; call again with the page's cursor until its frame is empty.
    Of several predictions with one inference id the first in the page is kept, of shadows the first
    of each variant; a reader that stores by inference id does the same across pages.
    """
    page = read_page(folder, after=after, max_bytes=max_bytes)
    decoder = msgspec.json.Decoder(CapturedPrediction)
    first: dict[str, CapturedPrediction] = {}
    shadows: dict[tuple[str, str | None], CapturedPrediction] = {}
    n_read = 0
    for line in page.lines:
        try:
            prediction = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        n_read += 1
        if prediction.shadow:
            shadows.setdefault((prediction.inference_id, prediction.variant), prediction)
        else:
            first.setdefault(prediction.inference_id, prediction)
    return CapturePage(
        frame=capture_frame(list(first.values())),
        shadows=capture_frame(list(shadows.values())),
        cursor=page.cursor,
        n_repeated=n_read - len(first) - len(shadows),
        n_unreadable=len(page.lines) - n_read,
    )


class _KeptLine(msgspec.Struct, frozen=True, kw_only=True):
    """A captured prediction whose inputs stay the JSON they are."""

    inference_id: str
    at: str
    version: int | str
    inputs: msgspec.Raw
    prediction: Any
    probability: float | None = None
    probabilities: msgspec.Raw = msgspec.Raw(b"")
    variant: str | None = None
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureLines:
    """Captured predictions with their inputs unread, and where to go on reading.

    Parameters
    ----------
    frame
        Columns `inference_id`, `at` (UTC), `version` (text), `variant`, `shadow`, `prediction`,
        `probability`, and as JSON text `probabilities` and `inputs`; repeated ids included, in the
        order in which they were written.
    cursor
        Pass it as `after` to read what comes next.
    n_unreadable
        Lines left out because a failed write tore them.
    """

    frame: pl.DataFrame
    cursor: Cursor
    n_unreadable: int = 0


def read_capture_lines(
    folder: Path,
    *,
    after: Cursor | None = None,
    max_bytes: int = SEGMENT_BYTES,
    until: Cursor | None = None,
) -> CaptureLines:
    """Return what was captured since a cursor without reading inputs; see `read_page`.

    This takes a third of the time of `read_capture`, and its table takes a fraction of the memory.
    """
    page = read_page(folder, after=after, max_bytes=max_bytes, until=until)
    decoder = msgspec.json.Decoder(_KeptLine)
    kept: list[_KeptLine] = []
    for line in page.lines:
        try:
            kept.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    texts: dict[str, list[str | None]] = {
        "version": [str(each.version) for each in kept],
        "variant": [each.variant for each in kept],
        "probabilities": [_raw_text(each.probabilities) for each in kept],
        "inputs": [_raw_text(each.inputs) for each in kept],
    }
    frame = pl.DataFrame(
        [
            pl.Series("inference_id", [each.inference_id for each in kept], dtype=pl.String),
            times("at", [each.at for each in kept]),
            *(pl.Series(name, values, dtype=pl.String) for name, values in texts.items()),
            pl.Series("shadow", [each.shadow for each in kept], dtype=pl.Boolean),
            column("prediction", [each.prediction for each in kept]),
            pl.Series("probability", [each.probability for each in kept], dtype=pl.Float64),
        ]
    )
    return CaptureLines(frame=frame, cursor=page.cursor, n_unreadable=len(page.lines) - len(kept))


def _raw_text(raw: msgspec.Raw) -> str | None:
    text = str(bytes(raw), "utf-8", "replace")
    return None if text in ("", "null") else text


def captured_inputs(texts: Sequence[str | None]) -> pl.DataFrame:
    """Return inputs that `read_capture_lines` left as JSON as one table, typed as `read_capture` does."""
    decoder = msgspec.json.Decoder(dict[str, Any])
    rows = [decoder.decode(text) if text else {} for text in texts]
    names = dict.fromkeys(name for row in rows for name in row)
    if not names:
        return pl.DataFrame(height=len(rows))
    return pl.DataFrame([column(name, [row.get(name) for row in rows]) for name in names])


def capture_frame(predictions: Sequence[CapturedPrediction]) -> pl.DataFrame:
    """Return captured predictions as the table that `CapturePage` describes."""
    names = dict.fromkeys(name for each in predictions for name in each.inputs)
    inputs = [column(name, [each.inputs.get(name) for each in predictions]) for name in names]
    return pl.DataFrame(
        [
            pl.Series("inference_id", [each.inference_id for each in predictions], dtype=pl.String),
            times("at", [each.at for each in predictions]),
            pl.Series("version", [str(each.version) for each in predictions], dtype=pl.String),
            _struct("inputs", inputs, n_rows=len(predictions)),
            column("prediction", [each.prediction for each in predictions]),
            pl.Series("probability", [each.probability for each in predictions], dtype=pl.Float64),
            _probabilities([each.probabilities for each in predictions]),
            pl.Series("variant", [each.variant for each in predictions], dtype=pl.String),
        ]
    )


def column(name: str, values: Sequence[Any]) -> pl.Series:
    """Return JSON values as one column: numbers, booleans, or text when kinds are mixed."""
    kinds = {type(value) for value in values if value is not None}
    if not kinds:  # no type of its own, so that pages of one column go together
        return pl.Series(name, values, dtype=pl.Null)
    if kinds <= {int, float} and kinds:
        if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
            return pl.Series(name, values, dtype=pl.Int64)
        floats = [None if value is None else float(value) for value in values]
        return pl.Series(name, floats, dtype=pl.Float64)
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    return pl.Series(name, [_as_text(value) for value in values], dtype=pl.String)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def times(name: str, values: Sequence[str]) -> pl.Series:
    """Return ISO 8601 times in UTC, such as `2026-01-31T12:00:00.5Z`, as one column."""
    texts = pl.Series(name, values, dtype=pl.String)
    return texts.str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", strict=False
    ).dt.replace_time_zone("UTC")


def _probabilities(values: Sequence[Mapping[str, float] | None]) -> pl.Series:
    classes = dict.fromkeys(name for each in values if each for name in each)
    if not classes:
        return pl.Series("probabilities", [None] * len(values), dtype=pl.Null)
    columns = [
        pl.Series(name, [each.get(name) if each else None for each in values], dtype=pl.Float64)
        for name in classes
    ]
    return _struct("probabilities", columns, n_rows=len(values))


def _struct(name: str, columns: Sequence[pl.Series], *, n_rows: int) -> pl.Series:
    if columns:
        return pl.DataFrame(columns).to_struct(name)
    return pl.Series(name, [None] * n_rows, dtype=pl.Struct([]))
