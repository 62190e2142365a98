"""The checksums that S3 knows, computed while bytes pass."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Protocol

from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.error import ApiError

anycrc: Any = LazyModule("anycrc")

_CHECKED = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
_OTHERS = ("SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128")


class _Sum(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    def __init__(self, step: Callable[[bytes, int], int], n_bytes: int) -> None:
        self._step, self._n_bytes, self._value = step, n_bytes, 0

    def update(self, data: bytes) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._n_bytes, "big")


@cache
def _model(name: str) -> Callable[[bytes, int], int]:
    found: Callable[[bytes, int], int] = anycrc.Model(name).calc
    return found


_MAKERS: Mapping[str, Callable[[], _Sum]] = {
    "CRC32": partial(_Crc, zlib.crc32, 4),
    "CRC32C": lambda: _Crc(_model("CRC32C"), 4),
    "CRC64NVME": lambda: _Crc(_model("CRC64-NVME"), 8),
    "SHA1": hashlib.sha1,
    "SHA256": hashlib.sha256,
}


def new_sum(algorithm: str) -> _Sum:
    """Return an empty checksum of an algorithm, `CRC64NVME` say."""
    return _MAKERS[algorithm]()


def encoded(found: bytes) -> str:
    """Return a checksum as its header has it."""
    return base64.b64encode(found).decode()


def wanted_sums(given: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksums a request brings, by algorithm.

    Raises
    ------
    ApiError
        `NotImplemented` for one that cannot be checked here: bytes are never kept under a
        checksum that nobody has compared.
    """
    for name in _OTHERS:
        if given.get(f"Checksum{name}"):
            raise _unchecked(name)
    return {name: given[f"Checksum{name}"] for name in _CHECKED if given.get(f"Checksum{name}")}


def trailing_algorithm(trailer: str) -> str | None:
    """Return the algorithm of a checksum that follows the body, from the header that announces it."""
    if not trailer:
        return None
    name = trailer.strip().lower().removeprefix("x-amz-checksum-").upper()
    if name not in _CHECKED:
        raise _unchecked(name)
    return name


def checksum_type(algorithm: str | None, asked: str | None = None) -> str | None:
    """Return whether the checksum of an upload in parts is of the whole object or of its parts' sums.

    Raises
    ------
    ApiError
        `InvalidRequest` if the algorithm does not have the kind that was asked for.
    """
    if algorithm is None:
        return None
    if algorithm in _OTHERS:
        raise _unchecked(algorithm)
    kinds = ["COMPOSITE"] if algorithm.startswith("SHA") else ["COMPOSITE", "FULL_OBJECT"]
    if algorithm == "CRC64NVME":
        kinds = ["FULL_OBJECT"]
    if asked is not None and asked not in kinds:
        raise ApiError(
            "InvalidRequest",
            f"The {asked} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
        )
    return asked or kinds[0]


def composite(algorithm: str, sums: list[str]) -> str:
    """Return the checksum of an object in parts: that of the checksums of its parts."""
    total = new_sum(algorithm)
    for each in sums:
        total.update(base64.b64decode(each))
    return f"{encoded(total.digest())}-{len(sums)}"


def _unchecked(name: str) -> ApiError:
    return ApiError(
        "NotImplemented",
        f"Checksums of the kind {name} are not checked here; use {', '.join(_CHECKED)}.",
    )
