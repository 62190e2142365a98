"""What the test may know from training that it will not know in use: copies, shared groups, the future."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.data.split import PARTS, Split

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_UNIQUE = 0.95
_MOST_WORDS = 2.0
_SAMPLE = 1_000
_FEWEST_ROWS = 20
_FEWEST_GROUPS = 10
# an id with more rows than this each is a shop or a machine that will be met again in use
_MOST_ROWS_EACH = 10
_SHARED = 0.05
_COPIED = 0.01
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_IDS = frozenset({"id", "ids", "key", "uuid", "guid", "no", "nr", "number"})
_BEINGS_WORDS = (
    "customer client patient user member subscriber subject person employee student passenger "
    "household guest applicant borrower account kunde patientin klient paciente cliente "
)
_BEINGS = frozenset(_BEINGS_WORDS.split())
_BIRTH = re.compile(
    r"birth|born|(?:^|[^a-z])dob(?:$|[^a-z])|geburt|naissance|nacimiento|nascita", re.I
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitLeak:
    """Rows of `part` that stand, the same in every column that tells rows apart, in an `earlier` one."""

    part: str
    earlier: str
    n_rows: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRemark:
    """Something about a split that may flatter a model: what, how many test rows, what to do.

    `share` is that of the test rows; `column` is the group or the moment, None for copied rows.
    """

    kind: Literal["copies", "group", "future"]
    column: str | None
    n_rows: int
    share: float
    text: str


def split_leaks(
    frame: pl.DataFrame, parts: pl.Series, *, without: Collection[str] = ()
) -> list[SplitLeak]:
    """Return how many rows of one part stand in an earlier one too.

    Such rows make a model look better than it is: it has seen the answer.

    Parameters
    ----------
    frame
        The rows, shape (n_rows, n_columns).
    parts
        What `assign_parts` returned for them.
    without
        Columns that are not compared, such as those of `naming_columns`: a copy of a row often has
        a number of its own. If fewer than two others are left, all are compared.
    """
    kept = [name for name in frame.columns if name not in without]
    compared = frame.select(kept) if len(kept) > 1 else frame
    rows = pl.DataFrame({"row": compared.hash_rows(seed=0), "part": parts})
    hashes = {part: rows.filter(pl.col("part") == part)["row"] for part in PARTS}
    leaks = []
    for earlier, part in (("train", "validation"), ("train", "test"), ("validation", "test")):
        n_rows = int(hashes[part].is_in(hashes[earlier].unique().implode()).sum())
        if n_rows:
            share = n_rows / len(hashes[part])
            leaks.append(SplitLeak(part=part, earlier=earlier, n_rows=n_rows, share=share))
    return leaks


def naming_columns(frame: pl.DataFrame, *, target: str | None = None) -> tuple[str, ...]:
    """Return the columns that only name rows: codes or counters of which nearly every row has its own.

    Text of several words is no name, nor is a number whose name does not say so: both may be what
    is learnt from.

    Examples
    --------
    >>> import polars as pl
    >>> rows = {"id": range(30), "area": range(0, 300, 10), "text": [f"row {n} is so" for n in range(30)]}
    >>> naming_columns(pl.DataFrame(rows))
    ('id',)
    """
    return tuple(column.name for column in frame if column.name != target and _names_rows(column))


def _names_rows(column: pl.Series) -> bool:
    present = column.drop_nulls()
    is_text = column.dtype == pl.String
    if present.len() < _FEWEST_ROWS or not (is_text or column.dtype.is_integer()):
        return False
    if present.n_unique() < _UNIQUE * present.len():
        return False
    if is_text:
        spaces = present.head(_SAMPLE).str.strip_chars().str.count_matches(r"\s+").mean()
        return isinstance(spaces, float) and spaces + 1 < _MOST_WORDS
    low, high = int(str(present.min())), int(str(present.max()))
    counts = low in (0, 1) and high - low == present.len() - 1 == present.n_unique() - 1
    return counts or bool(_IDS & _last_words(column.name))


def split_remarks(
    frame: pl.DataFrame,
    parts: pl.Series,
    *,
    split: Split,
    target: str | None = None,
    leaks: Sequence[SplitLeak] = (),
) -> list[SplitRemark]:
    """Return what a reader of the test's figures should know about the split, one line for each.

    Copies of training rows, at least one in a hundred of the test, whatever the split; for a split at random also
    rows of a group (a customer, a patient) that training has seen, and rows older than training
    rows. A group is a column named for it, or an `id` with ten rows each at most, whose values
    reach from training into at least one test row in twenty.

    Parameters
    ----------
    leaks
        What `split_leaks` found.
    """
    found = [
        SplitRemark(
            kind="copies",
            column=None,
            n_rows=leak.n_rows,
            share=leak.share,
            text=f"{leak.n_rows:,} test rows ({leak.share:.1%}) stand in training too, apart from "
            "columns that only name rows: remove repeats at the source, or keep them in one part by "
            "split by: group",
        )
        for leak in leaks
        if (leak.part, leak.earlier) == ("test", "train")
        and leak.n_rows > 1
        and leak.share >= _COPIED
    ]
    if split.by != "random":
        return found
    others = [column for column in frame if column.name != target]
    groups = [each for column in others if (each := _shared_group(column, parts)) is not None]
    # of several that say the same, such as customer_id and account_id, the one that reaches furthest
    found += sorted(groups, key=lambda each: -each.share)[:1]
    moments = [each for column in others if (each := _future(column, parts)) is not None]
    return found + moments[:1]


def _shared_group(column: pl.Series, parts: pl.Series) -> SplitRemark | None:
    words = _last_words(column.name)
    if not (column.dtype == pl.String or column.dtype.is_integer()) or not words & (_IDS | _BEINGS):
        return None
    present = column.drop_nulls()
    n_groups = present.n_unique()
    most = present.len() if words & _BEINGS else _MOST_ROWS_EACH * n_groups
    if n_groups < _FEWEST_GROUPS or n_groups == present.len() or present.len() > most:
        return None
    tested = column.filter(parts == "test")
    known = column.filter(parts == "train").drop_nulls().unique()
    n_rows = int(tested.is_in(known.implode()).sum())
    share = n_rows / tested.len()
    if share < _SHARED:
        return None
    return SplitRemark(
        kind="group",
        column=column.name,
        n_rows=n_rows,
        share=share,
        text=f"{n_rows:,} test rows ({share:.1%}) have a {column.name!r} that training has seen: "
        f"split by: group, column: {column.name}, if the model will meet new ones",
    )


def _future(column: pl.Series, parts: pl.Series) -> SplitRemark | None:
    if column.dtype not in (pl.Date, pl.Datetime) or _BIRTH.search(column.name):
        return None
    latest = column.filter(parts == "train").max()
    tested = column.filter(parts == "test")
    n_rows = int((tested < latest).sum()) if latest is not None else 0
    if not n_rows or 2 * column.null_count() > column.len():
        return None
    share = n_rows / tested.len()
    return SplitRemark(
        kind="future",
        column=column.name,
        n_rows=n_rows,
        share=share,
        text=f"{n_rows:,} test rows ({share:.1%}) are older by {column.name!r} than some training rows, "
        f"so rows of the future are learnt from: split by: time, column: {column.name}, if the model "
        "is to answer for the future",
    )


def _last_words(name: str) -> frozenset[str]:
    """Return the last word of a name, and of one that ends in `id` or the like the word before too."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return frozenset(words[-2:] if words and words[-1] in _IDS else words[-1:])
