"""Which rows a round of the loop's own learns from: choices that later rows decide between.

Every choice is trained and judged on the validation rows, which are later than all it learnt from;
the better one goes on. Drift that came to stay favours recent rows, drift that comes and goes
favours all, and no rule knows which it is beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.loop.retrain_plan import Window

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_SEED = 7
# rows that hardly ever repeat are one and the same case where they do
_ALL_BUT_UNIQUE = 0.9


def chosen_windows(
    old: pl.DataFrame, recent: pl.DataFrame, windows: Sequence[Window]
) -> dict[str, pl.DataFrame]:
    """Return the rows of each choice, by its name.

    Parameters
    ----------
    old
        Rows from before, oldest first.
    recent
        The fresh live rows that teach, oldest first.
    windows
        Which choices are wanted.
    """
    found: dict[str, pl.DataFrame] = {}
    for name in windows:
        if name == "recent":
            found[name] = recent
            continue
        together = pl.concat([old, recent])
        found[name] = together if name == "all" else thinned(together, half_life=recent.height)
    return found


def thinned(rows: pl.DataFrame, *, half_life: int) -> pl.DataFrame:
    """Return rows kept with a probability that halves with every `half_life` rows of age.

    Every algorithm learns from rows as they are; one that is kept with probability w counts on
    average as one with the weight w. The same rows give the same choice.

    Parameters
    ----------
    rows
        Oldest first.
    half_life
        In rows, at least 1.
    """
    age = np.arange(rows.height, dtype=np.float64)[::-1]
    kept = np.random.default_rng(_SEED).random(rows.height) < 0.5 ** (age / max(1, half_life))
    return rows.filter(pl.Series(kept))


def without_judged(rows: pl.DataFrame, judged: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return training rows without those that are judged by too.

    Live rows have ids, so none of them is in two parts; but the source may meanwhile hold the same
    cases. Where rows of the table hardly ever repeat, one that equals a judged row in all columns
    is that very case. Tables of few values, whose rows repeat by nature, are left as they are.
    """
    if not rows.height or rows.n_unique() < _ALL_BUT_UNIQUE * rows.height:
        return rows
    others = pl.concat([each.select(rows.columns) for each in judged]).unique()
    return rows.join(others, on=rows.columns, how="anti", nulls_equal=True, maintain_order="left")
