"""Values in the compact protocol of Apache Thrift, as footers of Parquet files are written in.

See "Thrift compact protocol" in its specification. Names are not written, only numbers of fields, so
what is read here needs no description of it, and is written again to the same bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_WHOLE = (4, 5, 6)
_LONG = 15  # what does not fit four bits is written behind them


class Field(NamedTuple):
    """A value in a struct and the number of its kind; a list is the kind of its items, and them."""

    kind: int
    value: Any


Struct = dict[int, Field]


def decoded(data: bytes) -> Struct:
    """Return a struct by the numbers of its fields.

    Raises
    ------
    ValueError
        If it holds a map, of which a footer has none, a number of more than eight bytes, or something
        unknown.
    IndexError
        If it ends too early.
    """
    return _Reader(data).struct()


def decoded_at(data: bytes, start: int) -> tuple[Struct, int]:
    """Return a struct that begins somewhere in `data`, and where it ends; raises as `decoded`."""
    reader = _Reader(data, start)
    return reader.struct(), reader.at


def encoded(value: Struct) -> bytes:
    """Return the bytes of a struct."""
    out = bytearray()
    _write_struct(out, value)
    return bytes(out)


class _Reader:
    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at

    def struct(self) -> Struct:
        found: Struct = {}
        number = 0
        while head := self._byte():
            kind = head & 15
            number = number + (head >> 4) if head >> 4 else self._whole()
            value = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
            found[number] = Field(kind, value)
        return found

    def _value(self, kind: int) -> Any:
        if kind in _WHOLE:
            return self._whole()
        if kind == _BINARY:
            return self._bytes(self._size())
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            head = self._byte()
            n_items = head >> 4 if head >> 4 < _LONG else self._size()
            return head & 15, [self._value(head & 15) for _ in range(n_items)]
        if kind in (_TRUE, _FALSE, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        raise ValueError(f"A value of the kind {kind} is not known.")

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _bytes(self, size: int) -> bytes:
        self.at += size
        return self._data[self.at - size : self.at]

    def _size(self) -> int:
        found = shift = 0
        while (byte := self._byte()) > 127:
            found |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("A number is longer than eight bytes.")
        return found | byte << shift

    def _whole(self) -> int:
        # the sign stands in the last bit
        found = self._size()
        return found >> 1 ^ -(found & 1)


def _write_struct(out: bytearray, value: Struct) -> None:
    before = 0
    for number, (kind, each) in value.items():
        head = (_TRUE if each else _FALSE) if kind in (_TRUE, _FALSE) else kind
        if 0 < number - before <= _LONG:
            out.append(number - before << 4 | head)
        else:
            out.append(head)
            _write_whole(out, number)
        if kind not in (_TRUE, _FALSE):
            _write(out, kind, each)
        before = number
    out.append(0)


def _write(out: bytearray, kind: int, value: Any) -> None:
    if kind in _WHOLE:
        _write_whole(out, value)
    elif kind == _BINARY:
        _write_size(out, len(value))
        out += value
    elif kind == _STRUCT:
        _write_struct(out, value)
    elif kind in (_LIST, _SET):
        of, items = value
        out.append(min(len(items), _LONG) << 4 | of)
        if len(items) >= _LONG:
            _write_size(out, len(items))
        for each in items:
            _write(out, of, each)
    elif kind == _DOUBLE:
        out += value
    else:
        out.append(value)


def _write_size(out: bytearray, value: int) -> None:
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def _write_whole(out: bytearray, value: int) -> None:
    _write_size(out, value << 1 ^ value >> 63)
