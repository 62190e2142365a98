"""Requests and answers of the built-in algorithms, as theirs are, for endpoints of ours."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from loopwright.core.errors import InvalidInputError
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.image import is_before
from loopwright.sagemaker.record_io import read_records, write_labels

_JSON, _LINES, _CSV = "application/json", "application/jsonlines", "text/csv"
_RECORDS = "application/x-recordio-protobuf"
_LIBSVM = ("text/libsvm", "text/x-libsvm")
# from this version on XGBoost's container writes a line a row
_IN_LINES = (1, 2, 2)


def csv_of(body: bytes, content_type: str, settings: Mapping[str, Any]) -> bytes:
    """Return the rows of a request as CSV without a header, which our endpoints read.

    Raises
    ------
    ApiError
        `ModelError`, as the algorithm's own container would refuse.
    """
    kind = content_type.partition(";")[0].strip().lower() or _CSV
    try:
        if kind == _CSV:
            return _checked_csv(body, settings["n_features"])
        if kind in _LIBSVM:
            return _lines(_libsvm(body, settings["n_features"]))
        if kind == _RECORDS:
            return _lines(read_records(body)[0].tolist())
        if kind == _JSON:
            return _lines([_features(each) for each in json.loads(body)["instances"]])
        if kind == _LINES:
            return _lines(
                [_features(json.loads(line)) for line in body.splitlines() if line.strip()]
            )
    except (ValueError, LookupError, TypeError, InvalidInputError) as error:
        raise model_error(400, f"The body cannot be read as {kind}: {error}") from error
    raise model_error(415, f"The content type {kind!r} is not supported by this model.")


def _checked_csv(body: bytes, n_features: int) -> bytes:
    lines = [line for line in body.decode().splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        found = line.count(",") + 1
        if found != n_features:
            raise ValueError(
                f"row {number} has {found} values, the model was trained on {n_features}"
            )
    return "\n".join(lines).encode() + b"\n"


def _lines(rows: list[list[float]]) -> bytes:
    out = io.StringIO()
    for row in rows:
        # what is missing is an empty cell
        out.write(",".join("" if value != value else repr(float(value)) for value in row) + "\n")
    return out.getvalue().encode()


def _libsvm(body: bytes, n_features: int) -> list[list[float]]:
    rows = []
    for line in body.decode().splitlines():
        words = line.split()
        if not words:
            continue
        row = [float("nan")] * n_features
        for word in words:
            index, colon, value = word.partition(":")
            if colon:
                row[int(index)] = float(value)
        rows.append(row)
    return rows


def _features(instance: Mapping[str, Any]) -> list[float]:
    found = instance.get("features")
    if found is None:
        found = instance["data"]["features"]["values"]
    return [float(value) for value in found]


def answer_of(
    body: bytes, accept: str, settings: Mapping[str, Any], *, is_batch: bool = False
) -> tuple[bytes, str]:
    """Return an answer of ours in the words of the algorithm, and its media type.

    Parameters
    ----------
    is_batch
        Whether it is of a batch transform, where all of XGBoost's containers write in lines.
    """
    value = json.loads(body)
    answers = value.get("predictions", [value])
    name = settings["algorithm"]
    kind = accept.partition(";")[0].strip().lower()
    if name == "xgboost":
        in_lines = is_batch or not is_before(settings.get("tag") or "1", _IN_LINES)
        return _of_xgboost(answers, kind, settings["hyperparameters"], in_lines=in_lines)
    if name == "lightgbm":
        return _of_lightgbm(answers)
    said = [_of_learner(each, name) for each in answers]
    if kind == _LINES:
        return b"".join(json.dumps(each).encode() + b"\n" for each in said), _LINES
    if kind == _RECORDS:
        return write_labels([_values(each) for each in said]), _RECORDS
    if kind == _CSV:
        label = [str(each.get("predicted_label", each.get("score"))) for each in said]
        return ("\n".join(label) + "\n").encode(), _CSV
    return json.dumps({"predictions": said}).encode(), _JSON


def _values(answer: Mapping[str, Any]) -> dict[str, list[float]]:
    return {
        name: [float(each) for each in value] if isinstance(value, list) else [float(value)]
        for name, value in answer.items()
    }


def _number(text: Any) -> float:
    return float(text)


def _shares(answer: Mapping[str, Any]) -> list[float]:
    """Return the probabilities of an answer in the order of the classes, which are numbers."""
    if "probabilities" in answer:
        pairs = sorted(answer["probabilities"].items(), key=lambda pair: int(pair[0]))
        return [float(share) for _, share in pairs]
    share = float(answer["probability"])
    return [1.0 - share, share]


def _of_xgboost(
    answers: list[dict[str, Any]], kind: str, texts: Mapping[str, str], *, in_lines: bool
) -> tuple[bytes, str]:
    objective = texts.get("objective", "reg:squarederror").strip('"')
    if objective == "multi:softprob":
        values: list[Any] = [_shares(each) for each in answers]
    elif objective == "binary:logistic":
        values = [float(each["probability"]) for each in answers]
    else:
        values = [_number(each["prediction"]) for each in answers]
    if kind == _JSON:
        return json.dumps({"predictions": [{"score": each} for each in values]}).encode(), _JSON
    if kind == _LINES:
        return b"".join(json.dumps({"score": each}).encode() + b"\n" for each in values), _LINES
    if in_lines:
        lines = (",".join(map(str, v)) if isinstance(v, list) else str(v) for v in values)
        return "".join(f"{line}\n" for line in lines).encode(), "text/csv; charset=utf-8"
    return ",".join(map(str, values)).encode(), "text/csv; charset=utf-8"


def _of_lightgbm(answers: list[dict[str, Any]]) -> tuple[bytes, str]:
    if any("probability" in each or "probabilities" in each for each in answers):
        return json.dumps({"probabilities": [_shares(each) for each in answers]}).encode(), _JSON
    return json.dumps(
        {"prediction": [_number(each["prediction"]) for each in answers]}
    ).encode(), _JSON


def _of_learner(answer: Mapping[str, Any], name: str) -> dict[str, Any]:
    label = _number(answer["prediction"])
    if name == "knn":
        return {"predicted_label": label}
    if "probabilities" in answer:
        return {"score": _shares(answer), "predicted_label": int(label)}
    if "probability" in answer:
        return {"score": float(answer["probability"]), "predicted_label": int(label)}
    return {"score": label}


def model_error(status: int, message: str, *, log: str = "") -> ApiError:
    """Return the error of a model that did not answer."""
    whose = "client" if status < 500 else "server"
    return ApiError(
        "ModelError",
        f'Received {whose} error ({status}) from primary with message "{message}". {log}'.rstrip(),
        OriginalStatusCode=status,
        OriginalMessage=message,
        LogStreamArn=log,
    )
