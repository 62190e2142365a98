"""What a request asks for, read from its bytes by the shapes of its operation."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, unquote
from xml.etree import ElementTree

from loopwright.sagemaker.checking import unserializable
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.message import Request

LARGEST_JSON = 16 << 20
_DEEPEST = 64
_JAVA = {
    "string": "String",
    "structure": "Structure",
    "list": "List",
    "map": "Map",
    "boolean": "Boolean",
    "integer": "Integer",
    "long": "Long",
    "float": "Float",
    "double": "Double",
    "timestamp": "Timestamp",
    "blob": "Blob",
}


def json_input(shape: Any, body: bytes) -> dict[str, Any]:
    """Return what the body of a JSON request says; members the shape does not know are left out.

    Raises
    ------
    ApiError
        `SerializationException` if it is no JSON, or a value has the wrong type.
    """
    if not body.strip():
        return {}
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise unserializable("The body is no JSON object.") from error
    if not isinstance(value, dict):
        raise unserializable("Start of structure or map found where not expected.")
    return {} if shape is None else _of_json(shape, value, 0)


def _of_json(shape: Any, value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise unserializable("The body is nested too deeply.")
    return _JSON[shape.type_name](shape, value, depth)


def _structure(shape: Any, value: Any, depth: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unexpected(value, shape)
    found = {}
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        if value.get(wire) is not None:
            found[name] = _of_json(member, value[wire], depth + 1)
    return found


def _list(shape: Any, value: Any, depth: int) -> list[Any]:
    if not isinstance(value, list):
        raise _unexpected(value, shape)
    return [_of_json(shape.member, each, depth + 1) for each in value]


def _map(shape: Any, value: Any, depth: int) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unexpected(value, shape)
    return {key: _of_json(shape.value, each, depth + 1) for key, each in value.items()}


def _string(shape: Any, value: Any, _depth: int) -> str:
    if isinstance(value, (bool, int, float)):
        raise unserializable(f"{_kind_of(value)} can not be converted to a String")
    if not isinstance(value, str):
        raise _unexpected(value, shape)
    return value


def _number(shape: Any, value: Any, _depth: int) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise unserializable(f"{_kind_of(value)} can not be converted to {_article(shape)}")
    if shape.type_name in ("integer", "long"):
        if value != value or value in (float("inf"), float("-inf")):
            raise unserializable(f"{value} can not be converted to {_article(shape)}")
        return int(value)
    return float(value)


def _boolean(shape: Any, value: Any, _depth: int) -> bool:
    if not isinstance(value, bool):
        raise unserializable(f"{_kind_of(value)} can not be converted to {_article(shape)}")
    return value


def _blob(shape: Any, value: Any, _depth: int) -> bytes:
    try:
        return base64.b64decode(_string(shape, value, 0), validate=True)
    except binascii.Error as error:
        raise unserializable("A blob is not in Base64.") from error


def _timestamp(shape: Any, value: Any, _depth: int) -> datetime:
    return time_of(value, shape.serialization.get("timestampFormat", "unixTimestamp"))


_JSON: Mapping[str, Callable[[Any, Any, int], Any]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _string,
    "integer": _number,
    "long": _number,
    "float": _number,
    "double": _number,
    "boolean": _boolean,
    "blob": _blob,
    "timestamp": _timestamp,
}


def time_of(value: Any, form: str) -> datetime:
    """Return a time from seconds since 1970, ISO 8601 or RFC 822, whichever it is in.

    Raises
    ------
    ApiError
        `SerializationException` if it is none of these.
    """
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if form == "rfc822":
            return parsedate_to_datetime(value).astimezone(UTC)
        at = datetime.fromisoformat(value)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise unserializable(f"{str(value)[:80]!r} is no time.") from error


def _unexpected(value: Any, shape: Any) -> ApiError:
    return unserializable(f"Unexpected {_kind_of(value)} where {_article(shape)} is expected.")


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return f"{str(value).upper()}_VALUE"
    if isinstance(value, (int, float)):
        return "NUMBER_VALUE"
    if isinstance(value, str):
        return "STRING_VALUE"
    if isinstance(value, list):
        return "START_ARRAY"
    return "START_OBJECT" if isinstance(value, dict) else "NULL_VALUE"


def _article(shape: Any) -> str:
    name = _JAVA[shape.type_name]
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


def query_input(shape: Any, body: bytes, query: str) -> tuple[str, dict[str, Any]]:
    """Return the action and the values of a form, as STS and IAM are asked."""
    try:
        text = body.decode() or query
        form = dict(parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text)))
    except (UnicodeDecodeError, ValueError) as error:
        raise ApiError("MalformedInput", "The body is no form.") from error
    return form.get("Action", ""), {} if shape is None else _of_form(shape, form, "")


def _of_form(shape: Any, form: Mapping[str, str], prefix: str) -> Any:
    kind = shape.type_name
    if kind == "structure":
        found = {}
        for name, member in shape.members.items():
            wire = member.serialization.get("name", name)
            value = _of_form(member, form, f"{prefix}.{wire}" if prefix else wire)
            if value is not None:
                found[name] = value
        return found if found or not prefix else None
    if kind == "list":
        values: list[Any] = []
        between = "" if shape.serialization.get("flattened") else ".member"
        while (
            value := _of_form(shape.member, form, f"{prefix}{between}.{len(values) + 1}")
        ) is not None:
            values.append(value)
        return values or None
    return None if prefix not in form else of_text(shape, form[prefix])


def of_text(shape: Any, text: str, *, form: str = "iso8601") -> Any:
    """Return a plain value from its text in a header, a query or a form."""
    kind = shape.type_name
    try:
        if kind in ("integer", "long"):
            return int(text)
        if kind in ("float", "double"):
            return float(text)
    except ValueError as error:
        raise ApiError("InvalidArgument", f"{text[:80]!r} is no {kind}.") from error
    if kind == "boolean":
        return text.lower() == "true"
    if kind == "timestamp":
        return time_of(text, shape.serialization.get("timestampFormat", form))
    if kind == "list":
        return [of_text(shape.member, each.strip()) for each in text.split(",")]
    return text


def rest_input(
    operation: Any, request: Request, labels: Mapping[str, str], *, is_xml: bool
) -> dict[str, Any]:
    """Return what a REST request asks for, from its path, query, headers and body.

    A streaming body is given as it is (`message.Body`).
    """
    shape = operation.input_shape
    if shape is None:
        return {}
    query = request.query
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        place = member.serialization.get("location")
        wire = member.serialization.get("name", name)
        if place == "uri" and wire in labels:
            found[name] = of_text(member, labels[wire])
        elif place == "querystring" and wire in query:
            found[name] = of_text(member, query[wire])
        elif place == "header" and wire.lower() in request.headers:
            found[name] = of_text(member, request.headers[wire.lower()], form="rfc822")
        elif place == "headers":
            start = wire.lower()
            pairs = request.headers.items()
            found[name] = {key[len(start) :]: each for key, each in pairs if key.startswith(start)}
    found.update(_rest_body(shape, request, is_xml=is_xml))
    return found


def _rest_body(shape: Any, request: Request, *, is_xml: bool) -> dict[str, Any]:
    payload = shape.serialization.get("payload")
    if payload:
        member = shape.members[payload]
        if member.type_name in ("blob", "string"):
            return {payload: request.body}
        data = request.body.read(LARGEST_JSON)
        if not data.strip():
            return {}
        value = _of_xml(member, xml_root(data)) if is_xml else json_input(member, data)
        return {payload: value}
    if any("location" not in each.serialization for each in shape.members.values()):
        data = request.body.read(LARGEST_JSON)
        if data.strip():
            return _of_xml(shape, xml_root(data)) if is_xml else json_input(shape, data)
    return {}


def xml_root(data: bytes) -> ElementTree.Element:
    """Return the root of an XML document that declares nothing of its own.

    Raises
    ------
    ApiError
        `MalformedXML` if it is none, or has a document type, which may hold an entity bomb.
    """
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise _malformed_xml()
    try:
        return ElementTree.fromstring(data)  # noqa: S314 no entities can be declared, see above
    except ElementTree.ParseError as error:
        raise _malformed_xml() from error


def _malformed_xml() -> ApiError:
    return ApiError(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
    )


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _of_xml(shape: Any, element: ElementTree.Element) -> Any:
    kind = shape.type_name
    if kind == "structure":
        found = {}
        for name, member in shape.members.items():
            if member.serialization.get("location"):
                continue
            wire = member.serialization.get("name", name)
            nodes = [each for each in element if _local(each) == wire]
            if member.type_name == "list" and member.serialization.get("flattened"):
                own = member.member.serialization.get("name", wire)
                nodes = [each for each in element if _local(each) in (wire, own)]
                if nodes:
                    found[name] = [_of_xml(member.member, each) for each in nodes]
            elif nodes:
                found[name] = _of_xml(member, nodes[0])
        return found
    if kind == "list":
        return [_of_xml(shape.member, each) for each in element]
    return of_text(shape, element.text or "")


class Routes:
    """The operations of a REST service, found by method, path and query.

    Parameters
    ----------
    service
        The service model.
    """

    def __init__(self, service: Any) -> None:
        self._routes = []
        for name in service.operation_names:
            operation = service.operation_model(name)
            path, _, query = operation.http["requestUri"].partition("?")
            wanted = {each.partition("=")[0] for each in query.split("&") if each}
            required, headers = _required(operation.input_shape)
            self._routes.append(
                (
                    operation.http["method"],
                    _path_pattern(path),
                    (wanted - {"x-id"}) | required,
                    headers,
                    operation,
                )
            )

    def find(self, request: Request) -> tuple[Any, dict[str, str]] | None:
        """Return the operation a request means and what its path says, or None."""
        query, best, found = request.query, -1, None
        for method, path, wanted, headers, operation in self._routes:
            if method != request.method or not wanted <= query.keys():
                continue
            if not headers <= request.headers.keys():
                continue
            match = path.fullmatch(request.raw_path)
            # what is asked for most precisely wins
            rank = len(wanted) * 4 + len(headers) * 2
            if match and rank > best:
                best = rank
                found = (
                    operation,
                    {name: _unquoted(each) for name, each in match.groupdict().items()},
                )
        return found


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise ApiError("InvalidURI", "Couldn't parse the specified URI.") from error


def _path_pattern(path: str) -> re.Pattern[str]:
    """Return the pattern of a path; `{Key+}` takes slashes too, and one at the end may be missing."""
    parts = re.split(r"(\{[^}]+\})", path)
    text = ""
    for part in parts:
        if part.startswith("{"):
            name = part[1:-1]
            text += f"(?P<{name.rstrip('+')}>{'.+' if name.endswith('+') else '[^/]+'})"
        else:
            text += re.escape(part)
    return re.compile(text + ("/?" if not text.endswith("/") and ".+)" not in text else ""), re.S)


def _required(shape: Any) -> tuple[set[str], set[str]]:
    """Return the required members of a shape that stand in the query, and those in headers."""
    query, headers = set(), set()
    for name in shape.required_members if shape else ():
        member = shape.members[name]
        wire = member.serialization.get("name", name)
        if member.serialization.get("location") == "querystring":
            query.add(wire)
        elif member.serialization.get("location") == "header":
            headers.add(wire.lower())
    return query, headers
