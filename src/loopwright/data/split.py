"""Which rows a model learns from, which choose it, and which judge it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray
else:
    pl = LazyModule("polars")
    np = LazyModule("numpy")

PARTS = ("train", "validation", "test")
_MAX_STRATA = 50
_PATTERN_ROWS = 1_000


class Split(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How rows are shared out between training, validation and test.

    `random` shares rows out evenly, by class for a target with few values; `time` gives the oldest
    rows to training and the newest to the test; `group` keeps all rows of a group (a patient, a
    customer) in one part. `time` and `group` need the `column` to go by.
    """

    train: float = 0.7
    validation: float = 0.2
    test: float = 0.1
    by: Literal["random", "time", "group"] = "random"
    column: str | None = None
    seed: int = 7

    @property
    def shares(self) -> tuple[float, float, float]:
        """Return the shares in the order of `PARTS`."""
        return (self.train, self.validation, self.test)


def check_split(split: Split, columns: Iterable[str] | None = None) -> None:
    """Raise if a split cannot be made.

    Parameters
    ----------
    split
        The split from the loop file.
    columns
        The columns there are; the column to go by is looked up in them when they are given.

    Raises
    ------
    InvalidInputError
        If a share is not between 0 and 1, the shares do not add up to 1, training has none, the
        seed is negative, or the column to go by is not given or not there.
    """
    for part, share in zip(PARTS, split.shares, strict=True):
        if not 0 <= share <= 1:
            raise _refused(f"{part} is {share}, which is not a share.", "Give 0 to 1.", part, share)
    total = sum(split.shares)
    if abs(total - 1) > 1e-9:
        raise _refused(
            f"The shares {split.train}, {split.validation} and {split.test} add up to {total:.6g}.",
            "Make train, validation and test add up to 1, such as 0.7, 0.2 and 0.1.",
            "train",
            split.train,
        )
    for part, share in zip(PARTS, split.shares, strict=True):
        if share == 0:
            raise _refused(
                f"The {part} part would have no rows.",
                "Models are fitted on train, compared on validation and judged on test: "
                "give each a share.",
                part,
                share,
            )
    if not 0 <= split.seed < 2**63:
        raise _refused(f"The seed is {split.seed}.", "Give 0 or more.", "seed", split.seed)
    if split.by == "random":
        if split.column is not None:
            raise _refused(
                f"A random split does not go by a column, but column is {split.column!r}.",
                "Leave it out, or write `by: time` or `by: group`.",
                "column",
                split.column,
            )
        return
    if split.column is None:
        raise _refused(
            f"A split by {split.by} needs the column to go by.",
            "Add `column: sold_at`." if split.by == "time" else "Add `column: customer_id`.",
            "column",
            None,
        )
    if columns is not None and split.column not in (known := list(columns)):
        raise _refused(
            f"The column to split by, {split.column!r}, is not in the data.",
            did_you_mean(split.column, known),
            "column",
            split.column,
        )


def _refused(message: str, hint: str, field: str, value: object) -> InvalidInputError:
    return InvalidInputError(message, hint=hint, field=f"data.split.{field}", value=value)


def assign_parts(frame: pl.DataFrame, split: Split, target: str | None = None) -> pl.Series:
    """Return `train`, `validation` or `test` for every row, shape (n_rows,).

    A random split depends on the seed and the row's number alone; where `target` has at most 50
    values, each of them is shared out alike, and a value too rare for that goes to training.

    Raises
    ------
    InvalidInputError
        If the split is wrong (see `check_split`), the time is missing in some row, or there are too
        few rows, moments or groups for every part to get some.
    """
    check_split(split, frame.columns)
    if split.by == "time":
        codes = _by_time(frame[split.column or ""], split)
    elif split.by == "group":
        codes = _by_group(frame[split.column or ""], split)
    else:
        codes = _at_random(frame, split, target)
    counts = np.bincount(codes, minlength=3)
    for part, n_rows in zip(PARTS, counts, strict=True):
        if n_rows == 0:
            unit = {"random": "rows", "time": "moments", "group": "groups"}[split.by]
            n_units = frame.height if split.by == "random" else frame[split.column or ""].n_unique()
            raise _refused(
                f"The {part} part gets no rows: there are only {n_units:,} {unit} to share out.",
                "Give more rows, or larger shares to the small parts.",
                part,
                dict(zip(PARTS, split.shares, strict=True))[part],
            )
    return pl.Series("part", np.array(PARTS, dtype=object)[codes], dtype=pl.String)


def _at_random(frame: pl.DataFrame, split: Split, target: str | None) -> NDArray[np.int64]:
    n_rows = frame.height
    strata = np.zeros(n_rows, dtype=np.int64)
    if target is not None and frame[target].n_unique() <= _MAX_STRATA:
        strata = frame[target].rank("dense").fill_null(0).to_numpy().astype(np.int64)
    drawn = _mixed(np.arange(n_rows, dtype=np.uint64), split.seed)
    order = np.lexsort((drawn, strata))
    codes = np.empty(n_rows, dtype=np.int64)
    codes[order] = _pattern(split, n_rows)
    if strata.any():
        _teach_every_class(codes, strata, order)
    return codes


def _pattern(split: Split, n_rows: int) -> NDArray[np.int64]:
    """Return parts for consecutive places so that every stretch holds about the shares.

    Each place goes to the part that lags furthest behind its share.
    """
    pattern = []
    given = [0, 0, 0]
    for place in range(1, min(n_rows, _PATTERN_ROWS) + 1):
        lags = [share * place - n for share, n in zip(split.shares, given, strict=True)]
        part = lags.index(max(lags))
        given[part] += 1
        pattern.append(part)
    return np.resize(np.array(pattern, dtype=np.int64), n_rows)


def _teach_every_class(
    codes: NDArray[np.int64], strata: NDArray[np.int64], order: NDArray[np.int64]
) -> None:
    """Move one row of every class that training would not see into training."""
    taught = np.unique(strata[codes == 0])
    for stratum in np.setdiff1d(np.unique(strata), taught):
        codes[order[np.searchsorted(strata[order], stratum)]] = 0


def _mixed(numbers: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Return well-mixed 64-bit numbers, one for each number and seed, for ever the same.

    Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014 (SplitMix64).
    """
    with np.errstate(over="ignore"):
        start = _finished(np.array([seed], dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15))
        return _finished(start + (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15))


def _finished(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _by_time(moments: pl.Series, split: Split) -> NDArray[np.int64]:
    dtype = moments.dtype
    if not (dtype.is_temporal() or dtype.is_numeric()):
        raise _refused(
            f"The column {moments.name!r} holds {dtype}, not moments in time.",
            "Split by a column of dates, moments or numbers.",
            "column",
            moments.name,
        )
    if n_missing := moments.null_count():
        raise _refused(
            f"{n_missing:,} of {moments.len():,} rows have no {moments.name!r} to be placed by.",
            "Fill it in or leave those rows out at the source.",
            "column",
            moments.name,
        )
    ranks = moments.rank("dense").to_numpy().astype(np.int64) - 1
    n_up_to = np.cumsum(np.bincount(ranks))
    borders = [split.train * len(ranks), (split.train + split.validation) * len(ranks)]
    # a border goes where the count of whole moments comes nearest to the share
    cuts = [int(np.argmin(np.abs(n_up_to - border))) for border in borders]
    return np.searchsorted(np.array(cuts), ranks, side="left").astype(np.int64)


def _by_group(groups: pl.Series, split: Split) -> NDArray[np.int64]:
    sizes = groups.to_frame("group").group_by("group", maintain_order=True).len()
    names = sizes["group"].to_list()
    order = sorted(range(len(names)), key=lambda index: _drawn(names[index], split.seed))
    counts = sizes["len"].to_list()
    given, n_done = [0, 0, 0], 0
    part_of = np.zeros(len(names), dtype=np.int64)
    for index in order:
        n_done += counts[index]
        lags = [share * n_done - n for share, n in zip(split.shares, given, strict=True)]
        part = lags.index(max(lags))
        given[part] += counts[index]
        part_of[index] = part
    places = groups.to_frame("group").join(
        sizes.select("group").with_row_index("place"),
        on="group",
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    codes: NDArray[np.int64] = part_of[places["place"].to_numpy()]
    return codes


def _drawn(name: object, seed: int) -> bytes:
    text = f"{seed}:{'' if name is None else 'x'}{name}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
