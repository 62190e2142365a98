"""Rows as a person would ask about them: numbers, days, categories of few levels, words in a text."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

MAX_LEVELS = 12
_LARGEST = 1e30
# words without an underscore, which LIKE would read as any character
_WORD = re.compile(r"[^\W_]{3,}")
_MAX_WORDS = 100
_WORD_ROWS = 5_000
_LONG_TEXT = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a column of a readable table asks of a row.

    Parameters
    ----------
    column
        The column it is about.
    level
        The category, or the truth value, it asks for; None for a number or a word.
    word
        What it looks for in a free text; None for anything else.
    is_date
        Whether the number counts days since 1970-01-01.
    is_whole
        Whether the number is always a whole one.
    has_missing
        Whether some row has no value here.
    fill
        What stands for a missing value: the training median, or 0 for a category or a word.
    """

    column: str
    level: str | bool | None = None
    word: str | None = None
    is_date: bool = False
    is_whole: bool = False
    has_missing: bool = False
    fill: float = 0.0

    @property
    def is_yes_or_no(self) -> bool:
        """Whether its answers are zeros and ones."""
        return self.level is not None or self.word is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadableTable:
    """Rows as columns a person can name in a condition.

    Parameters
    ----------
    matrix
        `(n_rows, n_columns)`, without missing values.
    questions
        What each column asks.
    unread
        Columns of which nothing could be asked.
    texts
        Columns of free text, of which only some words could be asked.
    """

    matrix: npt.NDArray[np.float64]
    questions: tuple[Question, ...]
    unread: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def unread_share(self) -> float:
        """Share of the columns of which nothing could be asked, 0 to 1."""
        read = {question.column for question in self.questions}
        return len(self.unread) / max(1, len(self.unread) + len(read))

    def __len__(self) -> int:
        return len(self.matrix)

    def rows(self, chosen: npt.NDArray[np.int64]) -> ReadableTable:
        """Return some of the rows."""
        return replace(self, matrix=self.matrix[chosen])


def readable_tables(
    train: pl.DataFrame, other: pl.DataFrame
) -> tuple[ReadableTable, ReadableTable]:
    """Return two tables of the same columns: numbers, days of dates, categories of few levels, words.

    What is filled in and which categories and words count is taken from `train` alone.
    """
    questions: list[Question] = []
    parts: list[tuple[pl.Series, pl.Series]] = []
    unread: list[str] = []
    texts: list[str] = []
    for name in train.columns:
        found = _asked(train[name], other[name])
        if found is None:
            unread.append(name)
        elif any(question.word is not None for question, _, _ in found) and _is_long(train[name]):
            texts.append(name)
        for question, ours, theirs in found or ():
            questions.append(question)
            parts.append((ours, theirs))
    if not parts:
        # a column that says nothing: every way to answer then gives its constant
        questions = [Question(column="")]
        parts = [(pl.zeros(train.height, eager=True), pl.zeros(other.height, eager=True))]

    def table(side: int) -> ReadableTable:
        filled = [
            pair[side].fill_null(question.fill).to_numpy()
            for pair, question in zip(parts, questions, strict=True)
        ]
        return ReadableTable(
            matrix=np.stack(filled, axis=1),
            questions=tuple(questions),
            unread=tuple(unread),
            texts=tuple(texts),
        )

    return table(0), table(1)


def readable_table(rows: pl.DataFrame) -> ReadableTable:
    """Return one table; see `readable_tables`."""
    return readable_tables(rows, rows.head(0))[0]


_Asked = list[tuple[Question, "pl.Series", "pl.Series"]]


def _asked(ours: pl.Series, theirs: pl.Series) -> _Asked | None:
    """Return what can be asked of a column; None where nothing can although it holds something."""
    name, dtype = ours.name, ours.dtype
    if ours.null_count() == len(ours):
        return []
    if dtype == pl.Boolean:
        question = Question(column=name, level=True)
        return [(question, ours.cast(pl.Float64), theirs.cast(pl.Float64))]
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return _of_text(ours.cast(pl.String), theirs.cast(pl.String)) or None
    is_date = dtype in (pl.Date, pl.Datetime)
    if not (is_date or dtype.is_numeric()):
        return None
    is_whole = is_date or dtype.is_integer()
    if is_date:
        ours, theirs = ours.cast(pl.Date).to_physical(), theirs.cast(pl.Date).to_physical()
    ours, theirs = _bounded(ours), _bounded(theirs)
    median = ours.median()
    if not isinstance(median, int | float):
        return []
    question = Question(
        column=name,
        is_date=is_date,
        is_whole=is_whole,
        has_missing=ours.null_count() > 0,
        fill=float(median),
    )
    return [(question, ours, theirs)]


def _of_text(ours: pl.Series, theirs: pl.Series) -> _Asked:
    found: _Asked = [
        (
            Question(column=ours.name, level=level),
            (ours == level).cast(pl.Float64),
            (theirs == level).cast(pl.Float64),
        )
        for level in _frequent_levels(ours)
    ]
    return found + [
        (Question(column=ours.name, word=word), _holds(ours, word), _holds(theirs, word))
        for word in _telling_words(ours)
    ]


def _is_long(series: pl.Series) -> bool:
    """Tell whether texts say more than a code or a name does."""
    length = series.cast(pl.String).str.len_chars().mean()
    return isinstance(length, float) and length > _LONG_TEXT


def _bounded(series: pl.Series) -> pl.Series:
    """Return numbers whose squares can be added up; what is infinite is missing."""
    numbers = series.cast(pl.Float64)
    finite = numbers.set(numbers.is_infinite() | numbers.is_nan(), None)
    return finite.clip(-_LARGEST, _LARGEST)


def _frequent_levels(series: pl.Series) -> list[str]:
    counts = series.drop_nulls().value_counts(sort=True)
    if counts.height > MAX_LEVELS:
        return []
    return sorted(counts[series.name].to_list())


def _telling_words(series: pl.Series) -> list[str]:
    """Return words of a free text that some rows hold and others do not, the most frequent first."""
    texts = series.drop_nulls()
    if texts.n_unique() <= MAX_LEVELS:
        return []
    rows: Counter[str] = Counter()
    for text in texts.head(_WORD_ROWS).to_list():
        rows.update(set(_WORD.findall(text.lower())))
    least = max(5, min(len(texts), _WORD_ROWS) // 200)
    found = [(n, word) for word, n in rows.items() if least <= n <= len(texts) / 2]
    return [word for _, word in sorted(found, key=lambda each: (-each[0], each[1]))[:_MAX_WORDS]]


def _holds(series: pl.Series, word: str) -> pl.Series:
    texts = series.str.to_lowercase()
    return texts.str.contains(word, literal=True).fill_null(False).cast(pl.Float64)
