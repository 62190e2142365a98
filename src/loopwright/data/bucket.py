"""Files in an object store: Amazon S3 and whatever speaks like it, Google Cloud Storage, Azure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from loopwright.core.digest import digest_value
from loopwright.core.errors import BackendError, InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import nearest
from loopwright.data.credential import NAMED, PREFIXES, check_credentials, store_options
from loopwright.data.part import Unpacked, find_kind, write_checked
from loopwright.data.place import Located, refused
from loopwright.data.web import too_large

if TYPE_CHECKING:
    import obstore
    from obstore.store import ObjectStore
else:
    obstore = LazyModule("obstore")

MAX_FILES = 10_000
_CHUNK_BYTES = 4 << 20
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}")


class BucketPlace:
    """Objects in a bucket: one key, a pattern, or all under a prefix that ends in `/`.

    Credentials and endpoints come from the environment alone; where it has none, the metadata
    service of a cloud is asked on a machine of that cloud only.

    Parameters
    ----------
    url
        `s3://bucket/key`, `gs://bucket/key` or `az://container/key`.
    store
        The opened bucket, for tests; opened from the URL and the environment when absent.
    """

    def __init__(
        self,
        url: str,
        *,
        environ: Mapping[str, str],
        unpacked: Unpacked,
        max_bytes: int,
        store: ObjectStore | None = None,
    ) -> None:
        self._scheme, _, rest = url.partition("://")
        self._scheme = self._scheme.lower()
        self._bucket, _, self._key = rest.partition("/")
        self._url = f"{self._scheme}://{rest.rpartition('@')[2]}"
        if not _BUCKET.fullmatch(self._bucket) or not self._key:
            raise refused(
                f"{self._url!r} does not name a bucket and a key.",
                "Write s3://bucket/key, s3://bucket/folder/*.parquet or s3://bucket/folder/.",
                path=self._url,
            )
        self._environ = environ
        self._unpacked = unpacked
        self._max_bytes = max_bytes
        self._opened = store
        self._fetched: dict[tuple[str, str], Located] = {}

    def describe(self) -> str:
        """Return the address; it holds no credential."""
        return self._url

    def fingerprint(self) -> str:
        """Return a digest of the key, size and state of every object."""
        return digest_value([[key, size, state] for key, size, state in self._objects()])

    def files(self) -> list[Located]:
        """Return the objects as local files, each fetched once for every state."""
        objects = self._objects()
        if sum(size for _, size, _ in objects) > self._max_bytes:
            raise too_large(self._url, self._max_bytes)
        return [self._local(key, size, state) for key, size, state in objects]

    def _objects(self) -> list[tuple[str, int, str]]:
        """Return key, size and state of the objects meant, in the order of their keys."""
        is_pattern = any(mark in self._key for mark in "*?[")
        try:
            if not is_pattern and not self._key.endswith("/"):
                found = [obstore.head(self._store(), self._key)]
            else:
                found = self._listed(is_pattern)
        except FileNotFoundError as cause:
            raise self._missing() from cause
        except (obstore.exceptions.BaseError, OSError) as cause:
            raise self._failed(cause) from cause
        if not found:
            raise self._missing()
        return sorted(
            (item["path"], int(item["size"]), item["e_tag"] or item["last_modified"].isoformat())
            for item in found
        )

    def _listed(self, is_pattern: bool) -> list[Any]:
        folder = re.split(r"[*?\[]", self._key, maxsplit=1)[0].rpartition("/")[0]
        found: list[Any] = []
        for chunk in obstore.list(self._store(), prefix=folder or None):
            found += [item for item in chunk if self._is_meant(item["path"], is_pattern)]
            if len(found) > MAX_FILES:
                raise refused(
                    f"{self._url} means more than {MAX_FILES:,} objects.",
                    "Choose a narrower pattern.",
                    path=self._url,
                )
        return found

    def _is_meant(self, key: str, is_pattern: bool) -> bool:
        # a star stays inside one folder, as it does on this machine
        if is_pattern:
            wanted, parts = self._key.split("/"), key.split("/")
            return len(wanted) == len(parts) and all(map(fnmatchcase, parts, wanted))
        name = key.removeprefix(self._key)
        return "/" not in name and not name.startswith(".") and find_kind(name) is not None

    def _local(self, key: str, size: int, state: str) -> Located:
        if (key, state) not in self._fetched:
            # the key decides the kind, and is no path: only its suffixes are kept
            suffixes = "".join(PurePosixPath(key).suffixes[-2:]).lower()
            path = self._unpacked.new_folder() / f"object{suffixes}"
            n_bytes = 0
            try:
                with path.open("wb") as target:
                    for chunk in obstore.get(self._store(), key).stream(_CHUNK_BYTES):
                        n_bytes += len(chunk)
                        if n_bytes > self._max_bytes:
                            raise too_large(self._url, self._max_bytes)
                        write_checked(target, bytes(chunk), path.parent)
            except (obstore.exceptions.BaseError, OSError) as cause:
                raise self._failed(cause) from cause
            if n_bytes != size:
                raise self._failed(OSError(f"{n_bytes:,} of {size:,} bytes of {key!r} came"))
            label = f"{self._scheme}://{self._bucket}/{key}"
            self._fetched[key, state] = Located(path=path, label=label)
        return self._fetched[key, state]

    def _missing(self) -> InvalidInputError:
        hint = "Correct the address."
        folder = self._key.rpartition("/")[0]
        try:
            listing = obstore.list_with_delimiter(self._store(), folder or None)
            names = [item["path"].rpartition("/")[2] for item in listing["objects"]]
            if near := nearest(self._key.rpartition("/")[2], names):
                hint = f"Did you mean {near!r}?"
        except (obstore.exceptions.BaseError, OSError):
            pass  # who may read an object may not always list its folder
        return refused(f"There is no file {self._url}.", hint, path=self._url)

    def _failed(self, cause: Exception) -> BackendError:
        named = NAMED[self._scheme]
        denied = isinstance(
            cause,
            obstore.exceptions.PermissionDeniedError | obstore.exceptions.UnauthenticatedError,
        )
        if denied:
            return BackendError(
                f"{self._url} may not be read with the credentials in the environment.",
                hint=f"Set {named}.",
                field="data.source.path",
            )
        if "NoSuchBucket" in str(cause) or "ContainerNotFound" in str(cause):
            return BackendError(
                f"There is no bucket for {self._url}.",
                hint="Correct the first part of the address.",
                field="data.source.path",
            )
        reason = self._without_secrets(str(cause).strip().partition("\n")[0])[:300].rstrip(".")
        return BackendError(
            f"{self._url} cannot be read: {reason}.",
            hint=f"Check the network and the environment: {named}.",
            retryable=True,
            field="data.source.path",
        )

    def _without_secrets(self, text: str) -> str:
        prefix = PREFIXES[self._scheme]
        for name, value in self._environ.items():
            if name.startswith(prefix) and re.search("KEY|SECRET|TOKEN|SAS", name) and value:
                text = text.replace(value, "***")
        return re.sub(r"\?[^\s)\"']*", "?***", text)

    def _store(self) -> ObjectStore:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> ObjectStore:
        from obstore.store import AzureStore, GCSStore, S3Store

        check_credentials(self._scheme, self._url, self._environ)
        config = store_options(self._scheme, self._environ)
        plain = any(
            name.startswith("AWS_ENDPOINT") and value.startswith("http://")
            for name, value in config.items()
        )
        options: dict[str, Any] = {
            "config": config,
            "client_options": {
                "connect_timeout": "10s",
                "timeout": "30 minutes",
                # the operator chose the endpoint, so its scheme is meant
                "allow_http": plain,
            },
            "retry_config": {"max_retries": 3},
        }
        try:
            if self._scheme == "az":
                return AzureStore(container_name=self._bucket, **options)
            return (S3Store if self._scheme == "s3" else GCSStore)(bucket=self._bucket, **options)
        except (obstore.exceptions.BaseError, ValueError) as cause:
            raise self._failed(cause) from cause
