"""Archives: named bytes in a `.tar.gz`, the same archive for the same bytes, opened with care."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from loopwright.core.errors import InvalidInputError

# a list of what may be, not of what may not: no "..", no root, no drive, no hidden or odd name
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*")
_MAX_NAME = 100
# files of data: none of these can hold code that opening would run
_ENDINGS = frozenset({"json", "npz", "ubj", "txt", "parquet", "onnx", "md", "csv"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """How much an archive may hold.

    Parameters
    ----------
    packed_bytes, total_bytes, member_bytes
        Size of the archive as it lies there, of all that comes out of it, and of one member.
    members
        How many files.
    """

    packed_bytes: int = 1 << 29
    total_bytes: int = 1 << 30
    member_bytes: int = 1 << 29
    members: int = 256


def pack_archive(members: Mapping[str, bytes]) -> bytes:
    """Return a `.tar.gz` of some files, sorted by name, without times, owners or file names.

    Raises
    ------
    InvalidInputError
        If a name could leave the folder it is unpacked in, or its ending is not one of data.
    """
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(members):
            info = tarfile.TarInfo(_checked_name(name))
            info.size = len(members[name])
            archive.addfile(info, io.BytesIO(members[name]))
    return buffer.getvalue()


def open_archive(data: bytes, *, limits: ArchiveLimits | None = None) -> dict[str, bytes]:
    """Return the files in a `.tar.gz` that may come from anywhere; nothing is written.

    Raises
    ------
    InvalidInputError
        If it is torn, too large, or holds anything but plain files of data with plain names.
    """
    limits = limits or ArchiveLimits()
    if len(data) > limits.packed_bytes:
        raise _refusal(f"it has {len(data):,} bytes (at most {limits.packed_bytes:,})")
    members: dict[str, bytes] = {}
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as unpacked:
            bounded = _Bounded(unpacked, limits.total_bytes)
            # a stream: a header cannot send the reader back to where it was
            with tarfile.open(fileobj=bounded, mode="r|") as archive:
                for info in archive:
                    if info.isdir():
                        continue
                    name = _checked_member(info, members, limits)
                    members[name] = _content(archive, info)
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise _refusal(f"it is torn or no .tar.gz ({error})") from error
    return members


class _Bounded(io.RawIOBase):
    """Reads a stream until it has given more than it may."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        self._stream = stream
        self._left = limit
        self._limit = limit

    def read(self, size: int = -1, /) -> bytes:
        piece = self._stream.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(piece)
        if self._left < 0:
            raise _refusal(f"more than {self._limit:,} bytes come out of it")
        return piece


def _checked_member(
    info: tarfile.TarInfo, members: Mapping[str, bytes], limits: ArchiveLimits
) -> str:
    if not info.isreg() or info.issparse():
        raise _refusal(f"its member {info.name[:80]!r} is a link, a device or a sparse file")
    if not 0 <= info.size <= limits.member_bytes:
        raise _refusal(
            f"its member {info.name[:80]!r} has {info.size:,} bytes "
            f"(at most {limits.member_bytes:,})"
        )
    if len(members) >= limits.members:
        raise _refusal(f"it has more than {limits.members:,} members")
    name = _checked_name(info.name)
    if name.lower() in {known.lower() for known in members}:
        raise _refusal(f"it holds {name!r} twice")
    return name


def _content(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(info)
    content = file.read() if file else b""
    if len(content) != info.size:
        raise _refusal(f"its member {info.name[:80]!r} is cut off")
    return content


def _checked_name(name: str) -> str:
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise _refusal(f"the name of its member {name[:120]!r} is not a plain relative path")
    if name.rpartition(".")[2].lower() not in _ENDINGS:
        raise _refusal(
            f"its member {name!r} is not one of the kinds of data {', '.join(sorted(_ENDINGS))}"
        )
    return name


def _refusal(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The model archive cannot be trusted: {reason}.",
        hint="Pack it again with loopwright, or fetch it again.",
        field="archive",
        value=reason,
    )
