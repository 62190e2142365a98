"""Channels that a script reads from named pipes: `input/data/CHANNEL_EPOCH`, one for each epoch.

A pipe is there when the one before it has been read to its end, or left. Standard library only,
since the process that starts the script imports it.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

_MAGIC = 0xCED7230A
# what the length field of one frame can hold
_LONGEST_RECORD = (1 << 29) - 1
_PIECE = 1 << 20


def plan(
    rows: Path, *, is_wrapped: bool, is_packed: bool = False, seed: int | None = None
) -> dict[str, Any]:
    """Return what is streamed through a channel.

    Parameters
    ----------
    rows
        A file of JSON lines, each a list of what belongs together: `{"file": PATH}` or
        `{"text": TEXT}`.
    is_wrapped
        Whether each of these becomes a RecordIO record.
    is_packed
        Whether the files are unpacked by gzip.
    seed
        Of the order of the lines, another for each epoch; None for the order in the file.
    """
    return {"rows": str(rows), "is_wrapped": is_wrapped, "is_packed": is_packed, "seed": seed}


def make_pipes(folder: Path, plans: Mapping[str, Mapping[str, Any]]) -> None:
    """Make the pipe of the first epoch of each channel in a folder."""
    for name in plans:
        os.mkfifo(_pipe(folder, name, 0))


def feed(
    folder: Path, plans: Mapping[str, Mapping[str, Any]], *, fail: Callable[[str], None]
) -> None:
    """Stream channels through pipes in threads that end with the process.

    Parameters
    ----------
    fail
        Called with the reason when data cannot be streamed on.
    """
    for name, each in plans.items():
        threading.Thread(target=_feed, args=(folder, name, each, fail), daemon=True).start()


def _pipe(folder: Path, name: str, epoch: int) -> Path:
    return folder / f"{name}_{epoch}"


def _feed(folder: Path, name: str, about: Mapping[str, Any], fail: Callable[[str], None]) -> None:
    epoch = 0
    try:
        while True:
            # a reader may have had enough
            with suppress(BrokenPipeError), _pipe(folder, name, epoch).open("wb") as out:
                # whoever reads to the end looks for the next one at once
                os.mkfifo(_pipe(folder, name, epoch + 1))
                _write(out, about, epoch)
            epoch += 1
    except (OSError, ValueError, EOFError, zlib.error) as error:
        # the script would take what it has for all there is
        fail(f"The channel {name} cannot be streamed: {error}")


def _write(out: BinaryIO, about: Mapping[str, Any], epoch: int) -> None:
    for row in _rows(Path(about["rows"]), about["seed"], epoch):
        for each in row:
            if about["is_wrapped"]:
                _write_record(out, b"".join(_pieces(each, is_packed=about["is_packed"])))
                continue
            for piece in _pieces(each, is_packed=about["is_packed"]):
                out.write(piece)
    out.flush()


def _rows(path: Path, seed: int | None, epoch: int) -> Iterator[Sequence[Mapping[str, str]]]:
    with path.open() as file:
        lines: Iterator[str] | list[str] = iter(file)
        if seed is not None:
            lines = list(lines)
            random.Random(f"{seed}/{epoch}").shuffle(lines)  # noqa: S311 no secret
        for line in lines:
            yield json.loads(line)


def _pieces(each: Mapping[str, str], *, is_packed: bool) -> Iterator[bytes]:
    if "text" in each:
        yield each["text"].encode()
        return
    path = each["file"]
    with cast(BinaryIO, gzip.open(path)) if is_packed else Path(path).open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def _write_record(out: BinaryIO, data: bytes) -> None:
    """Write a record as RecordIO has it: a sign, the length, the data up to a multiple of four."""
    if len(data) > _LONGEST_RECORD:
        raise ValueError(f"A record of {len(data):,} bytes is longer than RecordIO can hold.")
    out.write(struct.pack("<II", _MAGIC, len(data)) + data + bytes(-len(data) % 4))
