"""Blocks of a text file that hold whole records, so that it can be read a few mebibytes at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from loopwright.data.fault import check_csv

BLOCK_BYTES = 8 << 20
_QUOTE = b'"'
# a record as long as this has a quotation mark that nobody closed
_ODD_BYTES = 256 << 20


def csv_blocks(path: Path, separator: str, *, n_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    r"""Yield a CSV file in pieces that each begin with its header and end where a record does.

    A newline ends a record if the quotation marks before it pair up, as RFC 4180 has it.

    Parameters
    ----------
    path
        A file in UTF-8.
    separator
        What stands between fields, to find the line at fault in a broken file.
    n_bytes
        About how long a piece is, at least 1; longer where one record is.

    Raises
    ------
    InvalidInputError
        If a quotation mark stays open for 256 MiB.
    """
    with path.open("rb") as file:
        header = _header(file)
        for block in _blocks(file, n_bytes, path, separator):
            yield header + block


def _header(file: IO[bytes]) -> bytes:
    """Return the first record and the blank lines before it."""
    lines: list[bytes] = []
    n_quotes = 0
    for line in iter(file.readline, b""):
        lines.append(line)
        n_quotes += line.count(_QUOTE)
        if n_quotes % 2 == 0 and line.strip():
            break
    header = b"".join(lines)
    return header if header.endswith(b"\n") else header + b"\n"


def _blocks(file: IO[bytes], n_bytes: int, path: Path, separator: str) -> Iterator[bytes]:
    rest, wanted = b"", n_bytes
    while chunk := file.read(wanted):
        rest += chunk
        end = _end(rest)
        if end:
            yield rest[:end]
            rest, wanted = rest[end:], n_bytes
            continue
        if len(rest) > _ODD_BYTES:
            check_csv(path, separator)
        # doubled, as every look goes over all of it
        wanted = len(rest)
    if rest:
        yield rest


def _end(data: bytes) -> int:
    """Return where the last whole record ends, 0 if none does; `data` begins with a record."""
    end = data.rfind(b"\n") + 1
    n_quotes = data.count(_QUOTE, 0, end)
    while end and n_quotes % 2:
        before = data.rfind(b"\n", 0, end - 1) + 1
        n_quotes -= data.count(_QUOTE, before, end)
        end = before
    return end
