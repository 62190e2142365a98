"""The messages of an Arrow IPC stream, looked at before anything is decoded.

See "Encapsulated message format" in the specification of Apache Arrow, `Message.fbs`, and the internals
of FlatBuffers: a table begins with the way back to its vtable, which says where its fields are.
"""

from __future__ import annotations

import struct

_CONTINUES = 0xFFFF_FFFF
_MAX_MESSAGES, _MAX_ITEMS = 10_000, 100_000
_SCHEMA, _DICTIONARY, _RECORDS = 1, 2, 3
_NODE_BYTES = _BUFFER_BYTES = 16


def check_arrow_stream(body: bytes, *, max_rows: int) -> int:
    """Return how many rows a stream has, if everything in it lies within it and is not compressed.

    Then it becomes no larger than it is when it is decoded. The walk ends early past `max_rows`.

    Raises
    ------
    ValueError
        If it is no stream, a message or a buffer lies outside of it, or it is compressed.
    """
    at = n_rows = 0
    for number in range(_MAX_MESSAGES + 1):
        size, at = _size(body, at)
        if size == 0:
            return n_rows
        message = _Table.root(body[at : at + size])
        at += size
        kind, n_bytes = message.number(1, "<B"), message.number(3, "<q")
        if size > len(body) or not 0 <= n_bytes <= len(body) - at:
            raise ValueError("a message lies outside of it")
        if (number == 0) != (kind == _SCHEMA):
            raise ValueError("it does not begin with its one schema")
        if kind == _RECORDS:
            n_rows += _checked_batch(message.table(2), n_bytes, max_rows)
        elif kind == _DICTIONARY:
            _checked_batch(message.table(2).table(1), n_bytes, max_rows)
        elif kind != _SCHEMA:
            raise ValueError(f"a message of the kind {kind} is not known")
        if n_rows > max_rows:
            return n_rows
        at += n_bytes
    raise ValueError("it has too many messages")


def _size(body: bytes, at: int) -> tuple[int, int]:
    """Return how long the head of the next message is, and where it begins; 0 at the end."""
    if at == len(body):
        return 0, at
    size, at = _read(body, at, "<I"), at + 4
    if size == _CONTINUES:  # absent in streams of before 0.15
        size, at = _read(body, at, "<I"), at + 4
    return size, at


def _checked_batch(batch: _Table, n_bytes: int, max_rows: int) -> int:
    n_rows = batch.number(0, "<q")
    if n_rows < 0:
        raise ValueError("a batch has fewer rows than none")
    if batch.has(3):
        raise ValueError("it is compressed; send it uncompressed")
    if n_rows > max_rows:
        return n_rows
    for length, _ in batch.pairs(1, _NODE_BYTES):
        # values of a nested column may be more than the rows, but not more than the bytes
        if not 0 <= length <= max(n_rows, 8 * n_bytes):
            raise ValueError(f"a column has {length} values")
    n_used = 0
    for start, length in batch.pairs(2, _BUFFER_BYTES):
        if start < 0 or length < 0 or start + length > n_bytes:
            raise ValueError("a buffer lies outside of its batch")
        n_used += length
    if n_used > n_bytes:
        raise ValueError("its buffers overlap")
    return n_rows


class _Table:
    """A table in a FlatBuffer: where it begins, and where its vtable does."""

    __slots__ = ("_at", "_data", "_vtable", "_vtable_bytes")

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - _read(data, at, "<i")
        self._vtable_bytes = _read(data, self._vtable, "<H")

    @classmethod
    def root(cls, data: bytes) -> _Table:
        return cls(data, _read(data, 0, "<I"))

    def _field(self, number: int) -> int:
        """Return where a field is, 0 if it is absent."""
        slot = 4 + 2 * number
        if slot + 2 > self._vtable_bytes:
            return 0
        offset = _read(self._data, self._vtable + slot, "<H")
        return self._at + offset if offset else 0

    def has(self, number: int) -> bool:
        return self._field(number) != 0

    def number(self, number: int, form: str) -> int:
        at = self._field(number)
        return _read(self._data, at, form) if at else 0

    def _target(self, number: int) -> int:
        at = self._field(number)
        if not at:
            raise ValueError("a part of a message is missing")
        return at + _read(self._data, at, "<I")

    def table(self, number: int) -> _Table:
        return _Table(self._data, self._target(number))

    def pairs(self, number: int, item_bytes: int) -> list[tuple[int, int]]:
        """Return the two numbers of every item of a vector of structs."""
        if not self.has(number):
            return []
        at = self._target(number)
        n_items = _read(self._data, at, "<I")
        if n_items > _MAX_ITEMS or at + 4 + n_items * item_bytes > len(self._data):
            raise ValueError("a list lies outside of its message")
        return list(struct.iter_unpack("<qq", self._data[at + 4 : at + 4 + n_items * item_bytes]))


def _read(data: bytes, at: int, form: str) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(form):
        raise ValueError("it ends too early")
    return int(struct.unpack_from(form, data, at)[0])
