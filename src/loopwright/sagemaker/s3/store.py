"""The embedded S3: buckets in the home folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loopwright.core.clock import Clock
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.s3.files import Files
from loopwright.sagemaker.s3.index import Bucket, Entry, Index

_LONGEST_KEY = 1024


class ObjectStore:
    """Buckets and objects; any thread may call any method.

    Parameters
    ----------
    folder
        Where they lie; made when it is not there.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.at_once = 1
        self.index = Index(folder / "index.db")
        self.files = Files(folder / "files")
        self._clock = clock

    def now(self) -> float:
        """Return the seconds since 1970."""
        return self._clock.now().timestamp()

    def bucket(self, name: str, *, owner: str | None = None) -> Bucket:
        """Return a bucket; `NoSuchBucket`, or `AccessDenied` if it is not the expected owner's."""
        found = self.index.find_bucket(name)
        if found is None:
            raise ApiError("NoSuchBucket", "The specified bucket does not exist", BucketName=name)
        if owner and owner != found.account:
            raise ApiError("AccessDenied", "Access Denied")
        return found

    def find_bucket(self, name: str) -> Bucket | None:
        """Return a bucket, or None."""
        return self.index.find_bucket(name)

    def make_bucket(self, name: str, *, account: str, region: str) -> bool:
        """Make a bucket; return False if it was there already."""
        with self.index.writing() as database:
            row = database.execute("select 1 from bucket where name = ?", (name,)).fetchone()
            if row:
                return False
            database.execute(
                "insert into bucket values(?, ?, ?, ?)", (name, account, region, self.now())
            )
        return True

    def find(self, bucket: str, key: str) -> Entry | None:
        """Return an object, or None."""
        return self.index.find(bucket, key)

    def get(self, bucket: str, key: str) -> Entry:
        """Return an object; `NoSuchKey` if there is none."""
        found = self.index.find(bucket, key)
        if found is None:
            self.bucket(bucket)
            raise ApiError("NoSuchKey", "The specified key does not exist.", Key=key)
        return found

    def read(self, bucket: str, key: str, *, limit: int) -> bytes:
        """Return the bytes of an object that is not larger than `limit`."""
        entry = self.get(bucket, key)
        if entry.size > limit:
            raise ApiError("EntityTooLarge", f"s3://{bucket}/{key} is larger than {limit} bytes.")
        return self.files.path(entry.file).read_bytes()

    def put(
        self,
        bucket: str,
        key: str,
        pieces: Iterable[bytes],
        *,
        about: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Keep an object of the server's own making."""
        self.bucket(bucket)
        checked_key(key)
        kept = self.files.keep(pieces)
        return self.enter(
            bucket,
            Entry(
                key=key,
                file=kept.file,
                size=kept.size,
                etag=kept.md5,
                modified=self.now(),
                about=about or {},
                bucket=bucket,
            ),
        )

    def put_file(self, bucket: str, key: str, path: Path) -> Entry:
        """Keep a file as an object."""
        with path.open("rb") as file:
            return self.put(bucket, key, iter(lambda: file.read(1 << 20), b""))

    def enter(self, bucket: str, entry: Entry, *, condition: Any = None) -> Entry:
        """Enter an object whose bytes are kept; the one it replaces is removed.

        `condition` is called with the one that is there, inside the transaction, and may refuse.
        """
        try:
            with self.index.writing() as database:
                if condition is not None:
                    condition(self.index.find(bucket, entry.key))
                if not database.execute(
                    "select 1 from bucket where name = ?", (bucket,)
                ).fetchone():
                    raise ApiError("NoSuchBucket", "The specified bucket does not exist")
                replaced = self.index.put(database, bucket, entry)
        except BaseException:
            self.files.drop(entry.file)
            raise
        self.files.drop(replaced)
        return entry

    def delete(self, bucket: str, key: str) -> bool:
        """Forget an object; return whether it was there."""
        with self.index.writing() as database:
            file = self.index.remove(database, bucket, key)
        self.files.drop(file)
        return file is not None

    def every(self, bucket: str, prefix: str) -> Iterator[Entry]:
        """Yield all objects whose keys start with a prefix, by key."""
        after = ""
        while found := self.index.list_(bucket, prefix=prefix, after=after):
            yield from found
            after = found[-1].key

    def link(self, entry: Entry, target: Path) -> None:
        """Put an object's bytes at a path, as a link to its file where the disk allows it.

        What is there already gives way.
        """
        source = self.files.path(entry.file)
        target.parent.mkdir(parents=True, exist_ok=True)
        # never written over: it may be a link to another object
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)

    def fetch(self, entry: Entry, target: Path) -> None:
        """Put an object's bytes at a path, as a file of its own that may be written."""
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.files.path(entry.file), target)

    def sweep(self) -> None:
        """Remove the files of no object that killed servers have left."""
        self.files.sweep(self.index.known_files())


def checked_key(key: str) -> str:
    """Return a key that can name an object.

    Raises
    ------
    ApiError
        If it is longer than 1,024 bytes or empty, or holds what no text can.
    """
    if not key or any(0xD800 <= ord(letter) <= 0xDFFF for letter in key) or "\0" in key:
        raise ApiError("InvalidURI", "Couldn't parse the specified URI.")
    if len(key.encode()) > _LONGEST_KEY:
        raise ApiError(
            "KeyTooLongError",
            "Your key is too long",
            Size=len(key.encode()),
            MaxSizeAllowed=_LONGEST_KEY,
        )
    return key


def split_uri(uri: str) -> tuple[str, str]:
    """Return bucket and key of `s3://bucket/key`, or of the https address of an object.

    Raises
    ------
    ApiError
        If it is neither.
    """
    text = uri
    if text.startswith("https://"):
        host, _, key = text.removeprefix("https://").partition("/")
        name, dot, rest = host.partition(".s3")
        if dot and rest.endswith(".amazonaws.com"):
            return name, key
        if host.startswith("s3") and host.endswith(".amazonaws.com"):
            name, _, key = key.partition("/")
            return name, key
    if not text.startswith("s3://") or text == "s3://":
        raise ApiError("ValidationException", f"{uri[:200]!r} is no S3 URI.")
    name, _, key = text.removeprefix("s3://").partition("/")
    return name, key
