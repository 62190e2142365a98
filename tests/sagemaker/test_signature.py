"""Signatures: what botocore signs is accepted, whatever is changed afterwards is not."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.message import HeldBody, Request
from loopwright.sagemaker.signature import checked_signature

from .conftest import Server

KEY = Credentials("LWKATEST", "secret")
HOST = "127.0.0.1:8333"


def now() -> datetime:
    return datetime.now(UTC)


def as_received(asked: AWSRequest, **changes: Any) -> Request:
    prepared = asked.prepare()
    target = prepared.url.removeprefix(f"http://{HOST}") or "/"
    headers = {name.lower(): str(value) for name, value in prepared.headers.items()}
    body = asked.data.encode() if isinstance(asked.data, str) else (asked.data or b"")
    values = {
        "method": asked.method,
        "target": target,
        "headers": {"host": HOST, **headers},
        "body": HeldBody(body),
        **changes,
    }
    return Request(**values)


def signed(signer: type = SigV4Auth, service: str = "sagemaker", **about: Any) -> AWSRequest:
    asked = AWSRequest(
        **{"method": "POST", "url": f"http://{HOST}/", "data": "{}", "headers": {}, **about}
    )
    signer(KEY, service, "eu-west-1").add_auth(asked)
    return asked


def check(request: Request, *, at: datetime | None = None) -> Any:
    return checked_signature(request, {"LWKATEST": "secret"}.get, now=at or now())


def refusal(request: Request, *, at: datetime | None = None) -> ApiError:
    with pytest.raises(ApiError) as caught:
        check(request, at=at)
    return caught.value


def test_a_digest_that_is_only_claimed_does_not_stand_for_the_body() -> None:
    asked = as_received(signed())
    digest = hashlib.sha256(b"{}").hexdigest()
    headers = {**asked.headers, "x-amz-content-sha256": digest}

    check(replace(asked, headers=headers))
    error = refusal(replace(asked, headers=headers, body=HeldBody(b'{"a": 1}')))

    assert error.code == "InvalidSignatureException"


def test_a_digest_that_was_signed_does_not_stand_for_another_body() -> None:
    digest = hashlib.sha256(b"{}").hexdigest()
    asked = as_received(signed(headers={"X-Amz-Content-SHA256": digest}))
    unsigned = as_received(signed(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}))

    check(asked)
    errors = [
        refusal(replace(asked, body=HeldBody(b'{"a": 1}'))),
        refusal(replace(unsigned, body=HeldBody(b'{"a": 1}'))),
    ]

    assert [each.code for each in errors] == ["InvalidSignatureException"] * 2


def test_a_signature_tells_whose_a_request_is_and_what_for() -> None:
    found = check(as_received(signed()))

    assert (found.access_key, found.region, found.service) == ("LWKATEST", "eu-west-1", "sagemaker")


@given(
    key=st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20),
    value=st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_any_key_and_any_query_that_botocore_signs_is_accepted(key: str, value: str) -> None:
    path, query = quote(key, safe="/~"), quote(value, safe="-_.~")
    url = f"http://{HOST}/box/{path}?prefix={query}"

    asked = signed(S3SigV4Auth, "s3", method="PUT", url=url, data=b"x")

    assert check(as_received(asked)).service == "s3"


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GET"},
        {"target": "/other"},
        {"target": "/?a=1"},
        {"body": HeldBody(b'{"a": 1}')},
    ],
)
def test_nothing_of_a_signed_request_can_be_changed(changes: dict[str, Any]) -> None:
    error = refusal(as_received(signed(), **changes))

    assert (error.code, error.status) == ("InvalidSignatureException", 403)
    assert "does not match the signature you provided" in error.message


def test_a_header_of_amazon_that_was_not_signed_is_refused() -> None:
    request = as_received(signed())

    error = refusal(
        Request(
            method="POST",
            target="/",
            headers={**request.headers, "x-amz-target": "SageMaker.DeleteModel"},
            body=HeldBody(b"{}"),
        )
    )

    assert "not signed" in error.message


@pytest.mark.parametrize(
    ("minutes", "said"), [(6, "Signature expired"), (-6, "Signature not yet current")]
)
def test_a_clock_that_is_five_minutes_off_is_told_both_times(minutes: int, said: str) -> None:
    error = refusal(as_received(signed()), at=now() + timedelta(minutes=minutes))

    assert error.code == "InvalidSignatureException"
    assert error.message.startswith(said)
    assert error.message.endswith("5 min.)")
    assert check(as_received(signed()), at=now() + timedelta(minutes=4))


def test_s3_allows_a_clock_a_quarter_of_an_hour() -> None:
    request = as_received(signed(S3SigV4Auth, "s3", method="GET", data=b""))

    assert check(request, at=now() + timedelta(minutes=14))
    error = refusal(request, at=now() + timedelta(minutes=16))
    assert (error.code, error.status) == ("RequestTimeTooSkewed", 403)


def test_an_address_that_was_signed_works_until_its_end() -> None:
    asked = AWSRequest("GET", f"http://{HOST}/box/a b?versionId=1")
    S3SigV4QueryAuth(KEY, "s3", "us-east-1", expires=60).add_auth(asked)
    request = as_received(asked)

    assert check(request).payload == "UNSIGNED-PAYLOAD"
    assert refusal(request, at=now() + timedelta(seconds=61)).message == "Request has expired"
    longer = request.target.replace("X-Amz-Expires=60", "X-Amz-Expires=600")
    assert refusal(as_received(asked, target=longer)).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("service", "code"),
    [
        ("sagemaker", "UnrecognizedClientException"),
        ("sts", "InvalidClientTokenId"),
        ("s3", "InvalidAccessKeyId"),
    ],
)
def test_a_key_that_nobody_gave_out(server: Server, service: str, code: str) -> None:
    client = server.client(service, aws_access_key_id="LWKANOBODY")
    call = {
        "sagemaker": "list_models",
        "sts": "get_caller_identity",
        "s3": "list_buckets",
    }[service]

    with pytest.raises(ClientError) as caught:
        getattr(client, call)()

    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("sagemaker", "list_models", "InvalidSignatureException"),
        ("logs", "describe_log_groups", "InvalidSignatureException"),
        ("sts", "get_caller_identity", "SignatureDoesNotMatch"),
        ("iam", "list_roles", "SignatureDoesNotMatch"),
        ("s3", "list_buckets", "SignatureDoesNotMatch"),
        ("cloudwatch", "list_metrics", "InvalidSignatureException"),
    ],
)
def test_a_wrong_secret_opens_no_service(
    server: Server, service: str, call: str, code: str
) -> None:
    client = server.client(service, aws_secret_access_key="wrong")

    with pytest.raises(ClientError) as caught:
        getattr(client, call)()

    assert caught.value.response["Error"]["Code"] == code


@pytest.mark.parametrize(
    "header",
    ["", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b/c", "Bearer x", "Basic eDp4"],
)
def test_what_is_no_signature_is_refused(header: str) -> None:
    headers = {"host": HOST, "x-amz-target": "SageMaker.ListModels", "authorization": header}

    error = refusal(Request(method="POST", target="/", headers=headers, body=HeldBody(b"{}")))

    assert error.code == "IncompleteSignatureException"


def test_a_request_that_was_signed_for_another_service_is_refused(server: Server) -> None:
    client = server.client("sagemaker")
    client.meta.events.register(
        "before-sign.sagemaker.ListModels",
        lambda request, **_: request.context.update(signing={"signing_name": "s3"}),
    )

    with pytest.raises(ClientError) as caught:
        client.list_models()

    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert caught.value.response["Error"] == {
        "Code": "InvalidSignatureException",
        "Message": "Credential should be scoped to correct service: 'sagemaker'.",
    }


def test_a_request_without_a_signature_is_refused() -> None:
    headers = {"host": HOST, "x-amz-target": "SageMaker.ListModels"}

    error = refusal(Request(method="POST", target="/", headers=headers, body=HeldBody(b"{}")))

    assert (error.code, error.status) == ("MissingAuthenticationTokenException", 403)
