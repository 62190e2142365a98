"""The bytes of objects, each in a file of its own that never changes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loopwright.core.names import new_id
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.message import FilePart
from loopwright.sagemaker.s3.checksum import encoded, new_sum

_STALE_S = 86_400.0
_PIECE = 1 << 20
_LARGEST = 5 << 40
_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Bytes that were written: their file, their MD5 and the digests asked for."""

    file: str
    size: int
    md5: str
    sha256: str | None
    sums: dict[str, str]


class Files:
    """The files of objects, by names that say nothing of buckets and keys.

    A file appears whole or not at all, and is never written again: who has opened it reads on when
    its object is replaced, and a job can be given a link to it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._incoming = folder / "incoming"
        self._incoming.mkdir(mode=0o700, parents=True, exist_ok=True)

    def keep(
        self,
        pieces: Iterable[bytes],
        *,
        sums: Iterable[str] = (),
        sha256: bool = False,
        limit: int = _LARGEST,
    ) -> Kept:
        """Write some bytes, which may be more than memory holds; nothing stays if that fails.

        Parameters
        ----------
        sums
            The checksums that are computed, by their names in S3.
        sha256
            Whether the SHA-256 is, for a client that has signed it.
        """
        name = new_id()
        temporary = self._incoming / name
        md5, sha = hashlib.md5(usedforsecurity=False), hashlib.sha256() if sha256 else None
        others = {each: new_sum(each) for each in sums}
        all_sums = [each for each in (md5, sha, *others.values()) if each is not None]
        size = 0
        try:
            with temporary.open("wb") as file:
                for piece in pieces:
                    size += len(piece)
                    if size > limit:
                        raise too_large(size, limit)
                    file.write(piece)
                    for each in all_sums:
                        each.update(piece)
                file.flush()
                os.fsync(file.fileno())
            self._put(temporary, name)
        except OSError as error:
            raise no_room(error) from error
        finally:
            temporary.unlink(missing_ok=True)
        return Kept(
            file=name,
            size=size,
            md5=md5.hexdigest(),
            sha256=sha.hexdigest() if sha else None,
            sums={key: encoded(each.digest()) for key, each in others.items()},
        )

    def join(self, names: Iterable[str], *, algorithm: str | None = None) -> tuple[str, int, str]:
        """Write files one after the other into a new one.

        Returns
        -------
        tuple
            Its name, its size, and its checksum if one of the whole was asked for, else "".
        """
        name = new_id()
        temporary = self._incoming / name
        total = new_sum(algorithm) if algorithm else None
        try:
            with temporary.open("wb") as file:
                for each in names:
                    with self.path(each).open("rb") as source:
                        while piece := source.read(_PIECE):
                            file.write(piece)
                            if total is not None:
                                total.update(piece)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            self._put(temporary, name)
        except OSError as error:
            raise no_room(error) from error
        finally:
            temporary.unlink(missing_ok=True)
        return name, size, encoded(total.digest()) if total else ""

    def twin(self, name: str) -> str:
        """Return the name of a second file with the same bytes, linked where the disk allows it."""
        own = new_id()
        temporary = self._incoming / own
        try:
            os.link(self.path(name), temporary)
        except OSError:
            self._copy(self.path(name), temporary)
        self._put(temporary, own)
        return own

    def _copy(self, path: Path, temporary: Path) -> None:
        try:
            shutil.copyfile(path, temporary)
        except FileNotFoundError:
            raise
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise no_room(error) from error

    def _put(self, temporary: Path, name: str) -> None:
        temporary.chmod(0o400)
        target = self.path(name)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        temporary.rename(target)

    def path(self, name: str) -> Path:
        """Return where a file lies."""
        return self._folder / name[-2:] / name

    def part(self, name: str, start: int, n_bytes: int) -> FilePart:
        """Open some bytes of a file; `FileNotFoundError` if it is gone."""
        return FilePart(
            descriptor=os.open(self.path(name), os.O_RDONLY | os.O_CLOEXEC),
            start=start,
            n_bytes=n_bytes,
        )

    def drop(self, name: str | None) -> None:
        """Remove a file that no object is made of any more."""
        if name:
            with suppress(OSError):
                self.path(name).unlink()

    def sweep(self, known: set[str]) -> int:
        """Remove files a day old that belong to nothing, as a killed server leaves; count them."""
        latest = time.time() - _STALE_S
        n_removed = 0
        for path in self._folder.glob("*/*"):
            if path.name not in known and path.stat().st_mtime < latest:
                path.unlink(missing_ok=True)
                n_removed += 1
        return n_removed


def too_large(size: int, limit: int) -> ApiError:
    """Return the refusal of a body that is larger than S3 takes at once."""
    return ApiError(
        "EntityTooLarge",
        "Your proposed upload exceeds the maximum allowed size",
        ProposedSize=size,
        MaxSizeAllowed=limit,
    )


def no_room(error: OSError) -> ApiError:
    """Return what a client is told when a disk does not take its bytes."""
    return ApiError("ServiceUnavailable", f"The object cannot be kept: {error.strerror or error}.")


class ChunkedBody:
    """A body in the `aws-chunked` coding, decoded; `trailers` are there once it has been read."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._held = b""
        self.trailers: dict[str, str] = {}

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes without the coding; `ApiError` if it is broken."""
        while True:
            head = self._line()
            size = head.partition(b";")[0].strip()
            if not _SIZE.fullmatch(size):
                raise _broken()
            left = int(size, 16)
            if not left:
                break
            while left:
                piece = self._some(left)
                left -= len(piece)
                yield piece
            if self._line():
                raise _broken()
        while line := self._line(may_end=True):
            name, _, value = line.decode("latin-1").partition(":")
            self.trailers[name.strip().lower()] = value.strip()

    def _some(self, most: int) -> bytes:
        if not self._held:
            self._held = next(self._pieces, b"")
            if not self._held:
                raise _broken()
        found, self._held = self._held[:most], self._held[most:]
        return found

    def _line(self, *, may_end: bool = False) -> bytes:
        while b"\n" not in self._held:
            piece = next(self._pieces, b"")
            if not piece:
                if may_end and not self._held:
                    return b""
                raise _broken()
            self._held += piece
            if len(self._held) > 1 << 22 and b"\n" not in self._held[: 1 << 16]:
                raise _broken()
        line, _, self._held = self._held.partition(b"\n")
        return line.rstrip(b"\r")


def _broken() -> ApiError:
    return ApiError(
        "IncompleteBody", "The request body terminated unexpectedly, or its chunks are malformed."
    )
