"""From the body of a request to predictions: read, check every row, predict, capture, answer."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.names import new_id
from loopwright.deploy.capture import CapturedPrediction, CaptureLog, plain_value, utc_text
from loopwright.deploy.dispatch import Steps
from loopwright.deploy.labels import checked_inference_id
from loopwright.deploy.message import Request, Response, error_response
from loopwright.deploy.model import InputSignature, Served, ServedModel
from loopwright.deploy.rows import READERS, TooManyRowsError

# rows worked on before other requests get a turn; grows while a turn stays short
_MIN_ROWS, _FIRST_ROWS, _MAX_ROWS = 16, 64, 1024
_SHORT_TURN_S, _LONG_TURN_S = 0.004, 0.016

_encode = msgspec.json.Encoder(enc_hook=plain_value).encode
_ID_HEADERS = (b"x-amzn-sagemaker-inference-id", b"x-inference-id")


class _Pace:
    """Cut rows into turns of some milliseconds each, going by how long the last one took."""

    __slots__ = ("_began_at", "_end", "_n_rows")

    def __init__(self) -> None:
        self._n_rows = _FIRST_ROWS
        self._end = 0
        self._began_at = 0.0

    def turn(self, begin: int) -> slice:
        """Return the rows of the turn that begins now."""
        self._end = begin + self._n_rows
        self._began_at = time.perf_counter()
        return slice(begin, self._end)

    def end_turn(self) -> int:
        """Return the row after the turn."""
        took_s = time.perf_counter() - self._began_at
        if took_s < _SHORT_TURN_S:
            self._n_rows = min(2 * self._n_rows, _MAX_ROWS)
        elif took_s > _LONG_TURN_S:
            self._n_rows = max(_MIN_ROWS, self._n_rows // 2)
        return self._end


def invocation(
    request: Request, *, served: Served, capture: CaptureLog | None
) -> Steps[tuple[Response, int]]:
    """Answer a request with a model, in turns; return the answer and how many rows it predicts.

    Every row is checked before the first is predicted, and what is answered has been captured.
    """
    read = READERS.get(media_type(request))
    if read is None:
        return unknown_media_type(READERS), 0
    try:
        batch = read(request.body, served.model.signature.fields)
        base = _given_id(request)
        ids, rows = yield from _checked_rows(
            batch.rows,
            served.model.signature,
            base_id=base or new_id(),
            is_single=batch.is_single,
        )
    except InvalidInputError as error:
        return refusal(error), 0
    answers: list[dict[str, Any]] = []
    captured: list[bytes] = []
    pace = _Pace()
    while len(answers) < len(rows):
        part = pace.turn(len(answers))
        predicted = _predicted(served.model, rows[part], ids[part])
        answers += predicted
        if capture is not None:
            captured.append(
                capture.encoded(_captured(predicted, rows[part], version=served.version))
            )
        if pace.end_turn() < len(rows):
            yield None
    if capture is not None:
        # before the answer: whoever has an answer can rely on its capture
        capture.write(b"".join(captured))
    if batch.is_single:
        answers[0]["model_version"] = served.version
        return Response(200, _encode(answers[0])), 1
    whole = {"predictions": answers, "model_version": served.version}
    return Response(200, _encode(whole)), len(answers)


def media_type(request: Request) -> bytes:
    """Return the content type of a request without its parameters, in lower case."""
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def unknown_media_type(understood: Iterable[bytes]) -> Response:
    """Return the answer to a content type that is not understood, or is missing."""
    known = ", ".join(name.decode() for name in understood)
    # pages on the web can send forms and untyped bodies anywhere, but none of these types
    return error_response(415, f"Send a Content-Type that is one of {known}.")


def refusal(error: InvalidInputError) -> Response:
    """Return the answer to input that cannot be used."""
    status = 413 if isinstance(error, TooManyRowsError) else 400
    return error_response(status, error.message, **{"hint": error.hint, **error.facts})


def _given_id(request: Request) -> str | None:
    for name in _ID_HEADERS:
        value = request.headers.get(name)
        if value is not None:
            return checked_inference_id(value.decode("latin-1"))
    return None


def _checked_rows(
    rows: Sequence[Any], signature: InputSignature, *, base_id: str, is_single: bool
) -> Generator[None, Any, tuple[list[str], list[Mapping[str, Any]]]]:
    takes_id = all(field.name != "inference_id" for field in signature.fields)
    ids: list[str] = []
    checked: list[Mapping[str, Any]] = []
    pace = _Pace()
    while len(checked) < len(rows):
        part = pace.turn(len(checked))
        for index, row in enumerate(rows[part], start=part.start):
            if type(row) is not dict:
                raise _not_a_row(row, index)
            if takes_id and "inference_id" in row:
                ids.append(checked_inference_id(row.pop("inference_id"), index=index))
            else:
                ids.append(base_id if is_single else f"{base_id}:{index}")
            try:
                checked.append(signature.check_row(row, index=index))
            except RecursionError as error:  # while it showed a value within a value within a ...
                raise _not_a_row("a deeply nested value", index) from error
        if pace.end_turn() < len(rows):
            yield None
    if len(set(ids)) < len(ids):
        raise _repeated_id(ids)
    return ids, checked


def _predicted(
    model: ServedModel, rows: Sequence[Mapping[str, Any]], ids: Sequence[str]
) -> list[dict[str, Any]]:
    predicted = model.predict(rows)
    if len(predicted) != len(rows):
        raise BackendError(f"The model gave {len(predicted)} answers to {len(rows)} rows.")
    for answer, inference_id in zip(predicted, ids, strict=True):
        for value in (answer["prediction"], answer.get("probability")):
            # JSON has no way to say it, and null would look like an answer
            if isinstance(value, float) and not math.isfinite(value):
                raise BackendError(f"The model answered {value} to inference {inference_id!r}.")
        answer["inference_id"] = inference_id
    return predicted


def _captured(
    answers: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], *, version: int | str
) -> list[CapturedPrediction]:
    at = utc_text(datetime.now(UTC))
    return [
        CapturedPrediction(
            inference_id=answer["inference_id"],
            at=at,
            version=version,
            inputs=row,  # type: ignore[arg-type] # encoded at once, never changed
            prediction=answer["prediction"],
            probability=answer.get("probability"),
            probabilities=answer.get("probabilities"),
        )
        for row, answer in zip(rows, answers, strict=True)
    ]


def _not_a_row(row: Any, index: int) -> InvalidInputError:
    return InvalidInputError(
        f"Row {index} is a {type(row).__name__}, not an object with the columns by name.",
        hint='Send rows such as {"column": value, ...}; for plain lists, name the columns with'
        ' {"columns": [...], "data": [[...]]}.',
        row=index,
        field=None,
        value=row,
        expected="an object",
    )


def _repeated_id(ids: Sequence[str]) -> InvalidInputError:
    seen: dict[str, int] = {}
    for index, inference_id in enumerate(ids):
        if inference_id in seen:
            break
        seen[inference_id] = index
    return InvalidInputError(
        f"Rows {seen[inference_id]} and {index} have the same inference id {inference_id!r}.",
        hint="Give every row an id of its own, or none.",
        row=index,
        field="inference_id",
        value=inference_id,
        expected="an id of its own",
    )
