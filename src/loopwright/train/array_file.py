"""Array files: named arrays in an uncompressed `.npz`, the same bytes for the same arrays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

# a blend holds the arrays of up to 512 predictors
_MAX_ARRAYS = 1 << 13
_MAX_DIMENSIONS = 3
# 32- and 64-bit numbers and bytes, little-endian: nothing that holds an object
_KINDS = frozenset({"<f4", "<f8", "<i4", "<i8", "|u1"})


def pack_arrays(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    """Return the arrays as the bytes of an `.npz`, sorted by name and without times.

    `numpy.load(..., allow_pickle=False)` reads it too.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            content = io.BytesIO()
            array = np.ascontiguousarray(arrays[name])
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            # a ZipInfo made by hand carries the date 1980-01-01, not now
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
    return buffer.getvalue()


def open_arrays(data: bytes, *, what: str) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays in the bytes of an array file, checked before anything is allocated.

    Arrays share the memory of `data` and cannot be written.

    Parameters
    ----------
    data
        What `pack_arrays` returned; may come from anywhere.
    what
        Name of the file in messages.

    Raises
    ------
    InvalidInputError
        If it is no such file: compressed (which could hide a huge one), torn, with an array of
        objects, or with a shape that does not fit its bytes.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > _MAX_ARRAYS:
                raise _refusal(what, f"it holds {len(entries):,} arrays")
            return {_array_name(e, what): _opened(archive, e, what) for e in entries}
    except (
        zipfile.BadZipFile,
        EOFError,
        OSError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OverflowError,
    ) as error:
        raise _refusal(what, str(error)) from error


def _array_name(entry: zipfile.ZipInfo, what: str) -> str:
    name = entry.filename.removesuffix(".npy")
    if name == entry.filename or not name.isidentifier():
        raise _refusal(what, f"its part {entry.filename[:80]!r} is no array")
    return name


def _opened(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, what: str) -> npt.NDArray[np.generic]:
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise _refusal(what, f"its part {entry.filename[:80]!r} is compressed")
    content = io.BytesIO(archive.read(entry))
    if np.lib.format.read_magic(content) != (1, 0):
        raise _refusal(what, f"its part {entry.filename[:80]!r} has an unknown format")
    shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(content)
    if dtype.str not in _KINDS:
        raise _refusal(what, f"its part {entry.filename[:80]!r} has elements of type {dtype.str}")
    n_values = 1
    for size in shape:
        n_values *= size
    body = memoryview(content.getvalue())[content.tell() :]
    if fortran_order or len(shape) > _MAX_DIMENSIONS or n_values * dtype.itemsize != len(body):
        raise _refusal(
            what, f"its part {entry.filename[:80]!r} says shape {shape} and has {len(body)} bytes"
        )
    return np.frombuffer(body, dtype=dtype).reshape(shape)


def _refusal(what: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"{what} is not an array file that can be trusted: {reason}.",
        hint="Train the model again, or fetch the file again.",
        field=what,
        value=reason,
    )
