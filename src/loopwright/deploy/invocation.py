"""From the body of a request to predictions: read, check every row, predict, capture, answer."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import repeat
from operator import contains
from typing import Any

from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.names import new_id
from loopwright.deploy.answer_form import FORMS, JSON_FORM, Form, find_form, json_body
from loopwright.deploy.capture import CapturedPrediction, CaptureLog, utc_text
from loopwright.deploy.dispatch import Steps
from loopwright.deploy.extra import wishes
from loopwright.deploy.labels import checked_inference_id
from loopwright.deploy.message import Request, Response, error_response
from loopwright.deploy.model import InputField, Served
from loopwright.deploy.row_by_row import ERROR, not_a_row, predicted, predicted_by_row
from loopwright.deploy.rows import READERS, Batch, TooManyRowsError, find_reader, json_batch
from loopwright.deploy.whole_way import WholeWay

# rows worked on before other requests get a turn; grows while a turn stays short
_MIN_ROWS, _FIRST_ROWS, _MAX_ROWS = 16, 64, 1024
_SHORT_TURN_S, _LONG_TURN_S = 0.004, 0.016

# kinds of answers that JSON can say, whatever their value
_SAYABLE = frozenset({str, int, bool, type(None)})

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
    request: Request,
    *,
    served: Served,
    capture: CaptureLog | None,
    extras: tuple[str, ...] = (),
    whole: WholeWay | None = None,
) -> Steps[tuple[Response, int]]:
    """Answer a request with a model, in turns; return the answer and how many rows it predicts.

    Nothing is captured or answered before every row has been checked, and what is answered has been
    captured.

    Parameters
    ----------
    extras
        What is added to every answer beside what the request asks for.
    whole
        Answers usual bodies of this model in one step, captured in the same log.
    """
    if served.code is not None:
        found: tuple[Response, int] = yield from served.code(request, served, capture, extras)
        return found
    headers = request.headers
    read = find_reader(headers.get(b"content-type", b""))
    if read is None:
        return unknown_media_type(READERS), 0
    accept = headers.get(b"accept")
    form = JSON_FORM if accept is None else find_form(accept)
    if form is None:
        return unknown_form(), 0
    try:
        names, is_by_row = wishes(request)
        if names or extras:
            extras = served.model.check_extras((*extras, *names))
        base_id = given_id(request) or new_id()
        fields = served.model.signature.fields
        is_plain = form is JSON_FORM and read is json_batch and not (extras or is_by_row)
        if whole is not None and is_plain:
            found_whole = whole.answer(request.body, base_id)
            if found_whole is not None:
                return Response(200, found_whole[0]), found_whole[1]
        batch = read(request.body, fields)
        ids = _taken_ids(batch, fields, base_id=base_id, is_by_row=is_by_row)
        answers = yield from answered(
            batch.rows, ids, served=served, capture=capture, extras=extras, is_by_row=is_by_row
        )
    except InvalidInputError as error:
        return refusal(error), 0
    if form is JSON_FORM:
        return Response(200, json_body(answers, served, is_single=batch.is_single)), len(ids)
    return _formed(form, answers, served, base_id), len(ids)


def _formed(form: Form, answers: list[dict[str, Any]], served: Served, base_id: str) -> Response:
    body = form.write(answers, served)
    head = f"x-inference-id: {base_id}\r\nx-model-version: {served.version}\r\n"
    if served.variant is not None:
        head += f"x-amzn-invoked-production-variant: {served.variant}\r\n"
    return Response(200, body, form.media_type, headers=head.encode("latin-1", "replace"))


def answered(
    rows: Sequence[Any],
    ids: Sequence[str],
    *,
    served: Served,
    capture: CaptureLog | None,
    extras: Sequence[str] = (),
    is_by_row: bool = False,
) -> Steps[list[dict[str, Any]]]:
    """Check, predict and capture rows, in turns; return one answer a row, each with its id.

    Raises
    ------
    InvalidInputError
        For the first row that cannot be used. With `is_by_row` such a row is answered with its error.
    """
    checked: list[Mapping[str, Any] | None] = []
    answers: list[dict[str, Any]] = []
    pace = _Pace()
    while len(answers) < len(rows):
        part = pace.turn(len(answers))
        if is_by_row:
            for row, answer in predicted_by_row(served.model, rows, part, extras):
                checked.append(row)
                answers.append(answer)
        else:
            read, made = predicted(served.model, rows, part, extras)
            checked += read
            answers += made
        if pace.end_turn() < len(rows):
            yield None
    captured: list[bytes] = []
    for begin in range(0, len(checked), _MAX_ROWS):
        part = slice(begin, begin + _MAX_ROWS)
        _identify(answers[part], ids[part])
        if capture is not None:
            captured.append(capture.encoded(_captured(answers[part], checked[part], served=served)))
        if part.stop < len(checked):
            yield None
    if capture is not None:
        # before the answer: whoever has an answer can rely on its capture
        capture.write(captured[0] if len(captured) == 1 else b"".join(captured))
    return answers


def media_type(request: Request) -> bytes:
    """Return the content type of a request without its parameters, in lower case."""
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def unknown_media_type(understood: Iterable[bytes]) -> Response:
    """Return the answer to a content type that is not understood, or is missing."""
    known = ", ".join(name.decode() for name in understood)
    # pages on the web can send forms and untyped bodies anywhere, but none of these types
    return error_response(415, f"Send a Content-Type that is one of {known}.")


def unknown_form() -> Response:
    """Return the answer to a request that accepts none of the forms of answers."""
    known = ", ".join(form.media_type.decode() for form in FORMS.values())
    return error_response(406, f"Answers come as {known}; accept one of them.")


def refusal(error: InvalidInputError) -> Response:
    """Return the answer to input that cannot be used."""
    status = 413 if isinstance(error, TooManyRowsError) else 400
    return error_response(status, error.message, **{"hint": error.hint, **error.facts})


def given_id(request: Request) -> str | None:
    """Return the inference id in the head of a request, if it has one that can be used."""
    for name in _ID_HEADERS:
        value = request.headers.get(name)
        if value is not None:
            return checked_inference_id(value.decode("latin-1"))
    return None


def _taken_ids(
    batch: Batch, fields: Sequence[InputField], *, base_id: str, is_by_row: bool
) -> Sequence[str]:
    """Return an id for each row, taken out of the row where it brings one.

    With `is_by_row` a row that is no object, or whose id cannot be used, is replaced by its error.

    Raises
    ------
    InvalidInputError
        If a row is no object, or two rows have one id.
    """
    rows = batch.rows
    if batch.is_single and "inference_id" not in rows[0]:
        return (base_id,)
    takes_id = not any(field.name == "inference_id" for field in fields)
    if batch.is_single and not takes_id:
        return (base_id,)
    if is_by_row:
        return _ids_by_row(batch, takes_id=takes_id, base_id=base_id)
    if set(map(type, rows)) == {dict} and not (
        takes_id and any(map(contains, rows, repeat("inference_id")))
    ):
        return [f"{base_id}:{index}" for index in range(len(rows))]
    ids = [_taken_id(row, at, takes_id=takes_id, base_id=base_id) for at, row in enumerate(rows)]
    if len(set(ids)) < len(ids):
        raise _repeated_id(ids)
    return ids


def _taken_id(row: Any, index: int, *, takes_id: bool, base_id: str) -> str:
    if type(row) is not dict:
        raise not_a_row(row, index)
    if takes_id and "inference_id" in row:
        return checked_inference_id(row.pop("inference_id"), index=index)
    return f"{base_id}:{index}"


def _ids_by_row(batch: Batch, *, takes_id: bool, base_id: str) -> list[str]:
    rows: list[Any] = list(batch.rows)
    ids: list[str] = []
    seen: set[str] = set()
    for index, row in enumerate(rows):
        found = f"{base_id}:{index}"
        try:
            found = _taken_id(row, index, takes_id=takes_id, base_id=base_id)
            if found in seen:
                raise _repeated_id([*ids, found])
        except InvalidInputError as error:
            rows[index] = error
        seen.add(found)
        ids.append(found)
    batch.rows[:] = rows  # type: ignore[index] # the readers make lists
    return ids


def _identify(answers: Sequence[dict[str, Any]], ids: Sequence[str]) -> None:
    """Give every answer its id, after a look at its numbers."""
    if _are_sayable(answers, "prediction") and _are_sayable(answers, "probability"):
        for answer, inference_id in zip(answers, ids, strict=True):
            answer["inference_id"] = inference_id
        return
    for answer, inference_id in zip(answers, ids, strict=True):
        if ERROR in answer:
            answer["inference_id"] = inference_id
            continue
        for value in (answer["prediction"], answer.get("probability")):
            # JSON has no way to say it, and null would look like an answer
            if isinstance(value, float) and not math.isfinite(value):
                raise BackendError(f"The model answered {value} to inference {inference_id!r}.")
        answer["inference_id"] = inference_id


def _are_sayable(answers: Sequence[dict[str, Any]], name: str) -> bool:
    """Return whether all values of a name are of one plain kind and finite; False if in doubt."""
    values = [answer.get(name) for answer in answers]
    kinds = set(map(type, values))
    if kinds == {float}:
        return math.isfinite(sum(values))  # type: ignore[arg-type] # floats, asked above
    return len(kinds) == 1 and kinds <= _SAYABLE


def _captured(
    answers: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any] | None],
    *,
    served: Served,
) -> list[CapturedPrediction]:
    at = utc_text(datetime.now(UTC))
    return [
        CapturedPrediction(
            inference_id=answer["inference_id"],
            at=at,
            version=served.version,
            variant=served.variant,
            shadow=served.is_shadow,
            inputs=row,  # type: ignore[arg-type] # encoded at once, never changed
            prediction=answer["prediction"],
            probability=answer.get("probability"),
            probabilities=answer.get("probabilities"),
        )
        for row, answer in zip(rows, answers, strict=True)
        if row is not None
    ]


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
