"""Every operation that is served, under requests that its own shape forbids.

The requests are made from AWS's service model, so that an operation that is added is tested as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from loopwright.sagemaker.model import operation, pattern, service
from loopwright.sagemaker.registry import all_served

from .conftest import Server

JSON = ("sagemaker", "logs")
SERVED = sorted((each.service, each.name) for each in all_served() if each.service in JSON)


@pytest.fixture(scope="module")
def wire(server: Server) -> Iterator[HTTPConnection]:
    with closing(HTTPConnection(urlsplit(server.url).netloc, timeout=20)) as connection:
        yield connection


def asked(
    wire: HTTPConnection, server: Server, name: tuple[str, str], body: object, *, secret: str = ""
) -> tuple[int, str, str]:
    """Return the status, the code and the message of what a request is answered."""
    kind, call = name
    prefix = service(kind).metadata["targetPrefix"]
    data = json.dumps(body).encode()
    headers = {"X-Amz-Target": f"{prefix}.{call}", "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", server.url, data=data, headers=headers)
    key = Credentials(server.key.id, secret or server.key.secret)
    SigV4Auth(key, service(kind).signing_name, "us-east-1").add_auth(request)
    wire.request("POST", "/", body=data, headers=dict(request.headers))
    told = wire.getresponse()
    found = json.loads(told.read())
    assert told.headers["x-amzn-requestid"]
    return told.status, str(found.get("__type", "")), str(found.get("message", ""))


@pytest.mark.parametrize("name", SERVED, ids="-".join)
def test_an_operation_needs_a_signature_with_the_right_secret(
    server: Server, wire: HTTPConnection, name: tuple[str, str]
) -> None:
    status, code, _ = asked(wire, server, name, {}, secret="wrong")

    assert (status, code) == (403, "InvalidSignatureException")


@pytest.mark.parametrize("name", SERVED, ids="-".join)
def test_an_operation_tells_all_that_is_missing(
    server: Server, wire: HTTPConnection, name: tuple[str, str]
) -> None:
    needed = operation(*name).input_shape.required_members

    status, code, message = asked(wire, server, name, {})

    assert status == (400 if needed else status)
    for member in needed:
        assert code == "ValidationException"
        assert f"Value null at '{lower(member)}' failed to satisfy constraint" in message
    assert status in (200, 400), (code, message)


def outside(shape: Any) -> list[tuple[Any, str]]:
    """Return values that a shape forbids, each with what is said of it."""
    about = shape.metadata
    found: list[tuple[Any, str]] = []
    if shape.type_name == "string":
        free = "instance" in shape.name.lower()  # types that botocore does not know yet are let in
        if about.get("enum") and not free:
            found.append(("No Such Value", "Member must satisfy enum value set"))
        elif about.get("max") is not None and about["max"] < 10_000:
            found.append(
                ("a" * (about["max"] + 1), "Member must have length less than or equal to")
            )
        known = pattern(about["pattern"]) if about.get("pattern") else None
        if known is not None and not known.fullmatch("\u0000 \t"):
            found.append(("\u0000 \t", "Member must satisfy regular expression pattern"))
    elif shape.type_name in ("integer", "long"):
        if about.get("max") is not None:
            found.append((about["max"] + 1, "Member must have value less than or equal to"))
        if about.get("min") is not None:
            found.append((about["min"] - 1, "Member must have value greater than or equal to"))
    elif shape.type_name == "list" and about.get("max") is not None and about["max"] <= 100:
        plain = {"string": "a", "structure": {}, "integer": 1}.get(shape.member.type_name)
        if plain is not None:
            found.append(([plain] * (about["max"] + 1), "Member must have length less than"))
    return found


CASES = [
    (name, member, value, said)
    for name in SERVED
    for member, shape in operation(*name).input_shape.members.items()
    for value, said in outside(shape)
]


@pytest.mark.parametrize("name", SERVED, ids="-".join)
def test_a_value_outside_its_bounds_is_refused_and_named(
    server: Server, wire: HTTPConnection, name: tuple[str, str]
) -> None:
    for whose, member, value, said in CASES:
        if whose == name:
            status, code, message = asked(wire, server, name, {member: value})

            assert (status, code) == (400, "ValidationException"), (member, message)
            start = message.index(f"at '{lower(member)}' failed")
            assert said in message[start:], (member, message)


@pytest.mark.parametrize("name", SERVED, ids="-".join)
def test_a_value_of_another_type_is_refused(
    server: Server, wire: HTTPConnection, name: tuple[str, str]
) -> None:
    members = operation(*name).input_shape.members.items()
    one_of_each = {shape.type_name: (member, shape) for member, shape in members}
    for member, shape in one_of_each.values():
        wrong: Any = [] if shape.type_name in ("structure", "map", "string") else {}
        status, code, message = asked(wire, server, name, {member: wrong})

        assert (status, code) == (400, "SerializationException"), (member, message)


def test_there_are_hundreds_of_cases() -> None:
    assert len(SERVED) > 100
    assert len(CASES) > 300


def lower(member: str) -> str:
    return member[:1].lower() + member[1:]
