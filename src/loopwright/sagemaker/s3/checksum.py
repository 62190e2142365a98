"""The checksums that S3 knows, computed while bytes pass."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from loopwright.sagemaker.error import ApiError

_CHECKED = ("CRC32", "SHA1", "SHA256")
_OTHERS = ("CRC32C", "CRC64NVME", "SHA512", "MD5", "XXHASH64", "XXHASH3", "XXHASH128")


class _Sum(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_MAKERS: Mapping[str, Callable[[], _Sum]] = {
    "CRC32": _Crc32,
    "SHA1": hashlib.sha1,
    "SHA256": hashlib.sha256,
}


def new_sum(algorithm: str) -> _Sum:
    """Return an empty checksum of an algorithm (`CRC32`, `SHA1` or `SHA256`)."""
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
