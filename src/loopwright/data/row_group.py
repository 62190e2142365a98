"""Row groups of Parquet files, put together to one file without packing their columns anew.

The bytes of a column in a row group depend on its cells alone, and not on where they stand: they are
copied, and only the footer of the file, which says where everything lies, is written anew. See
"File Format" and `parquet.thrift` in the specification of Apache Parquet.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.data.thrift import Field, Struct, decoded, encoded

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

GROUP_ROWS = 100_000
"""Rows in every row group of a snapshot but the last; the bytes of its file depend on it."""

_MAGIC = b"PAR1"
_ZSTD = 6
_I64, _LIST = 6, 9
# fields of parquet.thrift
_N_ROWS, _GROUPS = 3, 4  # FileMetaData
_CHUNKS, _GROUP_BYTES, _ROWS, _GROUP_START, _GROUP_PACKED, _ORDINAL = 1, 2, 3, 5, 6, 7  # RowGroup
_CHUNK_START, _FACTS, _OFFSETS, _N_OFFSETS, _BOUNDS, _N_BOUNDS = 2, 3, 4, 5, 6, 7  # ColumnChunk
_PATH, _CODEC, _N_BYTES, _N_PACKED = 3, 4, 6, 7  # ColumnMetaData
_PAGES, _INDEX, _DICTIONARY, _BLOOM = 9, 10, 11, 14
_PAGE_LOCATIONS, _PAGE_START = 1, 1  # OffsetIndex, PageLocation


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """A column of one row group: what its footer says of it, and the file that has its bytes."""

    says: Struct
    file: IO[bytes]

    @property
    def facts(self) -> Struct:
        facts: Struct = self.says[_FACTS].value
        return facts

    @property
    def name(self) -> str:
        return b".".join(self.facts[_PATH].value[1]).decode()

    @property
    def is_final(self) -> bool:
        """Whether it is packed as the columns of snapshots are, and all of it can be moved."""
        return bool(self.facts[_CODEC].value == _ZSTD and _BLOOM not in self.facts)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many bytes it has unpacked and packed."""
        return self.facts[_N_BYTES].value, self.facts[_N_PACKED].value

    def read(self, start: int, n_bytes: int) -> bytes:
        self.file.seek(start)
        return self.file.read(n_bytes)

    def moved(self, target: IO[bytes]) -> _Moved:
        """Copy the bytes to the end of a file."""
        start = min(self.facts[i].value for i in (_PAGES, _DICTIONARY) if i in self.facts)
        shift = target.tell() - start
        target.write(self.read(start, self.sizes[1]))
        facts = _shifted(self.facts, (_PAGES, _INDEX, _DICTIONARY), shift)
        # what the footer says of a column stands behind the column too
        target.write(encoded(facts))
        says = _shifted(self.says, (_CHUNK_START,), shift)
        says[_FACTS] = Field(self.says[_FACTS].kind, facts)
        bounds = offsets = None
        if _BOUNDS in says:
            bounds = self.read(says[_BOUNDS].value, says[_N_BOUNDS].value)
        if _OFFSETS in says:
            index = decoded(self.read(says[_OFFSETS].value, says[_N_OFFSETS].value))
            kind, (of, pages) = index[_PAGE_LOCATIONS]
            moved = [_shifted(page, (_PAGE_START,), shift) for page in pages]
            offsets = encoded({**index, _PAGE_LOCATIONS: Field(kind, (of, moved))})
        return _Moved(says=says, bounds=bounds, offsets=offsets)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moved:
    """What a footer has to say of a column that was moved, and where its pages begin and lie between."""

    says: Struct
    bounds: bytes | None
    offsets: bytes | None

    def put(self, index: bytes | None, at: int, size: int, target: IO[bytes]) -> None:
        """Write an index of the pages to the end of a file; the footer says where it is."""
        if index is not None:
            self.says[at] = Field(self.says[at].kind, target.tell())
            self.says[size] = Field(self.says[size].kind, len(index))
            target.write(index)


def _shifted(value: Struct, numbers: Collection[int], shift: int) -> Struct:
    return {
        number: Field(field.kind, field.value + shift) if number in numbers else field
        for number, field in value.items()
    }


def are_joinable(paths: Sequence[Path]) -> bool:
    """Whether files have one row group each, of 100,000 rows but for the last, in order."""
    heights = [[group[_ROWS].value for group in _groups(_footer(path))] for path in paths]
    return bool(heights) and all(
        len(found) == 1
        and (found[0] == GROUP_ROWS or (i == len(heights) - 1 and found[0] > 0))
        and found[0] <= GROUP_ROWS
        for i, found in enumerate(heights)
    )


def join_groups(
    paths: Sequence[Path],
    schema: Mapping[str, pl.DataType],
    target: Path,
    *,
    kept: Collection[str],
    others: Callable[[Path, Sequence[str]], pl.DataFrame],
) -> None:
    """Write one file of the row groups of several, byte for byte as `write_groups` would write it.

    One row group is in memory at a time.

    Parameters
    ----------
    paths
        Files for which `are_joinable`.
    schema
        The columns of the new file, in order.
    target
        Where it goes.
    kept
        Columns that are copied wherever they have the type of `schema` and are packed in the same way.
    others
        Gives some columns of a file as they have to be in the new one.
    """
    groups: list[Struct] = []
    indexed: list[_Moved] = []
    with target.open("wb") as file:
        file.write(_MAGIC)
        for number, path in enumerate(paths):
            with path.open("rb") as part:
                chunks = {each.name: each for each in _chunks(part)}
                found = dict(pl.read_parquet_schema(path))
                stay = {
                    name
                    for name in kept
                    if found.get(name) == schema[name] and chunks[name].is_final
                }
                if rest := [name for name in schema if name not in stay]:
                    packed = io.BytesIO()
                    others(path, rest).select(rest).write_parquet(packed, **PACKING)
                    chunks |= {each.name: each for each in _chunks(packed)}
                wanted = [chunks[name] for name in schema]
                start, moved = file.tell(), [chunk.moved(file) for chunk in wanted]
            indexed += moved
            groups.append(_group(_groups(_footer(path))[0], number, start, wanted, moved))
        for each in indexed:
            each.put(each.bounds, _BOUNDS, _N_BOUNDS, file)
        for each in indexed:
            each.put(each.offsets, _OFFSETS, _N_OFFSETS, file)
        footer = encoded(_joined(schema, groups))
        file.write(footer + len(footer).to_bytes(4, "little") + _MAGIC)


PACKING: dict[str, Any] = {
    "compression": "zstd",
    "compression_level": 3,
    "row_group_size": GROUP_ROWS,
}
"""How the columns of snapshots are packed."""


def write_groups(rows: pl.LazyFrame, target: Path) -> None:
    """Write rows as they stream through, in their order; the bytes depend on the rows alone."""
    rows.sink_parquet(target, maintain_order=True, **PACKING)


def _group(
    before: Struct, number: int, start: int, chunks: Sequence[_Chunk], moved: Sequence[_Moved]
) -> Struct:
    """Return what a footer says of a row group; that of its columns is filled in later."""
    new = {
        _CHUNKS: (before[_CHUNKS].value[0], [each.says for each in moved]),
        _GROUP_BYTES: sum(chunk.sizes[0] for chunk in chunks),
        _GROUP_START: start,
        _GROUP_PACKED: sum(chunk.sizes[1] for chunk in chunks),
        _ORDINAL: number,
    }
    return {at: Field(kind, new.get(at, value)) for at, (kind, value) in before.items()}


def _joined(schema: Mapping[str, pl.DataType], groups: Sequence[Struct]) -> Struct:
    empty = io.BytesIO()
    pl.DataFrame(schema=dict(schema)).write_parquet(empty, **PACKING)
    footer = _footer(empty)
    n_rows = sum(group[_ROWS].value for group in groups)
    return footer | {_N_ROWS: Field(_I64, n_rows), _GROUPS: Field(_LIST, (12, list(groups)))}


def _chunks(file: IO[bytes]) -> Iterator[_Chunk]:
    for group in _groups(_footer(file)):
        for says in group[_CHUNKS].value[1]:
            yield _Chunk(says=says, file=file)


def _groups(footer: Struct) -> list[Struct]:
    groups: list[Struct] = footer[_GROUPS].value[1]
    return groups


def _footer(source: Path | IO[bytes]) -> Struct:
    if isinstance(source, Path):
        with source.open("rb") as file:
            return _footer(file)
    source.seek(-8, io.SEEK_END)
    n_bytes = int.from_bytes(source.read(4), "little")
    source.seek(-8 - n_bytes, io.SEEK_END)
    return decoded(source.read(n_bytes))
