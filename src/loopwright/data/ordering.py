"""Rows in the order of a key, for a source that gives them in an order of its own; memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

RUN_PARTS = 20
_GROUP_ROWS = 10_000
_HELD_ROWS = 200_000
_LEAST_ROWS = 1_000
_NINES_COMPLEMENT = str.maketrans("0123456789", "9876543210")
_EXPONENT_SHIFT = 5_000


def ordered(parts: Sequence[Path], key: str, place: Path) -> list[Path]:
    """Return the rows of Parquet files in the order of a text column, as new Parquet files.

    Runs of some files each are sorted in memory, then merged block by block, so that memory holds
    one run, or one block of every run, about 200,000 rows. The files given are removed.

    Parameters
    ----------
    parts
        Files with the same columns.
    key
        A column of text without missing values; compared byte by byte.
    place
        An existing empty folder for the runs and the result.
    """
    runs: list[Path] = []
    for first in range(0, len(parts), RUN_PARTS):
        some = parts[first : first + RUN_PARTS]
        run = place / f"run-{len(runs):06}.parquet"
        whole = pl.concat([pl.read_parquet(part, glob=False) for part in some]).sort(key)
        whole.write_parquet(run, compression="lz4", row_group_size=_GROUP_ROWS)
        for part in some:
            part.unlink()
        runs.append(run)
    return runs if len(runs) < 2 else _merged(runs, key, place)


def _merged(runs: Sequence[Path], key: str, place: Path) -> list[Path]:
    n_rows = max(_LEAST_ROWS, _HELD_ROWS // len(runs))
    blocks = [_blocks(run, n_rows) for run in runs]
    held = [next(each) for each in blocks]
    files: list[Path] = []
    while held:
        # up to the least of the last keys, no block that is still to come holds a smaller one
        border = min(block[key][-1] for block in held)
        due = pl.concat([block.filter(pl.col(key) <= border) for block in held]).sort(key)
        path = place / f"part-{len(files):06}.parquet"
        due.write_parquet(path, compression="lz4")
        files.append(path)
        rest = []
        for block, following in list(zip(held, blocks, strict=True)):
            left = block.filter(pl.col(key) > border)
            if left.is_empty():
                refilled = next(following, None)
                if refilled is None:
                    blocks.remove(following)
                    continue
                left = refilled
            rest.append(left)
        held = rest
    for run in runs:
        run.unlink()
    return files


def _blocks(run: Path, n_rows: int) -> Iterator[pl.DataFrame]:
    scanned = pl.scan_parquet(run, glob=False)
    total = int(scanned.select(pl.len()).collect().item())
    for start in range(0, total, n_rows):
        yield scanned.slice(start, n_rows).collect()


def order_key(values: Sequence[str | bytes | Decimal]) -> str:
    r"""Return one text that sorts, byte by byte, as these values do one after the other.

    Values at the same place have the same type. Texts compare by their UTF-8 bytes.

    Examples
    --------
    >>> keys = [("b", Decimal(2)), ("a", Decimal(10)), ("a", Decimal(-3)), ("a", Decimal(2))]
    >>> [str(key[1]) for key in sorted(keys, key=order_key)]
    ['-3', '2', '10', '2']
    """
    return "\x00\x00".join(_part(value) for value in values)


def _part(value: str | bytes | Decimal) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        # the end of a text must sort before everything that could go on
        return value.replace("\x00", "\x00\x01")
    if not value:
        return "1"
    digits = "".join(map(str, value.as_tuple().digits)).rstrip("0")
    exponent = value.adjusted() + _EXPONENT_SHIFT
    if value > 0:
        return f"2{exponent:04}{digits}"
    return f"0{9_999 - exponent:04}{digits.translate(_NINES_COMPLEMENT)}~"
