"""Canonical texts: what is written quickly is what botocore writes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.sagemaker.canonical import canonical_text, wanted_signature
from loopwright.sagemaker.message import HeldBody, Request

HOST = "127.0.0.1:8333"
PLAIN = st.text("abzAZ09._~-", min_size=1, max_size=8)
ANY = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=12)


def of_botocore(request: Request, *, names: list[str], service: str) -> str:
    """Return the canonical text as botocore's own signer for a client writes it."""
    signer = (S3SigV4Auth if service == "s3" else SigV4Auth)(
        Credentials("k", "secret"), service, "eu-west-1"
    )
    asked = AWSRequest(
        request.method,
        f"http://{HOST}{request.target}",
        headers={name: request.headers.get(name, "") for name in names},
    )
    signer.headers_to_sign = lambda found: found.headers
    signer.payload = lambda _: "digest"
    text = signer.canonical_request(asked)
    return f"{text.rpartition(chr(10))[0]}\ndigest"


def of(target: str, headers: dict[str, str], method: str = "POST") -> Request:
    return Request(
        method=method, target=target, headers={"host": HOST, **headers}, body=HeldBody(b"")
    )


@given(
    parts=st.lists(PLAIN | ANY.map(lambda text: quote(text, safe="~")), max_size=4),
    query=st.lists(st.tuples(PLAIN, ANY.map(lambda text: quote(text, safe="~"))), max_size=4),
    value=ANY,
    service=st.sampled_from(["s3", "sagemaker"]),
    ends=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_what_is_written_quickly_is_what_botocore_writes(
    parts: list[str], query: list[tuple[str, str]], value: str, service: str, ends: bool
) -> None:
    path = "/" + "/".join(parts) + ("/" if ends else "")
    asked = "&".join(f"{name}={each}" for name, each in query)
    request = of(f"{path}?{asked}" if asked else path, {"x-amz-date": "d", "x-said": value})
    names = ["x-said", "host", "x-amz-date"]

    found = canonical_text(request, names=names, service=service, payload="digest")

    assert found in (None, of_botocore(request, names=names, service=service))


@pytest.mark.parametrize(
    ("target", "service"),
    [
        ("/", "sagemaker"),
        ("/endpoints/my-endpoint/invocations", "sagemaker"),
        ("/box/a%20b/c.tar.gz?list-type=2&prefix=a%2Fb&delimiter=%2F", "s3"),
        ("/box/key?uploadId=abc&partNumber=3", "s3"),
    ],
)
def test_what_clients_send_every_day_is_written_quickly(target: str, service: str) -> None:
    request = of(target, {"content-type": "text/csv", "x-amz-date": "20261123T031600Z"})
    names = ["content-type", "host", "x-amz-date"]

    found = canonical_text(request, names=names, service=service, payload="digest")

    assert found == of_botocore(request, names=names, service=service)


@pytest.mark.parametrize("target", ["/a//b", "/a/../b", "/a b", "/a;b", "/a#b", "/é", "/./a"])
def test_an_unusual_path_is_left_to_botocore(target: str) -> None:
    request = of(target, {})

    assert canonical_text(request, names=["host"], service="sagemaker", payload="d") is None


def test_a_signature_depends_on_every_part_of_its_scope() -> None:
    usual: dict[str, Any] = {
        "secret": "s",
        "names": ["host"],
        "scope": ("eu-west-1", "s3"),
        "timestamp": "20261123T031600Z",
        "payload": "digest",
    }
    others = [
        {"secret": "t"},
        {"scope": ("eu-west-2", "s3")},
        {"scope": ("eu-west-1", "sts")},
        {"timestamp": "20261124T031600Z"},
        {"timestamp": "20261123T031601Z"},
        {"payload": "other"},
        {"names": []},
    ]

    found = {wanted_signature(of("/", {}), **{**usual, **each}) for each in [{}, *others]}

    assert len(found) == len(others) + 1
