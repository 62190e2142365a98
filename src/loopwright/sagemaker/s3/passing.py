"""Requests of clients passed on to a store elsewhere, and its answers handed back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_plus
from xml.sax.saxutils import escape

from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.desk import Caller
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.message import Answer, Request, StreamPart
from loopwright.sagemaker.s3.connection import REFUSED_KEYS, Connection
from loopwright.sagemaker.s3.outgoing import Outgoing, outgoing
from loopwright.sagemaker.s3.store import checked_key

urllib3_exceptions: Any = LazyModule("urllib3.exceptions")

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RESERVED = frozenset({"admin", "minio"})
"""Where stores have doors of their own, which our keys would open: Ceph's and MinIO's."""
_WRITES = frozenset(
    {
        "AbortMultipartUpload",
        "CompleteMultipartUpload",
        "CopyObject",
        "CreateBucket",
        "CreateMultipartUpload",
        "DeleteBucket",
        "DeleteBucketTagging",
        "DeleteObject",
        "DeleteObjectTagging",
        "DeleteObjects",
        "PutBucketTagging",
        "PutObject",
        "PutObjectTagging",
        "RestoreObject",
        "UploadPart",
        "UploadPartCopy",
    }
)
_READS = ("Get", "Head", "List")
_CREDENTIALS = re.compile(
    r"x-amz-(algorithm|credential|date|expires|security-token|signature|signedheaders)"
)
_OLD_CREDENTIALS = ("AWSAccessKeyId", "Signature", "Expires")
_PASSED_ON = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-md5",
        "content-type",
        "expires",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        "range",
    }
)
_OWN = frozenset(
    {
        "x-amz-content-sha256",
        "x-amz-date",
        "x-amz-decoded-content-length",
        "x-amz-expected-bucket-owner",
        "x-amz-security-token",
        "x-amz-source-expected-bucket-owner",
        "x-amz-trailer",
        "x-amz-user-agent",
    }
)
"""What is between the client and this server."""
_HANDED_BACK = frozenset(
    {
        "accept-ranges",
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-range",
        "content-type",
        "etag",
        "expires",
        "last-modified",
        "retry-after",
    }
)
_HELD = 1 << 20
_PIECE = 1 << 19
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,64})\s*</Code>")
_LOCATION = re.compile(
    rb"\s*(<\?xml[^>]*>)?\s*<CreateBucketConfiguration[^>]*>\s*"
    rb"(<LocationConstraint>[^<]*</LocationConstraint>\s*)?</CreateBucketConfiguration>\s*"
    rb"|\s*(<\?xml[^>]*>)?\s*<CreateBucketConfiguration[^>]*/>\s*|"
)


def pass_on(
    connection: Connection,
    caller: Caller,
    request: Request,
    operation: str,
    labels: Mapping[str, str],
    *,
    spool: Path,
) -> Answer:
    """Return the answer of a store to a request whose signature has been checked.

    Parameters
    ----------
    operation
        What the request means.
    labels
        Bucket and key, decoded.
    spool
        A folder for bodies whose length or checksum is told at their end.

    Raises
    ------
    ApiError
        If the request is none that is passed on, or the store does not answer.
    """
    if operation not in _WRITES and not operation.startswith(_READS):
        raise ApiError(
            "NotImplemented",
            f"s3:{operation} is not passed on by loopwright. Ask the S3 store itself.",
        )
    target = _path(labels)
    pairs, hoisted = _query(request)
    headers = _headers(request, hoisted, caller)
    if pairs:
        target += "?" + "&".join(f"{_coded(name)}={_coded(value)}" for name, value in pairs)
    with outgoing(request, spool=spool) as body:
        if operation == "CreateBucket":
            body = _in_region(body, connection.region)
        headers |= body.headers
        if not headers.get("content-encoding"):
            headers.pop("content-encoding", None)
        response = _sent(connection, request.method, target, headers, body)
    return _answer(connection, request, response)


def _path(labels: Mapping[str, str]) -> str:
    """Return the path of bucket and key, encoded as S3 signs it."""
    bucket = labels.get("Bucket")
    if bucket is None:
        return "/"
    _check_bucket(bucket)
    key = labels.get("Key")
    return f"/{bucket}" if key is None else f"/{bucket}/{_coded(checked_key(key), safe='/')}"


def _check_bucket(name: str) -> None:
    if not _BUCKET.fullmatch(name) or ".." in name or name in _RESERVED:
        raise ApiError(
            "InvalidBucketName", "The specified bucket is not valid.", BucketName=name[:128]
        )


def _coded(text: str, *, safe: str = "") -> str:
    try:
        return quote(text, safe=f"{safe}-_.~", errors="strict")
    except UnicodeEncodeError as error:
        raise ApiError("InvalidURI", "Couldn't parse the specified URI.") from error


def _query(request: Request) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Return the query without the client's signature, and headers that a presigned one has in it."""
    is_old = "AWSAccessKeyId" in request.query
    is_presigned = is_old or "X-Amz-Signature" in request.query
    pairs: list[tuple[str, str]] = []
    headers: dict[str, str] = {}
    for each in request.raw_query.split("&"):
        name, _, value = each.partition("=")
        name, value = unquote_plus(name), unquote_plus(value)
        lower = name.lower()
        if not name or _CREDENTIALS.fullmatch(lower) or (is_old and name in _OLD_CREDENTIALS):
            continue
        if is_presigned and lower.startswith("x-amz-"):
            headers[lower] = value
        else:
            pairs.append((name, value))
    return pairs, headers


def _headers(request: Request, hoisted: Mapping[str, str], caller: Caller) -> dict[str, str]:
    found = {**hoisted, **request.headers}
    for name in ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"):
        # accounts are this server's; the store has others
        if found.get(name, caller.account) != caller.account:
            raise ApiError("AccessDenied", "Access Denied")
    kept = {
        name: value.strip()
        for name, value in found.items()
        if name in _PASSED_ON or (name.startswith("x-amz-") and name not in _OWN)
    }
    for name, value in kept.items():
        if not value.isascii() or not value.isprintable():
            raise ApiError(
                "InvalidArgument", f"The header {name} has characters that no header has."
            )
    if "x-amz-copy-source" in kept:
        kept["x-amz-copy-source"] = _source(kept["x-amz-copy-source"])
    return kept


def _source(text: str) -> str:
    path, mark, version = text.partition("?")
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    if not bucket or not key:
        raise ApiError("InvalidArgument", "Copy Source must mention the source bucket and key")
    _check_bucket(bucket)
    name, _, value = version.partition("=")
    if mark and name != "versionId":
        raise ApiError("InvalidArgument", "Copy Source may name a versionId only")
    rest = f"?versionId={_coded(unquote(value))}" if mark else ""
    return f"/{bucket}/{_coded(checked_key(key), safe='/')}{rest}"


def _in_region(body: Outgoing, region: str) -> Outgoing:
    """Return the order of a bucket in the region of the store, whatever that of the client is."""
    data = body.data if isinstance(body.data, bytes) else b""
    if not isinstance(body.data, bytes) or not _LOCATION.fullmatch(data):
        return body
    if region == "us-east-1":
        return Outgoing.of(b"")
    return Outgoing.of(
        b'<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<LocationConstraint>%s</LocationConstraint></CreateBucketConfiguration>"
        % escape(region).encode()
    )


def _sent(
    connection: Connection,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: Outgoing,
) -> Any:
    """Send a request; once more if a kept connection had ended and nothing is lost by it."""
    may_repeat = isinstance(body.data, bytes) and method != "POST"
    try:
        return connection.send(
            method, target, headers=headers, body=body.data or None, payload=body.payload
        )
    except ApiError:
        if body.refusal is not None:
            # the store did not get all of it, and keeps nothing
            raise body.refusal from None
        if not may_repeat:
            raise
    return connection.send(
        method, target, headers=headers, body=body.data or None, payload=body.payload
    )


def _answer(connection: Connection, request: Request, response: Any) -> Answer:
    status, raw = int(response.status_code), response.raw
    headers = [
        (name.lower(), value)
        for name, value in response.headers.items()
        if name.lower() in _HANDED_BACK or name.lower().startswith("x-amz-")
    ]
    told = response.headers.get("content-length", "")
    length = int(told) if told.isdecimal() else None
    if 300 <= status < 400 and status != 304:
        raw.close()
        raise ApiError(
            "PermanentRedirect",
            f"This bucket is not to be had at {connection.url}: its region may be another one.",
        )
    if request.method == "HEAD" or status in (204, 304):
        raw.drain_conn()
        return Answer(status=status, headers=headers, length=length or 0)
    if status >= 400 or (length is not None and length <= _HELD):
        data = _read(connection, raw, length)
        found = _CODE.search(data) if status >= 400 else None
        if found and found[1].decode() in REFUSED_KEYS:
            raise connection.refused_keys(found[1].decode())
        return Answer(status=status, headers=headers, body=data)
    part = StreamPart(_pieces(raw, length), n_bytes=length, close=raw.close)
    return Answer(status=status, headers=headers, body=part)


def _read(connection: Connection, raw: Any, length: int | None) -> bytes:
    try:
        data = b"".join(_pieces(raw, length, most=16 * _HELD))
    except (OSError, urllib3_exceptions.HTTPError) as error:
        raise connection.unreachable(error) from error
    return data


def _pieces(raw: Any, length: int | None, *, most: int | None = None) -> Iterator[bytes]:
    """Yield the body of an answer as it is; `ConnectionError` if it ends before its end."""
    done = 0
    for piece in raw.stream(_PIECE, decode_content=False):
        done += len(piece)
        if most is not None and done > most:
            raw.close()
            raise ConnectionError("The answer of the store is too large.")
        yield piece
    if length is not None and done != length:
        raise ConnectionError(f"The store sent {done} bytes of {length}.")
