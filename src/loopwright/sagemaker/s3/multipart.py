"""Uploads in parts."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from loopwright.core.names import new_id
from loopwright.sagemaker.desk import Caller, Desk
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.registry import serves
from loopwright.sagemaker.s3.bucket import owner
from loopwright.sagemaker.s3.checksum import checksum_type, composite
from loopwright.sagemaker.s3.embedded import embedded
from loopwright.sagemaker.s3.index import Entry, Upload
from loopwright.sagemaker.s3.object import (
    about_of,
    byte_range,
    copy_source,
    quoted,
    received,
    write_condition,
)
from loopwright.sagemaker.s3.store import checked_key

_LEAST_PART = 5 << 20
_MOST_PARTS = 10_000


@serves("s3", "CreateMultipartUpload")
def create_multipart_upload(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Begin an upload."""
    bucket, key = given["Bucket"], checked_key(given["Key"])
    desk.objects.bucket(bucket, owner=given.get("ExpectedBucketOwner"))
    algorithm = given.get("ChecksumAlgorithm")
    kind = checksum_type(algorithm, given.get("ChecksumType"))
    about = {**about_of(given), "algorithm": algorithm, "kind": kind}
    upload_id = new_id()
    with embedded(desk).index.writing() as database:
        database.execute(
            "insert into upload values(?, ?, ?, ?, ?)",
            (upload_id, bucket, key, desk.objects.now(), json.dumps(about)),
        )
    return {
        "Bucket": bucket,
        "Key": key,
        "UploadId": upload_id,
        "ChecksumAlgorithm": algorithm,
        "ChecksumType": kind,
    }


def _upload(desk: Desk, given: Mapping[str, Any]) -> Upload:
    desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    found = embedded(desk).index.find_upload(given["UploadId"])
    if found is None or (found.bucket, found.key) != (given["Bucket"], given["Key"]):
        raise ApiError(
            "NoSuchUpload",
            "The specified upload does not exist. The upload ID may be invalid, or the upload may "
            "have been aborted or completed.",
            UploadId=given["UploadId"],
        )
    return found


def _number(given: Mapping[str, Any]) -> int:
    number = int(given["PartNumber"])
    if not 1 <= number <= _MOST_PARTS:
        raise ApiError(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {_MOST_PARTS}, inclusive",
            ArgumentName="partNumber",
            ArgumentValue=number,
        )
    return number


def _enter_part(desk: Desk, upload: Upload, number: int, entry: Entry) -> None:
    try:
        with embedded(desk).index.writing() as database:
            if not database.execute("select 1 from upload where id = ?", (upload.id,)).fetchone():
                raise ApiError("NoSuchUpload", "The specified upload does not exist.")
            replaced = embedded(desk).index.put_part(database, upload.id, number, entry)
    except BaseException:
        embedded(desk).files.drop(entry.file)
        raise
    embedded(desk).files.drop(replaced)


@serves("s3", "UploadPart")
def upload_part(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a part."""
    upload, number = _upload(desk, given), _number(given)
    kept = received(desk, given)
    entry = Entry(
        key=str(number),
        file=kept.file,
        size=kept.size,
        etag=kept.md5,
        modified=desk.objects.now(),
        about={"checksums": kept.sums},
    )
    _enter_part(desk, upload, number, entry)
    sums = {f"Checksum{name}": value for name, value in kept.sums.items()}
    return {"ETag": quoted(kept.md5), **sums}


@serves("s3", "UploadPartCopy")
def upload_part_copy(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Keep a part that is a range of another object."""
    upload, number = _upload(desk, given), _number(given)
    _, _, source = copy_source(desk, given)
    asked = given.get("CopySourceRange")
    start, n_bytes = byte_range(asked, source.size) or (0, source.size)
    part = embedded(desk).files.part(source.file, start, n_bytes)
    try:
        kept = embedded(desk).files.keep(part.pieces())
    finally:
        part.close()
    entry = Entry(
        key=str(number),
        file=kept.file,
        size=kept.size,
        etag=kept.md5,
        modified=desk.objects.now(),
    )
    _enter_part(desk, upload, number, entry)
    at = datetime.fromtimestamp(entry.modified, UTC)
    return {"CopyPartResult": {"ETag": quoted(kept.md5), "LastModified": at}}


@serves("s3", "ListParts")
def list_parts(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the parts of an upload."""
    upload = _upload(desk, given)
    after, limit = int(given.get("PartNumberMarker", 0)), min(given.get("MaxParts", 1000), 1000)
    parts = [each for each in embedded(desk).index.parts(upload.id) if int(each.key) > after]
    page = parts[:limit]
    return {
        "Bucket": upload.bucket,
        "Key": upload.key,
        "UploadId": upload.id,
        "PartNumberMarker": after,
        "NextPartNumberMarker": int(page[-1].key) if page else 0,
        "MaxParts": limit,
        "IsTruncated": len(parts) > limit,
        "Parts": [
            {
                "PartNumber": int(each.key),
                "LastModified": datetime.fromtimestamp(each.modified, UTC),
                "ETag": quoted(each.etag),
                "Size": each.size,
                **{f"Checksum{n}": v for n, v in each.about.get("checksums", {}).items()},
            }
            for each in page
        ],
        "Owner": owner(caller),
        "Initiator": owner(caller),
        "StorageClass": "STANDARD",
    }


@serves("s3", "ListMultipartUploads")
def list_multipart_uploads(desk: Desk, caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """List the uploads under way."""
    desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    found = [
        each
        for each in embedded(desk).index.uploads(given["Bucket"])
        if each.key.startswith(given.get("Prefix", ""))
    ]
    return {
        "Bucket": given["Bucket"],
        "Prefix": given.get("Prefix"),
        "MaxUploads": 1000,
        "IsTruncated": False,
        "Uploads": [
            {
                "UploadId": each.id,
                "Key": each.key,
                "Initiated": datetime.fromtimestamp(each.created, UTC),
                "StorageClass": "STANDARD",
                "Owner": owner(caller),
                "Initiator": owner(caller),
            }
            for each in found
        ],
    }


@serves("s3", "AbortMultipartUpload")
def abort_multipart_upload(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Give up an upload and its parts."""
    upload = _upload(desk, given)
    _forget(desk, upload)
    return {"__status": 204}


def _forget(desk: Desk, upload: Upload) -> None:
    with embedded(desk).index.writing() as database:
        files = database.execute("select file from part where upload = ?", (upload.id,)).fetchall()
        database.execute("delete from part where upload = ?", (upload.id,))
        database.execute("delete from upload where id = ?", (upload.id,))
    for (file,) in files:
        embedded(desk).files.drop(file)


@serves("s3", "CompleteMultipartUpload")
def complete_multipart_upload(desk: Desk, _caller: Caller, given: dict[str, Any]) -> dict[str, Any]:
    """Make the object out of the parts that the client names.

    Joining 20 GB takes longer than boto3 waits for an answer. It then asks again: that waits for
    the first, and is answered the same.
    """
    desk.objects.bucket(given["Bucket"], owner=given.get("ExpectedBucketOwner"))
    with _one_at_a_time(given["UploadId"]):
        done = embedded(desk).index.find(given["Bucket"], given["Key"])
        if done is None or done.about.get("upload") != given["UploadId"]:
            done = _completed(desk, given)
        return _told_of(desk, done)


_completing: dict[str, tuple[threading.Lock, int]] = {}
_completing_lock = threading.Lock()


@contextmanager
def _one_at_a_time(upload_id: str) -> Iterator[None]:
    with _completing_lock:
        lock, n_waiting = _completing.get(upload_id, (threading.Lock(), 0))
        _completing[upload_id] = lock, n_waiting + 1
    try:
        with lock:
            yield
    finally:
        with _completing_lock:
            _, n_waiting = _completing.pop(upload_id)
            if n_waiting > 1:
                _completing[upload_id] = lock, n_waiting - 1


def _completed(desk: Desk, given: Mapping[str, Any]) -> Entry:
    upload = _upload(desk, given)
    parts = _chosen_parts(desk, upload, given.get("MultipartUpload", {}).get("Parts", []))
    digests = b"".join(bytes.fromhex(each.etag) for each in parts)
    etag = f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
    file, size, checksums = _joined(desk, upload, parts, given)
    kind = upload.about.get("kind") if checksums else None
    about = {key: value for key, value in upload.about.items() if key != "algorithm"}
    entry = Entry(
        key=upload.key,
        bucket=upload.bucket,
        file=file,
        size=size,
        etag=etag,
        modified=desk.objects.now(),
        about={
            **about,
            "checksums": checksums,
            "kind": kind,
            "parts": len(parts),
            "upload": upload.id,
        },
    )
    embedded(desk).enter(upload.bucket, entry, condition=write_condition(given))
    _forget(desk, upload)
    return entry


def _told_of(desk: Desk, entry: Entry) -> dict[str, Any]:
    checksums, bucket = entry.about["checksums"], entry.bucket
    return {
        "Location": f"{desk.url}/{bucket}/{entry.key}",
        "Bucket": bucket,
        "Key": entry.key,
        "ETag": quoted(entry.etag),
        **{f"Checksum{key}": value for key, value in checksums.items()},
        "ChecksumType": entry.about["kind"],
    }


def _joined(
    desk: Desk, upload: Upload, parts: list[Entry], given: Mapping[str, Any]
) -> tuple[str, int, dict[str, str]]:
    """Join the parts; return the file, its size, and its checksum by the algorithm of the upload."""
    name = upload.about.get("algorithm")
    is_whole = upload.about.get("kind") == "FULL_OBJECT"
    file, size, total = embedded(desk).files.join(
        (each.file for each in parts), algorithm=name if is_whole else None
    )
    sums = [each.about.get("checksums", {}).get(name) for each in parts]
    if name and not is_whole and all(sums):
        total = composite(name, sums)
    if name and given.get(f"Checksum{name}", total) != total:
        embedded(desk).files.drop(file)
        raise ApiError(
            "BadDigest", f"The {name} you specified did not match the calculated checksum."
        )
    return file, size, {name: total} if name and total else {}


def _chosen_parts(desk: Desk, upload: Upload, named: list[dict[str, Any]]) -> list[Entry]:
    if not named:
        raise ApiError(
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published "
            "schema",
        )
    known = {int(each.key): each for each in embedded(desk).index.parts(upload.id)}
    numbers = [each.get("PartNumber", 0) for each in named]
    if numbers != sorted(set(numbers)):
        raise ApiError(
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts must be ordered by part number.",
        )
    found = []
    for each, number in zip(named, numbers, strict=True):
        part = known.get(number)
        if part is None or each.get("ETag", "").strip('"') != part.etag:
            raise ApiError(
                "InvalidPart",
                "One or more of the specified parts could not be found. The part may not have been "
                "uploaded, or the specified entity tag may not match the part's entity tag.",
                PartNumber=number,
            )
        found.append(part)
    for part in found[:-1]:
        if part.size < _LEAST_PART:
            raise ApiError(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                ProposedSize=part.size,
                MinSizeAllowed=_LEAST_PART,
                PartNumber=int(part.key),
            )
    return found
