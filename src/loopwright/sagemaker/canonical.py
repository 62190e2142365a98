"""The signature that a request should bear: its canonical text, signed as botocore signs it.

What clients send nearly always is written here in a few steps; all else is left to botocore's own
signer, which costs ten times as much. Tests hold one against the other.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from loopwright.sagemaker.message import Request

ALGORITHM = "AWS4-HMAC-SHA256"
# letters that neither `urlsplit` nor `quote` changes
_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+/?|/")
_S3_PATH = re.compile(r"/[A-Za-z0-9._~%/+=@:,!$'()*&-]*")
_QUERY = re.compile(r"[A-Za-z0-9._~%/+=@:,!$'()*&-]*")
_NAMES = re.compile(r"[a-z0-9-]+")


def wanted_signature(
    request: Request,
    *,
    secret: str,
    names: Sequence[str],
    scope: tuple[str, str],
    timestamp: str,
    payload: str,
) -> str:
    """Return the signature that a request should bear.

    Parameters
    ----------
    names
        The headers that are signed, in lower case.
    scope
        Region and service.
    timestamp
        As it was signed, `20261123T031600Z`.
    payload
        What stands for the body: its SHA-256, or `UNSIGNED-PAYLOAD`.
    """
    region, service = scope
    text = canonical_text(request, names=names, service=service, payload=payload)
    if text is None:
        text = _canonical_by_botocore(request, names, scope, timestamp, payload)
    date = timestamp[:8]
    signed = "\n".join(
        (
            ALGORITHM,
            timestamp,
            f"{date}/{region}/{service}/aws4_request",
            hashlib.sha256(text.encode()).hexdigest(),
        )
    )
    own_key = _signing_key(secret, date, region, service)
    return hmac.digest(own_key, signed.encode(), "sha256").hex()


def canonical_text(
    request: Request, *, names: Sequence[str], service: str, payload: str
) -> str | None:
    """Return the canonical text of a request of the usual kind, or None of any other."""
    path, _, query = request.target.partition("?")
    form = _S3_PATH if service == "s3" else _PATH
    if not form.fullmatch(path) or not _QUERY.fullmatch(query):
        return None
    lines = [request.method.upper(), path, _sorted_query(query)]
    known = sorted(set(names))
    for name in known:
        value = request.headers.get(name, "")
        if not _NAMES.fullmatch(name) or not value.isascii():
            return None
        lines.append(f"{name}:{' '.join(value.split())}")
    lines += ["", ";".join(known), payload]
    return "\n".join(lines)


def _sorted_query(query: str) -> str:
    pairs = [each for each in query.split("&") if each and not each.startswith("X-Amz-Signature=")]
    split = sorted(each.partition("=")[::2] for each in pairs)
    return "&".join(f"{name}={value}" for name, value in split)


@lru_cache(maxsize=64)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Return the key of a day, a region and a service: four turns that many requests share."""
    found = f"AWS4{secret}".encode()
    for each in (date, region, service, "aws4_request"):
        found = hmac.digest(found, each.encode(), "sha256")
    return found


def _canonical_by_botocore(
    request: Request,
    names: Sequence[str],
    scope: tuple[str, str],
    timestamp: str,
    payload: str,
) -> str:
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    region, service = scope
    host = request.headers.get("host", "")
    pairs = [
        each for each in request.raw_query.split("&") if not each.startswith("X-Amz-Signature=")
    ]
    query = "&".join(each for each in pairs if each)
    found = AWSRequest(
        method=request.method,
        url=f"http://{host}{request.raw_path}{f'?{query}' if query else ''}",
        headers={name: request.headers.get(name, "") for name in names},
    )
    found.context["timestamp"] = timestamp
    text = str(_signer()(Credentials("", ""), service, region).canonical_request(found))
    # a signed header that names a digest is not taken at its word
    return f"{text.rpartition(chr(10))[0]}\n{payload}"


@lru_cache(maxsize=1)
def _signer() -> Any:
    from botocore.auth import SigV4Auth

    class Signer(SigV4Auth):  # type: ignore[misc] # botocore has no types
        """Canonicalises a request as a client of botocore does, from what came over the wire."""

        def headers_to_sign(self, request: Any) -> Any:
            return request.headers

        def payload(self, _request: Any) -> str:
            return ""

        def _normalize_url_path(self, path: str) -> str:
            # S3 signs keys as they are
            return path if self._service_name == "s3" else super()._normalize_url_path(path)

    return Signer
