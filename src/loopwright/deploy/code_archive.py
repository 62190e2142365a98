"""The archive of a user's own code and model: taken apart with care, once for each digest.

Standard library only: the process that starts the code imports it, and unpacks there, under that
process's limits of memory and disk.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from loopwright.core.errors import InvalidInputError

CODE_FOLDER = "code"
_MOST_MEMBERS = 20_000
_MOST_NAME = 400
# no control characters, no backslash; "..", "." and empty parts are refused apart
_NAME = re.compile(r"[^\x00-\x1f\x7f\\]+")
_PIECE_BYTES = 1 << 20
_BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError)


def archive_names(path: Path, *, most_bytes: int = 16 << 30) -> list[str]:
    """Return the names of the files in an archive, each checked; nothing is written.

    Raises
    ------
    InvalidInputError
        If it is torn, or holds anything but plain files with names inside the archive.
    """
    names: list[str] = []
    try:
        with path.open("rb") as file:
            names += [name for name, _, _ in _members(file, most_bytes)]
    except _BROKEN as error:
        raise _refused(path, f"it is torn or no .tar.gz ({error})") from error
    return names


def unpack_archive(path: Path, target: Path, *, most_bytes: int) -> None:
    """Write the files of an archive into a folder that is not there yet; whole or not at all.

    Links, devices, absolute names, names with `..` and names that come twice are refused, and what
    is written belongs to this user, with no special bits. `most_bytes` bounds all files together.

    Raises
    ------
    InvalidInputError
        If it is not an archive that can be trusted.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with path.open("rb") as file:
            for name, info, content in _members(file, most_bytes):
                place = temporary / name
                place.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                mode = 0o755 if info.mode & 0o100 else 0o644
                with os.fdopen(os.open(place, flags, mode), "wb") as out:
                    _copy(content, out, info)
        temporary.rename(target)
    except _BROKEN as error:
        raise _refused(path, f"it is torn or no .tar.gz ({error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copy(content: IO[bytes], out: IO[bytes], info: tarfile.TarInfo) -> None:
    left = info.size
    while left:
        piece = content.read(min(left, _PIECE_BYTES))
        if not piece:
            raise EOFError(f"{info.name[:80]!r} is cut off")
        out.write(piece)
        left -= len(piece)


def _members(file: IO[bytes], most_bytes: int) -> Iterator[tuple[str, tarfile.TarInfo, IO[bytes]]]:
    seen: set[str] = set()
    with gzip.GzipFile(fileobj=file) as unpacked:
        bounded = _Bounded(unpacked, most_bytes)
        # a stream: a header cannot send the reader back to where it was
        with tarfile.open(fileobj=bounded, mode="r|") as archive:  # type: ignore[call-overload] # all that is read of it is `read`
            for info in archive:
                name = _checked_name(info)
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise ValueError(f"{name[:80]!r} is a link, a device or a sparse file")
                if name in seen:
                    raise ValueError(f"{name[:80]!r} comes twice")
                seen.add(name)
                if len(seen) > _MOST_MEMBERS:
                    raise ValueError(f"it has more than {_MOST_MEMBERS:,} files")
                content = archive.extractfile(info)
                if content is not None:
                    yield name, info, content


def _checked_name(info: tarfile.TarInfo) -> str:
    name = info.name.removeprefix("./")
    if info.isdir() and name in ("", "."):
        return "."
    parts = name.rstrip("/").split("/")
    if (
        name.startswith("/")
        or len(name) > _MOST_NAME
        or not _NAME.fullmatch(name)
        or any(part in ("", ".", "..") or len(part) > 255 for part in parts)
    ):
        raise ValueError(f"the name {info.name[:120]!r} is not a plain relative path")
    name.encode()
    return name


class _Bounded:
    """Reads a stream until it has given more than it may."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._left = self._limit = limit

    def read(self, size: int) -> bytes:
        piece = self._stream.read(min(size, self._left + 1))
        self._left -= len(piece)
        if self._left < 0:
            raise ValueError(f"more than {self._limit:,} bytes come out of it")
        return piece


def _refused(path: Path, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The archive {path.name!r} cannot be used: {reason}.",
        hint="Pack plain files alone: tar -czf model.tar.gz -C FOLDER .",
        field="archive",
        value=reason,
    )
