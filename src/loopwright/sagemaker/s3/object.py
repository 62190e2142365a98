"""Objects: put, got in whole or in part, copied, deleted, tagged."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote

from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.parsing import time_of
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.s3.checksum import trailing_algorithm, wanted_sums
from loopwright.sagemaker.s3.embedded import embedded
from loopwright.sagemaker.s3.files import ChunkedBody, Kept, too_large
from loopwright.sagemaker.s3.index import Entry
from loopwright.sagemaker.s3.store import checked_key

KEPT_HEADERS = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
    "Expires",
    "WebsiteRedirectLocation",
)
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_MOST_DELETED = 1000
_MOST_TAGS = 10
# of one request; more is sent in parts
_LARGEST_BODY = 5 << 30
# of a SHA-256 in hexadecimal
_DIGITS = 64


def received(desk: Desk, given: Mapping[str, Any], *, sums: Iterable[str] = ()) -> Kept:
    """Keep the body of a request, compared with every digest that the client gave.

    Parameters
    ----------
    given
        The request; `__headers` holds its plain headers.
    sums
        Checksums that are wanted beside those the client gave.
    """
    headers, body = given["__headers"], given.get("Body")
    pieces: Iterable[bytes] = body.pieces() if body is not None else ()
    _check_size(headers)
    said = headers.get("x-amz-content-sha256", "")
    chunked = None
    if said.startswith("STREAMING-") or "aws-chunked" in headers.get("content-encoding", ""):
        if said == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD":
            raise ApiError(
                "NotImplemented", "Chunks that are signed one by one are not checked here."
            )
        pieces = chunked = ChunkedBody(pieces)
    wanted = wanted_sums(given)
    trailing = trailing_algorithm(headers.get("x-amz-trailer", ""))
    algorithms = {*wanted, *sums, *([trailing] if trailing else [])}
    kept = embedded(desk).files.keep(
        pieces, sums=algorithms, sha256=len(said) == _DIGITS, limit=_LARGEST_BODY
    )
    try:
        if trailing and chunked:
            name = f"x-amz-checksum-{trailing.lower()}"
            wanted[trailing] = chunked.trailers.get(name, "")
        _compare(kept, wanted, md5=given.get("ContentMD5"), sha256=said)
    except ApiError:
        embedded(desk).files.drop(kept.file)
        raise
    return kept


def _check_size(headers: Mapping[str, str]) -> None:
    """Refuse a body by what is said of it, before it comes."""
    for name in ("content-length", "x-amz-decoded-content-length"):
        size = headers.get(name, "")
        if size.isdecimal() and int(size[:20]) > _LARGEST_BODY:
            # what is sent in chunks has more bytes than the object
            if name == "content-length" and "x-amz-decoded-content-length" in headers:
                continue
            raise too_large(int(size[:20]), _LARGEST_BODY)


def _compare(kept: Kept, wanted: Mapping[str, str], *, md5: str | None, sha256: str) -> None:
    if md5 is not None:
        try:
            given = base64.b64decode(md5, validate=True).hex()
        except ValueError:
            given = ""
        if len(given) != 32:
            raise ApiError("InvalidDigest", "The Content-MD5 you specified was invalid.")
        if given != kept.md5:
            raise ApiError(
                "BadDigest", "The Content-MD5 you specified did not match what we received."
            )
    for name, value in wanted.items():
        if value != kept.sums[name]:
            raise ApiError(
                "BadDigest", f"The {name} you specified did not match the calculated checksum."
            )
    if len(sha256) == _DIGITS and sha256 != kept.sha256:
        raise ApiError(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )


def about_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an object keeps of the request that makes it."""
    about: dict[str, Any] = {"metadata": given.get("Metadata", {})}
    for name in KEPT_HEADERS:
        value = given.get(name)
        if isinstance(value, datetime):
            value = value.isoformat()
        if name == "ContentEncoding" and value:
            # the coding of the transfer is no property of the object
            rest = [each.strip() for each in value.split(",") if each.strip() != "aws-chunked"]
            value = ",".join(rest) or None
        if value:
            about[name] = value
    if given.get("Tagging") and isinstance(given["Tagging"], str):
        about["tags"] = dict(parse_qsl(given["Tagging"], keep_blank_values=True))
    return about


@serves(
    "s3", "PutObject", note="Encryption, ACLs, locks and storage classes are accepted and not kept."
)
def put_object(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep an object."""
    bucket, key = given["Bucket"], checked_key(given["Key"])
    desk.objects.bucket(bucket, owner=given.get("ExpectedBucketOwner"))
    kept = received(desk, given)
    entry = embedded(desk).enter(
        bucket,
        Entry(
            key=key,
            file=kept.file,
            size=kept.size,
            etag=kept.md5,
            modified=desk.objects.now(),
            about={**about_of(given), "checksums": kept.sums},
        ),
        condition=write_condition(given),
    )
    sums = {f"Checksum{name}": value for name, value in kept.sums.items()}
    return {"ETag": quoted(entry.etag), **sums, **({"ChecksumType": "FULL_OBJECT"} if sums else {})}


def write_condition(given: Mapping[str, Any]) -> Callable[[Entry | None], None] | None:
    """Return what a write asks of the object that is there, or None if nothing."""
    if_match, if_none = given.get("IfMatch"), given.get("IfNoneMatch")
    if not if_match and not if_none:
        return None

    def check(present: Entry | None) -> None:
        if if_none == "*" and present is not None:
            raise _precondition("If-None-Match")
        if if_match and present is None:
            raise ApiError("NoSuchKey", "The specified key does not exist.")
        if if_match and present and not _matches(if_match, present.etag):
            raise _precondition("If-Match")

    return check


def _precondition(name: str) -> ApiError:
    return ApiError(
        "PreconditionFailed",
        "At least one of the pre-conditions you specified did not hold",
        Condition=name,
    )


def _matches(header: str, etag: str) -> bool:
    return any(each.strip().strip('"') in ("*", etag) for each in header.split(","))


def quoted(etag: str) -> str:
    """Return an ETag as headers have it."""
    return f'"{etag}"'


def _head(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the headers of an object, once the conditions of a read hold."""
    at = datetime.fromtimestamp(int(entry.modified), UTC)
    about = {
        name: time_of(value, "iso8601") if name == "Expires" and "T" in value else value
        for name, value in entry.about.items()
        if name in KEPT_HEADERS
    }
    _check_read(entry, at, given)
    found = {
        "AcceptRanges": "bytes",
        "LastModified": at,
        "ETag": quoted(entry.etag),
        "ContentType": "binary/octet-stream",
        **about,
        "Metadata": entry.about.get("metadata", {}),
        "TagCount": len(entry.about.get("tags", {})) or None,
    }
    for name in ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage"):
        if given.get(f"Response{name}"):
            found[name] = given[f"Response{name}"]
    if given.get("ResponseContentType"):
        found["ContentType"] = given["ResponseContentType"]
    if given.get("ChecksumMode") == "ENABLED" and not given.get("Range"):
        sums = entry.about.get("checksums", {})
        found |= {f"Checksum{name}": value for name, value in sums.items()}
        if sums:
            found["ChecksumType"] = entry.about.get("kind") or "FULL_OBJECT"
    return found


def _check_read(entry: Entry, at: datetime, given: Mapping[str, Any]) -> None:
    if given.get("IfMatch"):
        if not _matches(given["IfMatch"], entry.etag):
            raise _precondition("If-Match")
    elif given.get("IfUnmodifiedSince") and at > given["IfUnmodifiedSince"]:
        raise _precondition("If-Unmodified-Since")
    if given.get("IfNoneMatch"):
        if _matches(given["IfNoneMatch"], entry.etag):
            raise ApiError("NotModified", "Not Modified")
    elif given.get("IfModifiedSince") and at <= given["IfModifiedSince"]:
        raise ApiError("NotModified", "Not Modified")


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first byte and the number of bytes that a `Range` asks for; None for all of them.

    A range that cannot be read is no range, as RFC 9110 has it.

    Raises
    ------
    ApiError
        `InvalidRange` if it begins after the end.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end or (not first and not int(last)):
        raise ApiError(
            "InvalidRange",
            "The requested range is not satisfiable",
            RangeRequested=header,
            ActualObjectSize=size,
        )
    return start, end - start + 1


@serves("s3", "GetObject")
def get_object(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return an object, or a range of it."""
    desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    for _ in range(8):
        entry = desk.objects.get(given["Bucket"], given["Key"])
        head = _head(entry, given)
        start, n_bytes, status = 0, entry.size, 200
        wanted = byte_range(given.get("Range"), entry.size)
        if wanted:
            start, n_bytes = wanted
            status = 206
            head["ContentRange"] = f"bytes {start}-{start + n_bytes - 1}/{entry.size}"
        try:
            part = embedded(desk).files.part(entry.file, start, n_bytes)
        except FileNotFoundError:
            continue  # it was replaced in this moment
        return {**head, "Body": part, "__status": status}
    raise ApiError("InternalError", "We encountered an internal error. Please try again.")


@serves("s3", "HeadObject")
def head_object(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of an object."""
    desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    entry = desk.objects.get(given["Bucket"], given["Key"])
    head = _head(entry, given)
    length, status = entry.size, 200
    wanted = byte_range(given.get("Range"), entry.size)
    if wanted:
        length, status = wanted[1], 206
        head["ContentRange"] = f"bytes {wanted[0]}-{sum(wanted) - 1}/{entry.size}"
    return {**head, "__length": length, "__status": status}


@serves("s3", "CopyObject")
def copy_object(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Copy an object; its bytes are linked rather than written again where the disk allows it."""
    bucket, key = given["Bucket"], checked_key(given["Key"])
    desk.objects.bucket(bucket, owner=given.get("ExpectedBucketOwner"))
    source = copy_source(desk, given)
    replaces = given.get("MetadataDirective") == "REPLACE"
    if (bucket, key) == source[:2] and not replaces:
        raise ApiError(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without "
            "changing the object's metadata, storage class, website redirect location or "
            "encryption attributes.",
        )
    entry = source[2]
    about = {**entry.about, **(about_of(given) if replaces else {})}
    entry = Entry(
        key=key,
        file=embedded(desk).files.twin(entry.file),
        size=entry.size,
        etag=entry.etag,
        modified=desk.objects.now(),
        about=about,
    )
    embedded(desk).enter(bucket, entry)
    at = datetime.fromtimestamp(entry.modified, UTC)
    return {"CopyObjectResult": {"ETag": quoted(entry.etag), "LastModified": at}}


def copy_source(desk: Desk, given: Mapping[str, Any]) -> tuple[str, str, Entry]:
    """Return the bucket, the key and the entry that a copy is made of."""
    text = unquote(given["CopySource"].partition("?")[0]).lstrip("/")
    bucket, _, key = text.partition("/")
    if not bucket or not key:
        raise ApiError("InvalidArgument", "Copy Source must mention the source bucket and key")
    desk.objects.bucket(bucket, owner=given.get("ExpectedSourceBucketOwner"))
    entry = desk.objects.get(bucket, key)
    at = datetime.fromtimestamp(int(entry.modified), UTC)
    names = ("IfMatch", "IfNoneMatch", "IfModifiedSince", "IfUnmodifiedSince")
    asked = {name: given.get(f"CopySource{name}") for name in names}
    try:
        _check_read(entry, at, asked)
    except ApiError as error:
        raise _precondition(str(error.extra.get("Condition", "If-None-Match"))) from error
    return bucket, key, entry


@serves("s3", "DeleteObject")
def delete_object(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Delete an object; nothing happens if there is none."""
    desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    embedded(desk).delete(given["Bucket"], given["Key"])
    return {"__status": 204}


@serves("s3", "DeleteObjects")
def delete_objects(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Delete many objects."""
    desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    asked = given.get("Delete", {})
    listed = asked.get("Objects", [])
    if not listed or len(listed) > _MOST_DELETED or any("Key" not in each for each in listed):
        raise ApiError(
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published "
            "schema",
        )
    for each in listed:
        embedded(desk).delete(given["Bucket"], each["Key"])
    quiet = asked.get("Quiet")
    return {"Deleted": [] if quiet else [{"Key": each["Key"]} for each in listed]}


@serves("s3", "GetObjectTagging")
def get_object_tagging(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of an object."""
    entry = desk.objects.get(given["Bucket"], given["Key"])
    tags = entry.about.get("tags", {})
    return {"TagSet": [{"Key": name, "Value": value} for name, value in tags.items()]}


@serves("s3", "PutObjectTagging")
def put_object_tagging(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Replace the tags of an object."""
    tags = {each["Key"]: each["Value"] for each in given["Tagging"].get("TagSet", [])}
    if len(tags) > _MOST_TAGS:
        raise ApiError("BadRequest", "Object tags cannot be greater than 10")
    _set_tags(desk, given, tags)
    return {}


@serves("s3", "DeleteObjectTagging")
def delete_object_tagging(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Remove the tags of an object."""
    _set_tags(desk, given, {})
    return {"__status": 204}


def _set_tags(desk: Desk, given: Mapping[str, Any], tags: dict[str, str]) -> None:
    entry = desk.objects.get(given["Bucket"], given["Key"])
    about = json.dumps({**entry.about, "tags": tags})
    with embedded(desk).index.writing() as database:
        database.execute(
            "update object set about = ? where bucket = ? and key = ? and file = ?",
            (about, given["Bucket"], entry.key, entry.file),
        )
