"""Buckets in an S3-compatible store elsewhere, as the server's own services use them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from loopwright.core.clock import Clock
from loopwright.core.digest import digest_bytes
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.desk import Caller
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.message import Answer, Request
from loopwright.sagemaker.s3.cache import Cache
from loopwright.sagemaker.s3.connection import Connection
from loopwright.sagemaker.s3.index import Bucket, Entry
from loopwright.sagemaker.s3.passing import pass_on
from loopwright.sagemaker.s3.store import checked_key

botocore_exceptions: Any = LazyModule("botocore.exceptions")

_CACHE_BYTES = 8 << 30
_PART = 8 << 20
_PARTS_OF_ONE_SIZE = 1000
_PIECE = 1 << 20
_TRIES = 5
_PAUSE_S = 0.2
_HEADERS = (
    "CacheControl",
    "ContentDisposition",
    "ContentEncoding",
    "ContentLanguage",
    "ContentType",
)


class ExternalObjects:
    """The buckets of a store; any thread may call any method.

    Parameters
    ----------
    connection
        The store.
    folder
        Where copies of objects are kept for jobs that read them again.
    account
        Whose the buckets are said to be.
    """

    def __init__(self, connection: Connection, folder: Path, clock: Clock, *, account: str) -> None:
        self.at_once = 8
        self.connection = connection
        self.cache = Cache(folder, limit=_CACHE_BYTES)
        self._account = account
        self._clock = clock

    def now(self) -> float:
        """Return the seconds since 1970."""
        return self._clock.now().timestamp()

    def bucket(self, name: str, *, owner: str | None = None) -> Bucket:
        """Return a bucket; `NoSuchBucket`, or `AccessDenied` if it is not the expected owner's."""
        found = self.find_bucket(name)
        if found is None:
            raise ApiError("NoSuchBucket", "The specified bucket does not exist", BucketName=name)
        if owner and owner != found.account:
            raise ApiError("AccessDenied", "Access Denied")
        return found

    def find_bucket(self, name: str) -> Bucket | None:
        """Return a bucket, or None."""
        try:
            self._ask("head_bucket", Bucket=name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return Bucket(name=name, account=self._account, region=self.connection.region, created=0.0)

    def find(self, bucket: str, key: str) -> Entry | None:
        """Return an object, or None."""
        try:
            return self._entry(bucket, key, self._ask("head_object", Bucket=bucket, Key=key))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def get(self, bucket: str, key: str) -> Entry:
        """Return an object; `NoSuchBucket` or `NoSuchKey` if there is none."""
        found = self.find(bucket, key) if key else None
        if found is None:
            self.bucket(bucket)
            raise ApiError("NoSuchKey", "The specified key does not exist.", Key=key)
        return found

    def every(self, bucket: str, prefix: str) -> Iterator[Entry]:
        """Yield all objects whose keys start with a prefix, by key."""
        asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
        while True:
            try:
                page = self._ask("list_objects_v2", **asked)
            except ApiError as error:
                if error.code == "NoSuchBucket":
                    return
                raise
            for each in page.get("Contents", ()):
                yield self._entry(bucket, each["Key"], each)
            if not page.get("NextContinuationToken"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def read(self, bucket: str, key: str, *, limit: int) -> bytes:
        """Return the bytes of an object that is not larger than `limit`."""
        answer = self._ask("get_object", Bucket=bucket, Key=key)
        with closing(answer["Body"]) as body, self.connection.failures():
            if answer["ContentLength"] > limit:
                raise ApiError(
                    "EntityTooLarge", f"s3://{bucket}/{key} is larger than {limit} bytes."
                )
            return bytes(body.read())

    def put(
        self,
        bucket: str,
        key: str,
        pieces: Iterable[bytes],
        *,
        about: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Keep an object, in parts if it is large; nothing stays if that fails."""
        checked_key(key)
        given = {name: value for name, value in (about or {}).items() if name in _HEADERS}
        place = {"Bucket": bucket, "Key": key}
        parts = _parts(pieces)
        first = next(parts, b"")
        second = next(parts, None)
        if second is None:
            found = self._ask("put_object", **place, **given, Body=first)
            return self._entry(bucket, key, {**found, "Size": len(first)})
        upload = {
            **place,
            "UploadId": self._ask("create_multipart_upload", **place, **given)["UploadId"],
        }
        try:
            found, size = self._in_parts(upload, (first, second), parts)
        except BaseException:
            self._abort(upload)
            raise
        return self._entry(bucket, key, {**found, "Size": size})

    def put_file(self, bucket: str, key: str, path: Path) -> Entry:
        """Keep a file as an object."""
        with path.open("rb") as file:
            return self.put(bucket, key, iter(lambda: file.read(_PIECE), b""))

    def link(self, entry: Entry, target: Path) -> None:
        """Put the bytes of an object at a path that is only read; a second time without a copy."""
        self.cache.give(
            entry.file,
            target,
            lambda path: self._load(entry, path),
            size=entry.size,
            modified=entry.modified,
        )

    def fetch(self, entry: Entry, target: Path) -> None:
        """Put the bytes of an object at a path, as a file of its own that may be written."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._load(entry, target)

    def sweep(self) -> None:
        """Remove what killed servers have left half written in the cache."""
        self.cache.sweep()

    def pass_on(
        self, caller: Caller, request: Request, operation: str, labels: Mapping[str, str]
    ) -> Answer:
        """Return the answer of the store to a request of a client, whose signature was checked."""
        return pass_on(
            self.connection, caller, request, operation, labels, spool=self.cache.incoming
        )

    def _ask(self, operation: str, **given: Any) -> Any:
        with self.connection.failures():
            return getattr(self.connection.client, operation)(**given)

    def _entry(self, bucket: str, key: str, told: Mapping[str, Any]) -> Entry:
        etag = str(told.get("ETag", "")).strip('"')
        size = int(told["Size"] if "Size" in told else told["ContentLength"])
        at = told.get("LastModified")
        modified = at.timestamp() if at is not None else self.now()
        text = "\0".join((self.connection.url, bucket, key, etag or str(modified), str(size)))
        return Entry(
            key=key,
            file=digest_bytes(text.encode()).removeprefix("sha256:")[:40],
            size=size,
            etag=etag,
            modified=modified,
            bucket=bucket,
        )

    def _in_parts(
        self, upload: Mapping[str, Any], held: tuple[bytes, bytes], rest: Iterator[bytes]
    ) -> tuple[dict[str, Any], int]:
        done: list[dict[str, Any]] = []
        size = 0

        def send(data: bytes) -> None:
            nonlocal size
            number = len(done) + 1
            told = self._ask("upload_part", **upload, PartNumber=number, Body=data)
            done.append({"PartNumber": number, "ETag": told["ETag"]})
            size += len(data)

        for data in held:
            send(data)
        del held, data
        for data in rest:
            send(data)
        found = self._ask("complete_multipart_upload", **upload, MultipartUpload={"Parts": done})
        return found, size

    def _abort(self, upload: Mapping[str, Any]) -> None:
        try:
            self._ask("abort_multipart_upload", **upload)
        except ApiError:
            return  # what went wrong before says more

    def _load(self, entry: Entry, path: Path) -> None:
        """Write an object to a file; goes on where the connection was cut."""
        done = 0
        with path.open("wb") as file:
            for left in reversed(range(_TRIES)):
                try:
                    for piece in self._pieces(entry, done):
                        file.write(piece)
                        done += len(piece)
                except botocore_exceptions.BotoCoreError as error:
                    if not left:
                        raise self.connection.unreachable(error) from error
                    time.sleep(_PAUSE_S * (_TRIES - left))
                if done >= entry.size:
                    break
        if done != entry.size:
            raise ApiError(
                "IncompleteBody",
                f"s3://{entry.bucket}/{entry.key} has {done} bytes instead of {entry.size}.",
            )

    def _pieces(self, entry: Entry, start: int) -> Iterator[bytes]:
        asked = {"Bucket": entry.bucket, "Key": entry.key}
        if entry.etag:
            asked["IfMatch"] = f'"{entry.etag}"'
        if start:
            asked["Range"] = f"bytes={start}-"
        with closing(self._ask("get_object", **asked)["Body"]) as body:
            yield from body.iter_chunks(_PIECE)


def _parts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield bytes in parts of a size with which 10,000 of them are enough for 5 TiB."""
    held, size, n_parts = bytearray(), _PART, 0
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
            n_parts += 1
            if n_parts % _PARTS_OF_ONE_SIZE == 0:
                size *= 2
    if held:
        yield bytes(held)
