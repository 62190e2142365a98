"""Answers and errors as bytes, by the shapes of their operation."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from xml.sax.saxutils import escape

from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.message import Answer, FilePart

_JSON_TYPE = "application/x-amz-json-1.1"
_ILLEGAL = {number: "�" for number in range(32) if number not in (9, 10, 13)}


def json_answer(shape: Any, value: Mapping[str, Any], *, request_id: str) -> Answer:
    """Return the answer of a JSON service; what the shape does not know is left out."""
    body = {} if shape is None else _to_json(shape, value)
    headers = [("content-type", _JSON_TYPE), ("x-amzn-RequestId", request_id)]
    return Answer(headers=headers, body=json.dumps(body).encode())


def json_error(error: ApiError, *, request_id: str) -> Answer:
    """Return an error of a JSON service."""
    body = {"__type": error.code, "message": error.message, **error.extra}
    headers = [
        ("content-type", _JSON_TYPE),
        ("x-amzn-RequestId", request_id),
        ("x-amzn-ErrorType", error.code),
    ]
    return Answer(status=error.status, headers=headers, body=json.dumps(body).encode())


def _to_json(shape: Any, value: Any) -> Any:
    kind = shape.type_name
    if kind == "structure":
        # absent members are left out: clients read an empty structure as one that lacks something
        pairs = (
            (member.serialization.get("name", name), member, value.get(name))
            for name, member in shape.members.items()
        )
        return {wire: _to_json(member, each) for wire, member, each in pairs if each is not None}
    if kind == "list":
        return [_to_json(shape.member, each) for each in value]
    if kind == "map":
        return {key: _to_json(shape.value, each) for key, each in value.items()}
    if kind == "timestamp":
        return _seconds(value)
    if kind == "blob":
        return base64.b64encode(value).decode()
    return value


def _seconds(value: Any) -> float:
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return round(at.timestamp(), 3) if isinstance(at, datetime) else float(at)


def query_answer(operation: Any, value: Mapping[str, Any], *, request_id: str) -> Answer:
    """Return the answer of STS or IAM."""
    shape, name = operation.output_shape, operation.name
    inner = ""
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper", f"{name}Result")
        inner = f"<{wrapper}>{''.join(_members(shape, value))}</{wrapper}>"
    space = operation.service_model.metadata["xmlNamespace"]
    text = (
        f'<{name}Response xmlns="{space}">{inner}<ResponseMetadata>'
        f"<RequestId>{request_id}</RequestId></ResponseMetadata></{name}Response>"
    )
    headers = [("content-type", "text/xml"), ("x-amzn-RequestId", request_id)]
    return Answer(headers=headers, body=text.encode())


def query_error(error: ApiError, *, request_id: str) -> Answer:
    """Return an error of STS or IAM."""
    text = (
        "<ErrorResponse><Error><Type>Sender</Type>"
        f"<Code>{_escaped(error.code)}</Code><Message>{_escaped(error.message)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    )
    headers = [("content-type", "text/xml"), ("x-amzn-RequestId", request_id)]
    return Answer(status=error.status, headers=headers, body=text.encode())


def rest_answer(
    operation: Any, value: Mapping[str, Any], *, request_id: str, is_xml: bool
) -> Answer:
    """Return the answer of a REST service: what goes into headers, and what into the body."""
    shape = operation.output_shape
    name = "x-amz-request-id" if is_xml else "x-amzn-RequestId"
    headers: list[tuple[str, str]] = [(name, request_id)]
    status = value.get("__status") or operation.http.get("responseCode") or 200
    if shape is None:
        return Answer(status=status, headers=headers)
    for key, member in shape.members.items():
        each = value.get(key)
        if each is None:
            continue
        place = member.serialization.get("location")
        wire = member.serialization.get("name", key)
        if place == "header":
            headers.append((wire, _header_text(member, each)))
        elif place == "headers":
            headers += [(f"{wire}{own}", str(text)) for own, text in each.items()]
        elif place == "statusCode":
            status = int(each)
    body, kind = _rest_body(shape, value, is_xml=is_xml)
    if kind and not any(key.lower() == "content-type" for key, _ in headers):
        headers.append(("content-type", kind))
    return Answer(status=status, headers=headers, body=body, length=value.get("__length"))


def _rest_body(
    shape: Any, value: Mapping[str, Any], *, is_xml: bool
) -> tuple[bytes | FilePart, str]:
    payload = shape.serialization.get("payload")
    if payload:
        member, each = shape.members[payload], value.get(payload)
        if each is None:
            return b"", ""
        if member.type_name in ("blob", "string"):
            return (each.encode() if isinstance(each, str) else each), ""
        if isinstance(each, bytes):
            return each, "application/vnd.amazon.eventstream"
        if is_xml:
            return _document(payload, member, each), "application/xml"
        return json.dumps(_to_json(member, each)).encode(), "application/json"
    if all(member.serialization.get("location") for member in shape.members.values()):
        return b"", ""
    if is_xml:
        name = shape.serialization.get("locationName") or shape.name.removesuffix("Output")
        root = _ROOTS.get(name, f"{name}Result")
        return _document(root, shape, value), "application/xml"
    own = {key: each for key, each in value.items() if not key.startswith("__")}
    return json.dumps(_to_json(shape, own)).encode(), "application/json"


# the names that S3 gives its documents where they are not the operation's
_ROOTS = {
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListParts": "ListPartsResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketLocation": "LocationConstraint",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetObjectTagging": "Tagging",
    "ListMultipartUploads": "ListMultipartUploadsResult",
}
_SPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def _document(name: str, shape: Any, value: Any) -> bytes:
    if name == "LocationConstraint":
        inner = _escaped(value.get("LocationConstraint") or "")
    else:
        inner = "".join(_members(shape, value))
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return f'{head}<{name} xmlns="{_SPACE}">{inner}</{name}>'.encode()


def s3_error(error: ApiError, *, request_id: str, resource: str, is_head: bool) -> Answer:
    """Return an error of S3, which has no body after HEAD."""
    headers = [("x-amz-request-id", request_id), ("content-type", "application/xml")]
    if is_head or error.status == 304:
        return Answer(status=error.status, headers=headers[:1], length=0)
    extra = "".join(f"<{key}>{_escaped(str(each))}</{key}>" for key, each in error.extra.items())
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{_escaped(error.code)}</Code><Message>{_escaped(error.message)}</Message>"
        f"{extra}<Resource>{_escaped(resource)}</Resource><RequestId>{request_id}</RequestId></Error>"
    )
    return Answer(status=error.status, headers=headers, body=text.encode())


def _members(shape: Any, value: Mapping[str, Any]) -> Iterator[str]:
    for key, member in shape.members.items():
        each = value.get(key)
        if each is None or member.serialization.get("location"):
            continue
        yield _element(member.serialization.get("name", key), member, each)


def _element(name: str, shape: Any, value: Any) -> str:
    kind = shape.type_name
    if kind == "list":
        if shape.serialization.get("flattened"):
            return "".join(_element(name, shape.member, each) for each in value)
        own = shape.member.serialization.get("name", "member")
        inner = "".join(_element(own, shape.member, each) for each in value)
        return f"<{name}>{inner}</{name}>"
    if kind == "structure":
        return f"<{name}>{''.join(_members(shape, value))}</{name}>"
    if kind == "map":
        pairs = "".join(
            f"<entry><key>{_escaped(key)}</key>{_element('value', shape.value, each)}</entry>"
            for key, each in value.items()
        )
        return f"<{name}>{pairs}</{name}>"
    return f"<{name}>{_escaped(_text(shape, value))}</{name}>"


def _text(shape: Any, value: Any) -> str:
    if shape.type_name == "timestamp":
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
    if shape.type_name == "boolean":
        return "true" if value else "false"
    return str(value)


def _header_text(shape: Any, value: Any) -> str:
    if shape.type_name == "timestamp":
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return format_datetime(at.astimezone(UTC), usegmt=True)
    return _text(shape, value)


def _escaped(text: str) -> str:
    # what XML cannot say even as a reference
    return escape(text.translate(_ILLEGAL)).replace("\r", "&#13;")
