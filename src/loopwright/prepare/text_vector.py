"""The step that turns free text into numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.prepare.level import pieces_of
from loopwright.prepare.mapping import map_rows, stable_hash
from loopwright.prepare.step import (
    Operation,
    Registers,
    Training,
    Types,
    checked_columns,
    fresh,
    same_length,
)
from loopwright.prepare.value import ValueType

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

_MOST_TERMS = 2_000
_WORD = re.compile(r"\w\w+")
_BATCH_ROWS = 50_000
_MOST_COUNTED = 1_000_000


class TextVector(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="text_vector",
    tag_field="step",
):
    """Turn a text into the weights of its words, pairs of words and pieces of words.

    Words are two or more letters or digits, in lower case; terms are runs of up to `words` of them,
    and with `characters` also the pieces of 3 to 5 characters of each word between its borders.
    `tfidf` keeps the `n_features` terms that most training rows hold (at most 2,000, at least two
    rows each) and weighs a count by ln((1 + rows) / (1 + rows with the term)) + 1. `hashed` remembers
    nothing: a term adds 1 or -1 in column CRC-32 mod n_features, the sign is that of bit 31. Rows
    have length 1 (Euclid), but a row without a known term, or without text, is 0 everywhere. Every
    50,000 rows, terms met once are forgotten while more than a million are counted.
    """

    columns: tuple[str, ...]
    method: Literal["tfidf", "hashed"] = "tfidf"
    n_features: int = 500
    words: int = 1
    characters: bool = False
    reason: str = ""

    def fit(self, training: Training) -> FittedTextVector:
        """Learn the terms of each column and their weights."""
        checked_columns("text_vector", self.columns, training.types, ["text"])
        if not 2 <= self.n_features <= _MOST_TERMS or not 1 <= self.words <= 3:
            raise InvalidInputError(
                f"The step text_vector has {self.n_features} features of {self.words} words.",
                hint=f"Give 2 to {_MOST_TERMS:,} features of 1 to 3 words.",
                step="text_vector",
            )
        taken, vectors = list(training.types), []
        for column in self.columns:
            terms, weights = self._terms(pieces_of(training.table, column))
            labels = terms if self.method == "tfidf" else range(self.n_features)
            names: list[str] = []
            known = set(taken)
            for label in labels:
                names.append(fresh(f"{column}~{label}", known))
                known.add(names[-1])
            taken += names
            vectors.append(Vector(column=column, names=tuple(names), terms=terms, weights=weights))
        return FittedTextVector(
            method=self.method,
            words=self.words,
            characters=self.characters,
            vectors=tuple(vectors),
            reason=self.reason,
        )

    def _terms(self, pieces: Iterable[pl.Series]) -> tuple[tuple[str, ...], tuple[float, ...]]:
        if self.method == "hashed":
            return (), ()
        rows: Counter[str] = Counter()
        n_rows = 0
        for text in _texts(pieces):
            rows.update(set(terms_of(text or "", self.words, characters=self.characters)))
            n_rows += 1
            # counted in rows, so that it does not matter in what pieces they come
            if n_rows % _BATCH_ROWS == 0 and len(rows) > _MOST_COUNTED:
                rows = Counter({term: n for term, n in rows.items() if n > 1})
        common = [(term, n) for term, n in rows.items() if n > 1]
        common.sort(key=lambda found: (-found[1], found[0]))
        chosen = sorted(common[: self.n_features])
        weights = tuple(math.log((1 + n_rows) / (1 + n)) + 1.0 for _, n in chosen)
        return tuple(term for term, _ in chosen), weights


def _texts(pieces: Iterable[pl.Series]) -> Iterator[str | None]:
    for piece in pieces:
        for part in piece.to_frame().iter_slices(_BATCH_ROWS):
            yield from part.to_series().to_list()


def terms_of(text: str, n_words: int, *, characters: bool) -> Iterator[str]:
    """Give the terms of a text: runs of words, and pieces of words as ` th`, `the `, ..."""
    words = _WORD.findall(text.lower())
    for n in range(1, n_words + 1):
        for at in range(len(words) - n + 1):
            yield " ".join(words[at : at + n])
    if characters:
        for word in words:
            bordered = f"<{word}>"
            for n in (3, 4, 5):
                for at in range(len(bordered) - n + 1):
                    yield bordered[at : at + n]


class Vector(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The names of the numbers made from a column; with `tfidf` the term of each and its weight."""

    column: str
    names: tuple[str, ...]
    terms: tuple[str, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        same_length(self.terms, self.weights)


class FittedTextVector(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag="text_vector",
    tag_field="step",
):
    """Knows the terms of each column and their weights."""

    method: Literal["tfidf", "hashed"]
    words: int
    characters: bool
    vectors: tuple[Vector, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        if self.method == "tfidf":
            for vector in self.vectors:
                same_length(vector.names, vector.terms)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of text."""
        return tuple(vector.column for vector in self.vectors)

    def types_after(self, types: Types) -> dict[str, ValueType]:
        """Return the columns without the texts; the numbers come last."""
        kept = {name: kind for name, kind in types.items() if name not in self.columns}
        made = (name for vector in self.vectors for name in vector.names)
        return {**kept, **dict.fromkeys(made, "number")}

    def apply(self, table: pl.LazyFrame, types: Types, *, today: date | None) -> pl.LazyFrame:
        """Return the table with the numbers."""
        del today
        for vector in self.vectors:
            if not vector.names:
                continue
            whole = fresh("text_vector", [*types, *self.types_after(types)])
            numbers = map_rows([pl.col(vector.column)], self._reader(vector), len(vector.names))
            table = table.with_columns(numbers.alias(whole)).with_columns(
                pl.col(whole).arr.get(at).alias(name) for at, name in enumerate(vector.names)
            )
        return table

    def operation(self, types: Types, place: Mapping[str, int]) -> Operation:
        """Return what writes the numbers of one row."""
        del types
        plan = [
            (place[vector.column], [place[name] for name in vector.names], self._reader(vector))
            for vector in self.vectors
        ]

        def read_texts(row: Registers) -> None:
            for source, places, read in plan:
                for own, value in zip(places, read([row[source]]).tolist(), strict=True):
                    row[own] = value

        return read_texts

    def _reader(self, vector: Vector) -> Callable[[list[Any]], np.ndarray]:
        place = {term: at for at, term in enumerate(vector.terms)}
        weights = np.array(vector.weights, dtype=np.float64)
        width = len(vector.names)
        n_words, characters, hashed = self.words, self.characters, self.method == "hashed"

        def read(values: list[Any]) -> np.ndarray:
            found = np.zeros(width)
            for term in terms_of(values[0] or "", n_words, characters=characters):
                if hashed:
                    number = stable_hash(term)
                    found[number % width] += -1.0 if number >> 31 else 1.0
                elif (at := place.get(term)) is not None:
                    found[at] += 1.0
            if not hashed:
                found *= weights
            length = math.sqrt(float((found * found).sum()))
            return found / length if length > 0.0 else found

        return read
