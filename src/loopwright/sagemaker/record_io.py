"""recordio-protobuf: the rows of the first algorithms, framed and packed."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_MAGIC = 0xCED7230A
_TENSORS: dict[int, str] = {2: "<f4", 3: "<f8"}
_INT32 = 7
_LARGEST = 1 << 28


def read_records(data: bytes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    """Return the features `(n_rows, n_features)` and the labels `(n_rows,)`, None if there are none.

    Sparse rows are filled up with zeros, as the format has them.

    Raises
    ------
    InvalidInputError
        If the bytes are torn, or the rows do not go together.
    """
    rows: list[Any] = []
    labels: list[float] = []
    for payload in _frames(data):
        features, label = _record(payload)
        rows.append(features)
        if label is not None:
            labels.append(label)
    if not rows:
        raise _broken("it has no record")
    width = max(len(each) for each in rows)
    if any(len(each) != width and not each.is_sparse for each in rows):
        raise _broken("its rows have different lengths")
    X = np.zeros((len(rows), width))
    for number, each in enumerate(rows):
        X[number, each.keys if each.keys is not None else slice(0, len(each.values))] = each.values
    if labels and len(labels) != len(rows):
        raise _broken("some rows have a label and some have none")
    return X, np.array(labels) if labels else None


def write_labels(rows: Sequence[Mapping[str, Sequence[float]]]) -> bytes:
    """Return records without features, whose labels are the values of each row by name."""
    frames = []
    for row in rows:
        payload = b""
        for name, values in row.items():
            tensor = _field(1, struct.pack(f"<{len(values)}f", *values))
            payload += _field(2, _field(1, name.encode()) + _field(2, _field(2, tensor)))
        frames.append(struct.pack("<II", _MAGIC, len(payload)) + payload + bytes(-len(payload) % 4))
    return b"".join(frames)


def _field(number: int, content: bytes) -> bytes:
    length, size = b"", len(content)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


class _Tensor:
    def __init__(self, values: Any, keys: Any, shape: Any) -> None:
        self.values, self.keys, self._shape = values, keys, shape

    @property
    def is_sparse(self) -> bool:
        return self.keys is not None

    def __len__(self) -> int:
        if self.keys is None:
            return len(self.values)
        if len(self._shape):
            size = int(self._shape[0])
            if not 0 <= size <= 1 << 24 or (len(self.keys) and int(max(self.keys)) >= size):
                raise _broken("a key lies beyond its shape")
            return size
        return int(max(self.keys)) + 1 if len(self.keys) else 0


def _frames(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise _broken("its last frame is torn")
        magic, length = struct.unpack_from("<II", data, at)
        if magic != _MAGIC or length > _LARGEST or at + 8 + length > len(data):
            raise _broken(f"there is no whole frame at byte {at}")
        yield data[at + 8 : at + 8 + length]
        at += 8 + length + (-length) % 4


def _record(payload: bytes) -> tuple[_Tensor, float | None]:
    features: _Tensor | None = None
    label = None
    for number, value in _fields(payload):
        if number not in (1, 2) or not isinstance(value, bytes):
            continue
        entry = dict(_fields(value))
        tensor = _tensor(entry.get(2, b""))
        if tensor is None:
            continue
        if number == 1:
            features = tensor
        elif len(tensor.values):
            label = float(tensor.values[0])
    if features is None:
        raise _broken("a record has no features")
    return features, label


def _tensor(value: Any) -> _Tensor | None:
    for number, content in _fields(value) if isinstance(value, bytes) else ():
        if not isinstance(content, bytes):
            continue
        if number in _TENSORS:
            return _numbers(content, _TENSORS[number])
        if number == _INT32:
            return _numbers(content, "")
    return None


def _numbers(content: bytes, dtype: str) -> _Tensor:
    values: list[Any] = []
    keys: list[int] = []
    shape: list[int] = []
    for number, part in _fields(content):
        if number == 1:
            values.append(_packed(part, dtype))
        elif number in (2, 3):
            target = keys if number == 2 else shape
            target += _varints(part) if isinstance(part, bytes) else [int(part)]
    flat = np.concatenate(values) if values else np.zeros(0)
    if keys and len(keys) != len(flat):
        raise _broken("a row has more keys than values, or fewer")
    return _Tensor(flat, np.array(keys, np.int64) if keys else None, shape)


def _packed(part: Any, dtype: str) -> Any:
    if not isinstance(part, bytes):
        return np.array([part], np.float64)
    if not dtype:
        return np.array(_varints(part), np.int64).astype(np.int32).astype(np.float64)
    if len(part) % int(dtype[-1]):
        raise _broken("a tensor is torn")
    return np.frombuffer(part, dtype).astype(np.float64)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a message of protobuf: their numbers, and numbers or bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise _broken(f"it has a field of the kind {kind}")
        if at + length > len(data):
            raise _broken("a field is torn")
        piece = data[at : at + length]
        at += length
        yield number, piece if kind == 2 else struct.unpack("<d" if kind == 1 else "<f", piece)[0]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise _broken("a number is torn")


def _varints(data: bytes) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def _broken(why: str) -> InvalidInputError:
    return InvalidInputError(
        f"The recordio-protobuf data cannot be read: {why}.",
        hint="Write it with the SDK's write_numpy_to_dense_tensor or RecordSerializer.",
        field="data",
    )
