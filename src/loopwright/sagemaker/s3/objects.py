"""What the server asks of the place where objects lie, be it the home or a store elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from loopwright.sagemaker.s3.index import Bucket, Entry


class Objects(Protocol):
    """Buckets and objects; any thread may call any method.

    Every method raises `ApiError` in the words of S3; `ServiceUnavailable` where the store cannot
    be reached.
    """

    at_once: int
    """How many objects are best asked for at the same time."""

    def now(self) -> float:
        """Return the seconds since 1970."""
        ...

    def bucket(self, name: str, *, owner: str | None = None) -> Bucket:
        """Return a bucket; `NoSuchBucket`, or `AccessDenied` if it is not the expected owner's."""
        ...

    def find_bucket(self, name: str) -> Bucket | None:
        """Return a bucket, or None."""
        ...

    def find(self, bucket: str, key: str) -> Entry | None:
        """Return an object, or None."""
        ...

    def get(self, bucket: str, key: str) -> Entry:
        """Return an object; `NoSuchBucket` or `NoSuchKey` if there is none."""
        ...

    def every(self, bucket: str, prefix: str) -> Iterator[Entry]:
        """Yield all objects whose keys start with a prefix, by key."""
        ...

    def read(self, bucket: str, key: str, *, limit: int) -> bytes:
        """Return the bytes of an object that is not larger than `limit`."""
        ...

    def put(
        self,
        bucket: str,
        key: str,
        pieces: Iterable[bytes],
        *,
        about: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Keep an object; `about` holds its headers, by their names in S3's model."""
        ...

    def put_file(self, bucket: str, key: str, path: Path) -> Entry:
        """Keep a file as an object."""
        ...

    def link(self, entry: Entry, target: Path) -> None:
        """Put the bytes of an object at a path that is only read, without a copy if that can be.

        What is there already gives way.
        """
        ...

    def fetch(self, entry: Entry, target: Path) -> None:
        """Put the bytes of an object at a path, as a file of its own that may be written."""
        ...

    def sweep(self) -> None:
        """Remove what killed servers have left behind."""
        ...
