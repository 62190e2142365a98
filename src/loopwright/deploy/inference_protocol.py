"""The Open Inference Protocol, version 2: rows as tensors, one for each column of the model.

See "Open Inference Protocol" (KServe, Triton, MLServer): REST, JSON tensors. A missing value is null,
which the protocol leaves open. A model of numbers alone may also be asked with one matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import new_id
from loopwright.deploy.capture import CaptureLog, plain_value
from loopwright.deploy.dispatch import Steps
from loopwright.deploy.invocation import answered, given_id, media_type
from loopwright.deploy.labels import checked_inference_id
from loopwright.deploy.message import Request, Response
from loopwright.deploy.model import InputField, Served
from loopwright.deploy.rows import MAX_ROWS, TooManyRowsError, json_value, too_many_rows

INFER = "/v2/models/{name}/infer"
"""The route of predictions, as the metrics call it."""

_encode = msgspec.json.Encoder(enc_hook=plain_value).encode
_DATATYPES = {"number": "FP64", "boolean": "BOOL"}
_FLOATS = ("FP16", "FP32", "FP64")
_WHOLE = {
    **{f"INT{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}


def protocol_error(status: int, message: str, *, headers: bytes = b"") -> Response:
    """Return an error as the protocol wants it: `{"error": "<text>"}`."""
    return Response(status, _encode({"error": message}), headers=headers)


def server_metadata() -> dict[str, Any]:
    """Return the answer to `GET /v2`."""
    return {"name": "loopwright", "version": _release(), "extensions": []}


@lru_cache(maxsize=1)
def _release() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("loopwright")
    except PackageNotFoundError:  # run from its source
        return "unknown"


def model_metadata(served: Served) -> dict[str, Any]:
    """Return the answer to `GET /v2/models/{name}`."""
    model = served.model
    inputs = [
        {"name": field.name, "datatype": _datatype(field), "shape": [-1]}
        for field in model.signature.fields
    ]
    outputs: list[dict[str, Any]] = [
        {"name": "prediction", "datatype": _prediction_datatype(served), "shape": [-1]}
    ]
    if model.task == "binary":
        outputs.append({"name": "probability", "datatype": "FP64", "shape": [-1]})
    elif model.task == "multiclass":
        shape = [-1, len(model.classes or ())]
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": shape})
    outputs.append({"name": "inference_id", "datatype": "BYTES", "shape": [-1]})
    return {
        "name": model.name,
        "versions": [str(served.version)],
        "platform": "loopwright",
        "inputs": inputs,
        "outputs": outputs,
    }


def infer(
    request: Request, *, served: Served, capture: CaptureLog | None
) -> Steps[tuple[Response, int]]:
    """Answer `POST /v2/models/{name}/infer`, in turns; return the answer and how many rows it has.

    A request's `parameters` may hold `with`, the names of what is to be added to every answer, such
    as `interval`; each comes as a tensor of JSON texts.
    """
    if media_type(request) not in (b"", b"application/json"):
        return protocol_error(415, "Send JSON tensors as application/json."), 0
    if b"inference-header-content-length" in request.headers:
        return protocol_error(400, "Binary tensors are not understood; send JSON tensors."), 0
    try:
        asked = _checked_request(json_value(request.body))
        extras = _extras(asked, served)
        rows = _rows(asked["inputs"], served.model.signature.fields)
        wanted = _wanted_outputs(asked, served, extras)
        ids, rows = _ids(request, asked, rows, served.model.signature.fields)
        answers = yield from answered(rows, ids, served=served, capture=capture, extras=extras)
    except InvalidInputError as error:
        status = 413 if isinstance(error, TooManyRowsError) else 400
        return protocol_error(status, str(error)), 0
    body = {
        "model_name": served.model.name,
        "model_version": str(served.version),
        **({"id": asked["id"]} if "id" in asked else {}),
        "outputs": [_output(name, answers, served) for name in wanted],
    }
    return Response(200, _encode(body)), len(answers)


# --- what is asked ---


def _checked_request(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not isinstance(value.get("inputs"), list):
        raise _wrong('The body is not {"inputs": [...]}.', "inputs")
    if not isinstance(value.get("id", ""), str):
        raise _wrong("id is not text.", "id")
    if not isinstance(value.get("parameters", {}), dict):
        raise _wrong("parameters is not an object.", "parameters")
    return value


def _extras(asked: Mapping[str, Any], served: Served) -> tuple[str, ...]:
    names = asked.get("parameters", {}).get("with", "")
    if not isinstance(names, str):
        raise _wrong("The parameter with is not text such as 'interval,reasons'.", "with")
    found = [name.strip() for name in names.split(",") if name.strip()]
    return served.model.check_extras(found) if found else ()


def _rows(inputs: Sequence[Any], fields: Sequence[InputField]) -> list[dict[str, Any]]:
    tensors: dict[str, list[Any]] = {}
    n_rows: int | None = None
    for tensor in inputs:
        name, shape, values = _tensor(tensor)
        if len(shape) == 2 and shape[1] != 1:
            if len(inputs) != 1 or shape[1] != len(fields):
                raise _wrong(
                    f"The tensor {name!r} has the shape {shape}.",
                    name,
                    f"[rows] for each column, or one tensor [rows, {len(fields)}]",
                )
            width = shape[1]
            tensors = {field.name: values[at::width] for at, field in enumerate(fields)}
        elif name in tensors:
            raise _wrong(f"The tensor {name!r} comes twice.", name, "a tensor for each column")
        else:
            tensors[name] = values
        if n_rows not in (None, shape[0]):
            raise _wrong(f"{name!r} has {shape[0]} rows, others {n_rows}.", name, f"{n_rows} rows")
        n_rows = shape[0]
    if not n_rows:
        raise _wrong("The request has no rows.", "inputs", "rows")
    if n_rows > MAX_ROWS:
        raise too_many_rows()
    names = list(tensors)
    return [dict(zip(names, values, strict=True)) for values in zip(*tensors.values(), strict=True)]


def _tensor(tensor: Any) -> tuple[str, list[int], list[Any]]:
    """Return name, shape and flat values of a tensor, each of its datatype."""
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise _wrong("A tensor is no object with a name.", "inputs")
    name = tensor["name"][:200]
    shape, datatype, data = tensor.get("shape"), tensor.get("datatype"), tensor.get("data")
    fits = _CHECKS.get(datatype) if isinstance(datatype, str) else None
    if fits is None:
        raise _wrong(f"{name!r} has the datatype {str(datatype)[:80]!r}.", name, sorted(_CHECKS))
    if (
        not isinstance(shape, list)
        or len(shape) not in (1, 2)
        or not all(type(size) is int and 0 <= size <= 2**31 for size in shape)
    ):
        raise _wrong(f"{name!r} has the shape {str(shape)[:80]}.", name, "[rows]")
    if not isinstance(data, list):
        raise _wrong(f"{name!r} has no list of data.", name, "a list")
    if len(shape) == 2 and data and isinstance(data[0], list):
        if not all(isinstance(row, list) and len(row) == shape[1] for row in data):
            raise _wrong(f"The rows of {name!r} do not have {shape[1]} values each.", name)
        data = [value for row in data for value in row]
    if len(data) != math.prod(shape):
        raise _wrong(f"{name!r} has {len(data)} values, its shape is {shape}.", name)
    for index, value in enumerate(data):
        if value is not None and not fits(value):
            place = f"{name!r} of row {index // (shape[1] if len(shape) == 2 else 1)}"
            raise _wrong(f"{place} is {str(value)[:80]!r}, which is no {datatype}.", name, datatype)
    return name, shape, data


def _whole_within(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "BYTES": lambda value: type(value) is str,
    "BOOL": lambda value: type(value) is bool,
    **dict.fromkeys(_FLOATS, lambda value: type(value) in (int, float)),
    **{name: _whole_within(least, most) for name, (least, most) in _WHOLE.items()},
}


def _ids(
    request: Request,
    asked: Mapping[str, Any],
    rows: list[dict[str, Any]],
    fields: Sequence[InputField],
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return an id for each row: of a tensor `inference_id`, else made of the request's own id."""
    if "inference_id" in rows[0] and not any(field.name == "inference_id" for field in fields):
        ids = [
            checked_inference_id(row.pop("inference_id"), index=at) for at, row in enumerate(rows)
        ]
        if len(set(ids)) < len(ids):
            raise _wrong("Two rows have the same inference_id.", "inference_id", "one each")
        return ids, rows
    base = given_id(request) or (checked_inference_id(asked["id"]) if asked.get("id") else new_id())
    return ([base] if len(rows) == 1 else [f"{base}:{at}" for at in range(len(rows))]), rows


def _wanted_outputs(asked: Mapping[str, Any], served: Served, extras: Sequence[str]) -> list[str]:
    known = [each["name"] for each in model_metadata(served)["outputs"]] + list(extras)
    outputs = asked.get("outputs")
    if outputs is None or outputs == []:
        return known
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise _wrong("outputs is not a list of objects.", "outputs")
    names = [each.get("name") for each in outputs]
    for name in names:
        if name not in known:
            raise _wrong(f"There is no output {str(name)[:80]!r}.", "outputs", known)
    return names


def _wrong(message: str, field: str, expected: Any = None) -> InvalidInputError:
    hint = f"Expected {expected}." if expected is not None else ""
    return InvalidInputError(message, hint=hint, field=field, expected=expected)


# --- what is answered ---


def _datatype(field: InputField) -> str:
    return _DATATYPES.get(field.kind, "BYTES")


def _prediction_datatype(served: Served) -> str:
    return "FP64" if served.model.task == "regression" else "BYTES"


def _output(name: str, answers: Sequence[Mapping[str, Any]], served: Served) -> dict[str, Any]:
    shape = [len(answers)]
    values: list[Any]
    if name == "probabilities":
        classes = [str(each) for each in served.model.classes or ()]
        values = [answer[name][each] for answer in answers for each in classes]
        parameters = {"classes": ",".join(classes)}
        return {
            "name": name,
            "datatype": "FP64",
            "shape": [*shape, len(classes)],
            "parameters": parameters,
            "data": values,
        }
    values = [answer[name] for answer in answers]
    datatype = "BYTES"
    if name == "probability" or (name == "prediction" and served.model.task == "regression"):
        datatype = "FP64"
    else:
        values = [each if isinstance(each, str) else _encode(each).decode() for each in values]
    return {"name": name, "datatype": datatype, "shape": shape, "data": values}
