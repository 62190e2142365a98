"""The forms in which answers go out: JSON, JSON lines and CSV, as a request accepts them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from loopwright.deploy.capture import plain_value
from loopwright.deploy.model import Served
from loopwright.deploy.row_by_row import ERROR

_encoder = msgspec.json.Encoder(enc_hook=plain_value)
_encode = _encoder.encode
Answers = Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Form:
    """A form of answers: its media type, and what writes it."""

    media_type: bytes
    write: Callable[[Answers, Served], bytes]


def json_body(answers: list[dict[str, Any]], served: Served, *, is_single: bool) -> bytes:
    """Return answers as JSON: an object for one row, `{"predictions": [...]}` for a batch."""
    if is_single:
        answers[0]["model_version"] = served.version
        if served.variant is not None:
            answers[0]["variant"] = served.variant
        return _encode(answers[0])
    whole: dict[str, Any] = {"predictions": answers, "model_version": served.version}
    if served.variant is not None:
        whole["variant"] = served.variant
    n_errors = sum(ERROR in answer for answer in answers)
    if n_errors:
        whole["errors"] = n_errors
    return _encode(whole)


def _json(answers: Answers, served: Served) -> bytes:
    return json_body(list(answers), served, is_single=False)


def _json_lines(answers: Answers, served: Served) -> bytes:
    shared: dict[str, Any] = {"model_version": served.version}
    if served.variant is not None:
        shared["variant"] = served.variant
    return _encoder.encode_lines([{**each, **shared} for each in answers])


def _csv(answers: Answers, served: Served, *, has_header: bool = False) -> bytes:
    """Return one line an answer: prediction, probabilities, what was added, and why not.

    As SageMaker's built-in algorithms answer, the first value is the prediction and there is no
    header unless it is asked for.
    """
    classes = [str(each) for each in served.model.classes or ()]
    names = ["prediction"]
    if served.model.task == "binary":
        names.append("probability")
    elif served.model.task == "multiclass":
        names += [f"probability_{each}" for each in classes]
    usual = {"prediction", "probability", "probabilities", "inference_id", ERROR}
    extras = list(dict.fromkeys(name for each in answers for name in each if name not in usual))
    has_errors = any(ERROR in each for each in answers)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if has_header:
        writer.writerow([*names, *extras, *([ERROR] if has_errors else ())])
    for answer in answers:
        shares = answer.get("probabilities") or {}
        cells = [answer.get(name) for name in names if not name.startswith("probability_")]
        cells += [shares.get(each) for each in classes] if served.model.task == "multiclass" else []
        cells += [_cell(answer.get(name)) for name in extras]
        if has_errors:
            cells.append(answer[ERROR]["message"] if ERROR in answer else None)
        writer.writerow(cells)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    return (
        value if value is None or isinstance(value, str | int | float) else _encode(value).decode()
    )


def _csv_with_header(answers: Answers, served: Served) -> bytes:
    return _csv(answers, served, has_header=True)


JSON_FORM = Form(b"application/json", _json)
_LINES_FORM = Form(b"application/jsonlines", _json_lines)
_CSV_FORM = Form(b"text/csv; charset=utf-8; header=absent", _csv)
_CSV_HEADER_FORM = Form(b"text/csv; charset=utf-8; header=present", _csv_with_header)
FORMS: Mapping[bytes, Form] = {
    b"application/json": JSON_FORM,
    b"application/jsonlines": _LINES_FORM,
    b"text/csv": _CSV_FORM,
}
_KNOWN: Mapping[bytes, Form] = {
    **FORMS,
    b"*/*": JSON_FORM,
    b"application/*": JSON_FORM,
    b"text/*": _CSV_FORM,
    b"application/jsonl": _LINES_FORM,
    b"application/x-ndjson": _LINES_FORM,
}


@lru_cache(maxsize=64)
def find_form(accept: bytes) -> Form | None:
    """Return the form that an `Accept` header likes best of those there are; None if it likes none."""
    best, best_weight = None, 0.0
    for each in accept.split(b","):
        media, *parameters = (part.strip().lower() for part in each.split(b";"))
        form = _KNOWN.get(media)
        weight = next((_weight(part) for part in parameters if part.startswith(b"q=")), 1.0)
        if form is not None and weight > best_weight:
            is_titled = form is _CSV_FORM and b"header=present" in parameters
            best, best_weight = _CSV_HEADER_FORM if is_titled else form, weight
    return JSON_FORM if not accept.strip() else best


def _weight(part: bytes) -> float:
    try:
        return float(part[2:])
    except ValueError:
        return 0.0
