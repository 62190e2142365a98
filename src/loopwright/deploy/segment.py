"""Append-only logs of JSON lines, cut into segments, that survive `kill -9` and are read by cursor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loopwright.core.errors import InvalidInputError

SEGMENT_BYTES = 64 << 20
_SUFFIX = ".ndjson"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """How far a reader has come: for every segment, the number of bytes already read.

    A cursor is small and made of JSON types (`to_json`, `from_json`), so a reader keeps it in its own
    records beside what it made of the lines.
    """

    offsets: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the cursor as JSON types."""
        return {"format": 1, "offsets": dict(self.offsets)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Cursor:
        """Return the cursor that `to_json` wrote.

        Raises
        ------
        InvalidInputError
            If the value is not a cursor of format 1.
        """
        offsets = value.get("offsets")
        if value.get("format") != 1 or not isinstance(offsets, Mapping):
            raise InvalidInputError(
                f"{str(value)[:200]} is not a log cursor of format 1.",
                hint="Leave the cursor out to read the log from its beginning.",
                field="cursor",
            )
        return cls(offsets={str(name): int(offset) for name, offset in offsets.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Whole lines read from a log, in the order they were written, and where to go on."""

    lines: list[bytes]
    cursor: Cursor


class SegmentLog:
    """Append JSON lines to the newest segment of a folder.

    Every `append` is one write to a descriptor opened for appending: when it returns, the lines are
    the system's, and a `kill -9` of this process cannot lose them. Each writer opens segments of its
    own, so several processes may write to one folder. Not for use from two threads at once.

    Parameters
    ----------
    folder
        Where the segments lie; made when the first line is written.
    segment_bytes
        Size past which a new segment is begun.
    durable
        Whether `append` also waits until the disk has the lines, so that they survive a power cut.
    """

    def __init__(
        self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, durable: bool = False
    ) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._durable = durable
        self._descriptor: int | None = None
        self._size = 0
        self._torn = False

    def append(self, lines: bytes) -> None:
        """Write lines, each with its newline.

        Raises
        ------
        OSError
            If the disk is full or failing; some of the lines may have been written.
        """
        if self._descriptor is None or (
            self._size and self._size + len(lines) > self._segment_bytes
        ):
            self._roll()
        # after a failed write the segment may end in half a line: close that line first
        self._write(b"\n" + lines if self._torn else lines)
        if self._durable:
            self.sync()

    def sync(self) -> None:
        """Wait until the disk has everything that was appended."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Hand everything to the disk and let the segment go; a later append begins a new one."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _write(self, data: bytes) -> None:
        assert self._descriptor is not None  # noqa: S101 `append` has just opened it
        rest = memoryview(data)
        self._torn = True
        while rest:
            written = os.write(self._descriptor, rest)
            self._size += written
            rest = rest[written:]
        self._torn = False

    def _roll(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.close()
        number = max((int(path.stem) for path in segments(self.folder)), default=0)
        while self._descriptor is None:
            number += 1
            try:
                self._descriptor = os.open(
                    self.folder / f"{number:08d}{_SUFFIX}",
                    os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
                    0o600,
                )
            except FileExistsError:  # another process was faster
                continue
        self._size, self._torn = 0, False
        if self._durable:
            _sync_folder(self.folder)


def segments(folder: Path) -> list[Path]:
    """Return the segments of a log, oldest first; none if there is no such folder."""
    return sorted(path for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())


def has_more(folder: Path, *, after: Cursor | None = None) -> bool:
    """Tell whether anything was written since a cursor; reads nothing but the sizes of files."""
    offsets = after.offsets if after else {}
    return any(path.stat().st_size > offsets.get(path.name, 0) for path in segments(folder))


def end_of_log(folder: Path) -> Cursor:
    """Return the cursor of a reader that has read all there is now."""
    return Cursor(offsets={path.name: path.stat().st_size for path in segments(folder)})


def read_page(
    folder: Path,
    *,
    after: Cursor | None = None,
    max_bytes: int = SEGMENT_BYTES,
    until: Cursor | None = None,
) -> Page:
    """Return the whole lines written since a cursor, at most about `max_bytes` of them.

    A line whose end has not been written yet, because its writer is at work or was killed, is left
    for later. Read again with the returned cursor until a page comes back empty. With `until`,
    nothing is read that a reader with that cursor has not read.
    """
    offsets = dict(after.offsets) if after else {}
    lines: list[bytes] = []
    for path in segments(folder):
        if max_bytes <= 0:
            break
        offset, allowed = offsets.get(path.name, 0), max_bytes
        if until is not None:
            allowed = min(max_bytes, until.offsets.get(path.name, 0) - offset)
        if allowed <= 0:
            continue
        chunk = _whole_lines(path, offset=offset, max_bytes=allowed)
        if chunk:
            offsets[path.name] = offsets.get(path.name, 0) + len(chunk)
            max_bytes -= len(chunk)
            lines.extend(line for line in chunk.split(b"\n") if line)
    return Page(lines=lines, cursor=Cursor(offsets=offsets))


def _whole_lines(path: Path, *, offset: int, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(max_bytes)
        if data and b"\n" not in data:
            data += file.readline()  # one line longer than what is left of the page
    return data[: data.rfind(b"\n") + 1]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
