"""How large a Parquet file becomes when it is decoded, told from its footer and its page headers.

See "File Format" and `parquet.thrift` in the specification of Apache Parquet.
"""

from __future__ import annotations

from collections.abc import Collection

from loopwright.data.thrift import Struct, decoded, decoded_at

_MAGIC = b"PAR1"
_MAX_FOOTER_BYTES = 1 << 20
_MAX_PAGES = 20_000
# fields of parquet.thrift
_GROUPS = 4  # FileMetaData
_CHUNKS, _ROWS = 1, 3  # RowGroup
_FACTS = 3  # ColumnChunk
_PATH, _PACKED, _PAGES, _DICTIONARY = 3, 7, 9, 11  # ColumnMetaData
_UNPACKED_SIZE, _PACKED_SIZE, _DATA_V1, _DATA_V2 = 2, 3, 5, 8  # PageHeader
_N_VALUES = 1  # DataPageHeader, DataPageHeaderV2


def check_parquet(body: bytes, names: Collection[str], *, max_rows: int, max_bytes: int) -> int:
    """Return how many rows a file has, if some of its columns may be decoded.

    Parameters
    ----------
    body
        The file.
    names
        The columns that will be decoded; columns of nested values are not looked at.
    max_rows
        With more rows the pages are not looked at; the caller refuses the file.
    max_bytes
        How large the pages may become together.

    Raises
    ------
    ValueError, LookupError, TypeError, RecursionError
        If it is no Parquet file, its pages do not have the values that its footer promises, or they
        would become too large.
    """
    groups = _groups(body)
    n_rows = sum(int(group[_ROWS].value) for group in groups)
    if any(group[_ROWS].value < 0 for group in groups):
        raise ValueError("a group has fewer rows than none")
    if n_rows > max_rows:
        return n_rows
    n_bytes = n_pages = 0
    for group in groups:
        for chunk in group[_CHUNKS].value[1]:
            facts = chunk[_FACTS].value
            path = facts[_PATH].value[1]
            if len(path) == 1 and path[0].decode() in names:
                pages, unpacked = _walked(body, facts, group[_ROWS].value, _MAX_PAGES - n_pages)
                n_pages += pages
                n_bytes += unpacked
            if n_bytes > max_bytes:
                raise ValueError(f"it would become larger than {max_bytes} bytes")
    return n_rows


def _groups(body: bytes) -> list[Struct]:
    if len(body) < 12 or body[:4] != _MAGIC or body[-4:] != _MAGIC:
        raise ValueError("it does not begin and end with PAR1")
    n_bytes = int.from_bytes(body[-8:-4], "little")
    if n_bytes > min(len(body) - 12, _MAX_FOOTER_BYTES):
        raise ValueError(f"its footer would have {n_bytes} bytes")
    groups: list[Struct] = decoded(body[-8 - n_bytes : -8])[_GROUPS].value[1]
    return groups


def _walked(body: bytes, facts: Struct, n_rows: int, max_pages: int) -> tuple[int, int]:
    """Return how many pages a column has in a group, and how many bytes they become."""
    starts = [facts[each].value for each in (_PAGES, _DICTIONARY) if each in facts]
    at = min(start for start in starts if start > 0)
    end = at + facts[_PACKED].value
    if not 0 < at <= end <= len(body):
        raise ValueError("a column lies outside of the file")
    n_pages = n_values = n_bytes = 0
    while at < end:
        header, at = decoded_at(body, at)
        packed, unpacked = header[_PACKED_SIZE].value, header[_UNPACKED_SIZE].value
        if packed < 0 or unpacked < 0 or at + packed > end:
            raise ValueError("a page lies outside of its column")
        at += packed
        n_pages += 1
        n_bytes += unpacked
        for kind in (_DATA_V1, _DATA_V2):
            if kind in header:
                n_values += header[kind].value[_N_VALUES].value
        if n_pages > max_pages:
            raise ValueError("it has too many pages")
    if n_values != n_rows:
        raise ValueError(f"a column has {n_values} values in a group of {n_rows} rows")
    return n_pages, n_bytes
