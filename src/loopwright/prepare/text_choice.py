"""Whether free text tells enough to be turned into numbers, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.prepare.catalogue import AnyStep
from loopwright.prepare.judged import Judged
from loopwright.prepare.text_vector import TextVector, terms_of

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

_SAMPLE_ROWS = 5_000
_MIN_TERMS = 20
_MOST_TERMS = 500
_MIN_ROWS_PER_TERM = 5
_ROWS_PER_FEATURE = 5


def n_telling_words(values: pl.Series) -> int:
    """Return how many words at least 5 rows, and at most half of them, hold; of 5,000 rows."""
    texts = values.drop_nulls().head(_SAMPLE_ROWS).cast(pl.String).to_list()
    rows: Counter[str] = Counter()
    for text in texts:
        rows.update(set(terms_of(text, 1, characters=False)))
    return sum(_MIN_ROWS_PER_TERM <= n <= len(texts) / 2 for n in rows.values())


def is_telling(column: Judged) -> bool:
    """Return whether the words of a free text come back often enough to be learned from."""
    return column.is_text and n_telling_words(column.values) >= _MIN_TERMS


def text_steps(columns: Sequence[Judged]) -> list[AnyStep]:
    """Return the steps that turn free text into the weights of its words."""
    steps: list[AnyStep] = []
    for column in columns:
        if column.kind == "text":
            n = n_telling_words(column.values)
            n_features = min(_MOST_TERMS, max(2, len(column.values) // _ROWS_PER_FEATURE))
            steps.append(
                TextVector(
                    columns=(column.name,),
                    n_features=n_features,
                    reason=f"free text in which {n:,} words come back: the {n_features} most "
                    "frequent get a weight each",
                )
            )
    return steps
