"""Where a broken text file is broken: the first line at fault, found by reading it plainly."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from loopwright.core.errors import InvalidInputError

_CHUNK_BYTES = 1 << 20
_MAX_FIELD = 1 << 24
_START_BYTES = 1 << 10


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed when its name ends in `.gz`."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def check_bytes(path: Path) -> None:
    """Raise if a text file is empty, cut short, or not UTF-8.

    Raises
    ------
    InvalidInputError
        With the file and the line.
    """
    line, tail, n_bytes = 1, b"", 0
    try:
        with open_bytes(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                n_bytes += len(chunk)
                # decode whole lines, so that no character is cut in two
                whole, newline, rest = (tail + chunk).rpartition(b"\n")
                _check_text(whole + newline, path, line)
                line += whole.count(b"\n") + len(newline)
                tail = rest
            _check_text(tail, path, line)
    except EOFError as cause:
        raise broken(path, None, "The compressed file ends too early.", "Copy it again.") from cause
    except gzip.BadGzipFile as cause:
        raise broken(path, None, "It is not a gzip file.", "Rename or compress it.") from cause
    except PermissionError as cause:
        raise broken(path, None, "It may not be read.", "Give this user read access.") from cause
    if n_bytes == 0:
        raise broken(path, None, "The file is empty.", "Give a file with a header and rows.")


def _check_text(data: bytes, path: Path, first_line: int) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as cause:
        line = first_line + data.count(b"\n", 0, cause.start)
        raise broken(
            path,
            line,
            f"Byte {data[cause.start]:#04x} is not UTF-8 text.",
            "Save the file as UTF-8; `iconv -f latin1 -t utf-8` helps with older exports.",
        ) from cause
    if (at := data.find(b"\0")) >= 0:
        line = first_line + data.count(b"\n", 0, at)
        raise broken(path, line, "It holds a zero byte, so it is not text.", "Export it again.")


def check_encoding(path: Path) -> None:
    """Raise if a text file begins as UTF-16 or UTF-32 does, with its mark or with zero bytes.

    Raises
    ------
    InvalidInputError
        With the file, and how to change its encoding.
    """
    try:
        with open_bytes(path) as file:
            start = file.read(_START_BYTES)
    except (OSError, EOFError):
        # what reads the file says what is wrong with it
        return
    wide = start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff"))
    n_zeros = max(start[::2].count(0), start[1::2].count(0))
    if wide or start.startswith((b"\xff\xfe", b"\xfe\xff")) or n_zeros > len(start) // 4:
        kind = "UTF-32" if wide else "UTF-16"
        raise broken(
            path,
            1,
            f"It is {kind} text, not UTF-8.",
            f"Save it as UTF-8: iconv -f {kind.lower()} -t utf-8.",
        )


def check_header(path: Path, separator: str) -> None:
    """Raise if two columns of a CSV file have one name, or a column has none.

    Raises
    ------
    InvalidInputError
        With the file, the line, the name and the places of its columns.
    """
    with open_bytes(path) as file:
        reader = csv.reader(_lines(file), delimiter=separator)
        try:
            names = next((row for row in reader if row), [])
        except csv.Error:
            # `check_csv` says where
            return
    line = reader.line_num
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names, start=1):
        places.setdefault(name, []).append(place)
    for name, found in places.items():
        if not name.strip() and len(names) > 1:
            raise broken(
                path,
                line,
                f"Column {found[0]} of {len(names)} has no name.",
                "Name it in the header, or leave the column out, such as the index that pandas "
                "writes without index=False.",
            )
        if len(found) > 1:
            where = " and ".join(map(str, found[:2]))
            raise broken(
                path,
                line,
                f"Columns {where} are both named {name!r}.",
                "Name them apart in the header.",
            )


def check_csv(path: Path, separator: str) -> None:
    """Raise if a row of a CSV file has not as many fields as its header, or a quote stays open.

    Raises
    ------
    InvalidInputError
        With the file, the line where the row starts, and both counts.
    """
    csv.field_size_limit(_MAX_FIELD)
    with open_bytes(path) as file:
        reader = csv.reader(_lines(file), delimiter=separator, strict=True)
        header = next(reader, [])
        started = reader.line_num + 1
        try:
            for row in reader:
                if row and len(row) != len(header):
                    raise broken(
                        path,
                        started,
                        f"It has {len(row)} fields where the header has {len(header)}.",
                        "Correct the row, or quote a value that holds the separator.",
                    )
                started = reader.line_num + 1
        except csv.Error as cause:
            raise broken(
                path, started, f"{cause}.", "Close or double the quotation marks."
            ) from cause


def _lines(file: IO[bytes]) -> Iterator[str]:
    for line in file:
        yield line.decode("utf-8-sig", errors="replace")


def check_json_lines(path: Path) -> None:
    """Raise if a line of a JSON lines file is not one JSON object.

    Raises
    ------
    InvalidInputError
        With the file and the line.
    """
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except RecursionError as cause:
                raise too_deep(path, number) from cause
            except ValueError as cause:
                raise broken(
                    path, number, f"It is not JSON: {cause}.", "Write one object a line."
                ) from cause
            if not isinstance(found, dict):
                raise broken(
                    path, number, "It is JSON, but not an object.", "Write one object a line."
                )


def too_deep(path: Path, line: int | None, what: str = "It") -> InvalidInputError:
    """Return the error for JSON whose objects or lists lie too deep in one another to be read."""
    return broken(
        path,
        line,
        f"{what} holds objects or lists nested hundreds deep.",
        "Flatten the records before they are exported.",
    )


def broken(path: Path, line: int | None, message: str, hint: str) -> InvalidInputError:
    """Return the error that says where a file is broken."""
    where = f"{path}, line {line}" if line else str(path)
    return InvalidInputError(
        f"{where}: {message}", hint=hint, field="data.source.path", value=str(path), line=line
    )
