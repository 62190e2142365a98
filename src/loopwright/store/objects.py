"""The artifact store on a local folder or on an object store, through obstore."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from loopwright.core.digest import digest_bytes, digest_file
from loopwright.core.errors import BackendError, InvalidInputError, LoopwrightError
from loopwright.core.lazy import LazyModule
from loopwright.store.artifact import checked_digest, missing, unreadable

if TYPE_CHECKING:
    import obstore
    from obstore.store import ObjectStore
else:
    obstore = LazyModule("obstore")

_CHUNK_BYTES = 5 << 20
# a whole object in one request up to here; above, pieces, a few at a time
_ONE_REQUEST_BYTES = 16 << 20
_PIECES_AT_ONCE = 4
# no writer takes this long between two pieces, so an older temporary file has no writer any more
_ABANDONED_AFTER_S = 24 * 3600.0


class ObjectArtifactStore:
    """An `ArtifactStore` of objects `objects/ab/cdef...` under a folder or a URL.

    Parameters
    ----------
    location
        A folder, which is created, or a URL obstore knows: `s3://bucket/path`, `gs://...`,
        `az://...`. Credentials come from the environment of the cloud's own tools.
    cache
        A local folder for copies of remote objects; a folder store does not use it.

    Raises
    ------
    InvalidInputError
        If the location is not a URL of a known kind.
    BackendError
        If the folder cannot be created.
    """

    def __init__(self, location: str | Path, cache: Path) -> None:
        self._folder = _local_folder(location)
        self._name = str(self._folder) if self._folder else _without_secrets(str(location))
        self._cache = cache
        self._store = open_objects(location)

    def __repr__(self) -> str:
        return f"ObjectArtifactStore({self._name!r})"

    def put_bytes(self, data: bytes) -> str:
        """Keep some bytes; return their digest."""
        digest = digest_bytes(data)
        self._create(digest, data=data, size=len(data))
        return digest

    def put_file(self, path: Path) -> str:
        """Keep a file's bytes, read in pieces; return their digest."""
        try:
            size = path.stat().st_size
            if size <= _ONE_REQUEST_BYTES:
                return self.put_bytes(path.read_bytes())
            digest = digest_file(path)
            self._create(digest, data=_pieces(path, digest), size=size)
        except OSError as cause:
            raise unreadable(path, cause) from cause
        return digest

    def get_bytes(self, digest: str) -> bytes:
        """Return the bytes of a digest, checked."""
        with self._failures(digest):
            data = bytes(obstore.get(self._store, _key(digest)).bytes())
        if digest_bytes(data) != digest:
            raise self._damaged(digest)
        return data

    def local_path(self, digest: str) -> Path:
        """Return a read-only local file with the bytes of a digest, checked."""
        if self._folder:
            path = self._folder / _key(digest)
            with self._failures(digest):
                if digest_file(path) != digest:
                    raise self._damaged(digest)
            return path
        path = self._cache / _key(digest)
        if not path.exists() or digest_file(path) != digest:
            self._download(digest, path)
        return path

    def has(self, digest: str) -> bool:
        """Tell whether the bytes of a digest are kept."""
        return self._size(digest) is not None

    def delete(self, digest: str) -> None:
        """Forget the bytes of a digest; nothing happens if there are none."""
        key = _key(digest)
        with self._failures(digest), suppress(FileNotFoundError):
            obstore.delete(self._store, key)
        if not self._folder:
            (self._cache / key).unlink(missing_ok=True)

    def _size(self, digest: str) -> int | None:
        with self._failures(digest):
            try:
                return obstore.head(self._store, _key(digest))["size"]
            except FileNotFoundError:
                return None

    def _create(self, digest: str, *, data: bytes | Iterator[bytes], size: int) -> None:
        """Write an object unless it is there.

        One of another length is what a power failure left of it, and is written again.
        """
        found = self._size(digest)
        if found == size:
            return
        whole = isinstance(data, bytes)
        with self._failures(digest), suppress(_already_exists()):
            obstore.put(
                self._store,
                _key(digest),
                data,
                mode="create" if whole and found is None else "overwrite",
                use_multipart=not whole,
                chunk_size=_CHUNK_BYTES,
                max_concurrency=_PIECES_AT_ONCE,
            )
        if self._folder:
            path = self._folder / _key(digest)
            with self._failures(digest):
                path.chmod(0o444)
            _sweep(path.parent)

    def _download(self, digest: str, path: Path) -> None:
        with self._failures(digest):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}#")
            try:
                sha = hashlib.sha256()
                with os.fdopen(descriptor, "wb") as file:
                    for piece in obstore.get(self._store, _key(digest)).stream(_CHUNK_BYTES):
                        file.write(piece)
                        sha.update(piece)
                if "sha256:" + sha.hexdigest() != digest:
                    raise self._damaged(digest)
                Path(temporary).chmod(0o444)
                Path(temporary).replace(path)
            finally:
                Path(temporary).unlink(missing_ok=True)
        _sweep(path.parent)

    def _damaged(self, digest: str) -> BackendError:
        return BackendError(
            f"The object {digest} in {self._name} is damaged: its bytes have another digest.",
            hint=f"Restore {_key(digest)} from a backup, or delete it there and run the step "
            "that made it again.",
            digest=digest,
        )

    @contextmanager
    def _failures(self, digest: str) -> Iterator[None]:
        """Turn what the storage raises into loopwright's errors."""
        try:
            yield
        except LoopwrightError:
            raise
        except FileNotFoundError as cause:
            raise missing(digest, where=self._name) from cause
        except (OSError, _any_failure()) as cause:
            raise BackendError(
                f"The artifact store {self._name} failed: {_first_line(cause)}",
                hint="Check that it can be reached, that the credentials allow reading and "
                "writing, and that there is space left.",
                retryable=True,
                digest=digest,
            ) from cause


def open_objects(location: str | Path) -> ObjectStore:
    """Return a folder, which is created, or the object store of a URL, as obstore has it.

    Raises
    ------
    InvalidInputError
        If the location is not a URL of a known kind.
    BackendError
        If the folder cannot be created.
    """
    folder = _local_folder(location)
    if folder:
        return _open_folder(folder)
    return _open_url(str(location), _without_secrets(str(location)))


def _key(digest: str) -> str:
    hexadecimal = checked_digest(digest).removeprefix("sha256:")
    return f"objects/{hexadecimal[:2]}/{hexadecimal[2:]}"


def _pieces(path: Path, digest: str) -> Iterator[bytes]:
    """Yield a file in pieces, and fail at its end if it is not what was digested before."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK_BYTES):
            sha.update(piece)
            yield piece
    if "sha256:" + sha.hexdigest() != digest:
        # raised inside the upload, which is then abandoned as a whole
        raise InvalidInputError(
            f"The file {path} changed while it was stored.",
            hint="Wait until its writer is done and store it again.",
            field="path",
            value=str(path),
        )


def _sweep(folder: Path) -> None:
    """Delete what killed writers left in one of the 256 folders; every write sweeps its own."""
    limit = time.time() - _ABANDONED_AFTER_S
    for temporary in folder.glob("*#*"):
        # another process may be sweeping the same folder
        with suppress(OSError):
            if temporary.stat().st_mtime < limit:
                temporary.unlink()


def _local_folder(location: str | Path) -> Path | None:
    if isinstance(location, Path):
        return location.absolute()
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(parts.path)
    return None if "://" in location else Path(location).absolute()


def _open_folder(folder: Path) -> ObjectStore:
    from obstore.store import LocalStore

    try:
        folder.mkdir(parents=True, exist_ok=True)
        return LocalStore(folder)
    except (OSError, _any_failure()) as cause:
        raise BackendError(
            f"The folder {folder} cannot hold artifacts: {_first_line(cause)}",
            hint="Choose a folder you may write to, with --home or LOOPWRIGHT_HOME.",
            field="home",
            value=str(folder),
        ) from cause


def _open_url(url: str, shown: str) -> ObjectStore:
    from obstore.store import from_url

    try:
        return from_url(url, **_limits(url))
    except (ValueError, _any_failure()) as cause:
        raise InvalidInputError(
            f"{shown!r} is not the URL of an object store.",
            hint="Use a folder, or a URL such as 's3://bucket/path', 'gs://bucket/path' or "
            "'az://account/container/path'.",
            field="artifacts",
            value=shown,
        ) from cause


def _limits(url: str) -> dict[str, Any]:
    """Return how long a remote store may keep us waiting; the others take no such settings."""
    if urlsplit(url).scheme == "memory":
        return {}
    return {
        "client_options": {"connect_timeout": "5s", "timeout": "120s"},
        "retry_config": {"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
    }


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _first_line(cause: BaseException) -> str:
    # obstore adds pages of its own structures below the first line
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _any_failure() -> type[Exception]:
    from obstore.exceptions import BaseError

    return BaseError


def _already_exists() -> type[Exception]:
    from obstore.exceptions import AlreadyExistsError

    return AlreadyExistsError
