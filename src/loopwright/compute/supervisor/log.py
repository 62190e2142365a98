"""The log of a job: all it prints, up to a limit, and after that only the end."""

from __future__ import annotations

import os

_TAIL_BYTES = 64 << 10


class Log:
    """`log.txt`, or another file, kept whole up to a limit, and after that only its end."""

    def __init__(self, *, limit_bytes: int, path: str = "log.txt") -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._limit = limit_bytes
        self._room = limit_bytes
        self._tail = b""
        self._n_beyond = 0

    @property
    def is_full(self) -> bool:
        """Tell whether more was printed than is kept."""
        return self._n_beyond > 0

    @property
    def left_out_bytes(self) -> int:
        """Return how much of what was printed is not kept."""
        return self._n_beyond - len(self._tail)

    def write(self, data: bytes) -> None:
        """Add what the job has printed."""
        head, rest = data[: self._room], data[self._room :]
        self._room -= len(head)
        self._append(head)
        self._n_beyond += len(rest)
        self._tail = (self._tail + rest)[-_TAIL_BYTES:]

    def close(self) -> None:
        """Write the end of what went beyond the limit."""
        if self._n_beyond:
            note = (
                f"\n[loopwright: the log went beyond {self._limit:,} bytes; "
                f"{self.left_out_bytes:,} bytes are left out here]\n"
            )
            self._append(note.encode() + self._tail)
        os.close(self._file)

    def _append(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            # a full disk must not end the job: it has its own way of meeting one
            pass
