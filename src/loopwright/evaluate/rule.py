"""A rule of a few conditions: an answer that needs no model, as words, Python and SQL."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_MAX_LEVELS = 12
_LARGEST = 1e30
# words without an underscore, which LIKE would read as any character
_WORD = re.compile(r"[^\W_]{3,}")
_MAX_WORDS = 100
_WORD_ROWS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadableTable:
    """Rows as columns a person can name in a condition.

    Parameters
    ----------
    matrix
        `(n_rows, n_columns)`, without missing values.
    columns
        The column each stands for.
    levels
        The category a column of zeros and ones asks for, or None for a number.
    fills
        What stands for a missing value: the training median, or 0 for a category or a word.
    words
        What a column of zeros and ones looks for in a free text, or None for anything else.
    """

    matrix: npt.NDArray[np.float64]
    columns: tuple[str, ...]
    levels: tuple[str | None, ...]
    fills: tuple[float, ...]
    words: tuple[str | None, ...]


def readable_tables(
    train: pl.DataFrame, other: pl.DataFrame
) -> tuple[ReadableTable, ReadableTable]:
    """Return two tables of the same columns: numbers, days of dates, categories of few levels, words.

    What is filled in and which categories and words count is taken from `train` alone.
    """
    names: list[str] = []
    levels: list[str | None] = []
    fills: list[float] = []
    words: list[str | None] = []
    parts: list[tuple[pl.Series, pl.Series]] = []
    for name in train.columns:
        ours, theirs = train[name], other[name]
        if ours.dtype in (pl.String, pl.Categorical):
            for level in _frequent_levels(ours):
                names.append(name)
                levels.append(level)
                fills.append(0.0)
                words.append(None)
                parts.append(((ours == level).cast(pl.Float64), (theirs == level).cast(pl.Float64)))
            for word in _telling_words(ours):
                names.append(name)
                levels.append(None)
                fills.append(0.0)
                words.append(word)
                parts.append((_holds(ours, word), _holds(theirs, word)))
            continue
        if ours.dtype.is_temporal():
            ours, theirs = ours.cast(pl.Date).to_physical(), theirs.cast(pl.Date).to_physical()
        ours, theirs = _bounded(ours), _bounded(theirs)
        if ours.null_count() == len(ours):
            continue
        names.append(name)
        levels.append(None)
        words.append(None)
        median = ours.median()
        fills.append(float(median) if isinstance(median, int | float) else 0.0)
        parts.append((ours, theirs))

    if not parts:
        # a column that says nothing: every way to answer then gives its constant
        names, levels, fills, words = [""], [None], [0.0], [None]
        parts = [(pl.zeros(train.height, eager=True), pl.zeros(other.height, eager=True))]

    def table(side: int) -> ReadableTable:
        filled = [
            pair[side].fill_null(fill).to_numpy() for pair, fill in zip(parts, fills, strict=True)
        ]
        return ReadableTable(
            matrix=np.stack(filled, axis=1),
            columns=tuple(names),
            levels=tuple(levels),
            fills=tuple(fills),
            words=tuple(words),
        )

    return table(0), table(1)


def _bounded(series: pl.Series) -> pl.Series:
    """Return numbers whose squares can be added up; what is infinite is missing."""
    numbers = series.cast(pl.Float64)
    finite = numbers.set(numbers.is_infinite() | numbers.is_nan(), None)
    return finite.clip(-_LARGEST, _LARGEST)


def _frequent_levels(series: pl.Series) -> list[str]:
    counts = series.drop_nulls().cast(pl.String).value_counts(sort=True)
    if counts.height > _MAX_LEVELS:
        return []
    return sorted(counts[series.name].to_list())


def _telling_words(series: pl.Series) -> list[str]:
    """Return words of a free text that some rows hold and others do not, the most frequent first."""
    texts = series.drop_nulls().cast(pl.String)
    if texts.n_unique() <= _MAX_LEVELS:
        return []
    rows: Counter[str] = Counter()
    for text in texts.head(_WORD_ROWS).to_list():
        rows.update(set(_WORD.findall(text.lower())))
    least = max(5, min(len(texts), _WORD_ROWS) // 200)
    found = [(n, word) for word, n in rows.items() if least <= n <= len(texts) / 2]
    return [word for _, word in sorted(found, key=lambda each: (-each[0], each[1]))[:_MAX_WORDS]]


def _holds(series: pl.Series, word: str) -> pl.Series:
    texts = series.cast(pl.String).str.to_lowercase()
    return texts.str.contains(word, literal=True).fill_null(False).cast(pl.Float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A binary tree of conditions over a readable table.

    A node is `{"column", "level" | "word" | "at_most", "missing", "then", "else"}`, a leaf is `{"answer"}`:
    a value for regression, probabilities per class otherwise.
    """

    root: dict[str, Any]
    classes: tuple[str, ...]

    @property
    def n_conditions(self) -> int:
        """How many conditions it asks."""

        def count(node: dict[str, Any]) -> int:
            return 0 if "answer" in node else 1 + count(node["then"]) + count(node["else"])

        return count(self.root)

    def to_python(self) -> str:
        """Return the rule as a Python function over a row (a mapping of columns)."""
        lines = ["def answer(row):"]

        def write(node: dict[str, Any], depth: int) -> None:
            pad = "    " * depth
            if "answer" in node:
                lines.append(f"{pad}return {self._said(node)!r}{self._share(node)}")
                return
            lines.append(f"{pad}if {_python_condition(node)}:")
            write(node["then"], depth + 1)
            lines.append(f"{pad}else:")
            write(node["else"], depth + 1)

        write(self.root, 1)
        return "\n".join(lines)

    def to_sql(self) -> str:
        """Return the rule as a SQL expression."""

        def write(node: dict[str, Any]) -> str:
            if "answer" in node:
                said = self._said(node)
                return _sql_text(said) if isinstance(said, str) else repr(said)
            return (
                f"CASE WHEN {_sql_condition(node)} THEN {write(node['then'])} "
                f"ELSE {write(node['else'])} END"
            )

        return write(self.root)

    def _share(self, leaf: dict[str, Any]) -> str:
        """Return the probability behind a class as a comment: rankings are made of it."""
        if not self.classes:
            return ""
        said = self._said(leaf)
        named = self.classes[1] if len(self.classes) == 2 else str(said)
        share = leaf["answer"][self.classes.index(named)]
        return f"  # probability of {named!r}: {share:.3f}"

    def _said(self, leaf: dict[str, Any]) -> float | str:
        answer = leaf["answer"]
        if not self.classes:
            return float(f"{answer:.6g}")
        return self.classes[max(range(len(answer)), key=lambda index: answer[index])]


def _python_condition(node: dict[str, Any]) -> str:
    value = f"row[{node['column']!r}]"
    if node["level"] is not None:
        return f"{value} == {node['level']!r}"
    if node["word"] is not None:
        return f"{node['word']!r} in ({value} or '').lower()"
    test = f"{value} <= {node['at_most']!r}"
    return (
        f"{value} is None or {test}"
        if node["missing"] == "then"
        else f"{value} is not None and {test}"
    )


def _sql_condition(node: dict[str, Any]) -> str:
    column = '"' + node["column"].replace('"', '""') + '"'
    if node["level"] is not None:
        return f"{column} = {_sql_text(node['level'])}"
    if node["word"] is not None:
        return f"LOWER({column}) LIKE {_sql_text('%' + node['word'] + '%')}"
    test = f"{column} <= {node['at_most']!r}"
    return f"({column} IS NULL OR {test})" if node["missing"] == "then" else test


def _sql_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def fitted_rule(
    table: ReadableTable,
    y: npt.NDArray[np.float64],
    *,
    classes: tuple[str, ...],
    n_conditions: int = 3,
    seed: int = 0,
) -> Rule:
    """Return the best rule of at most `n_conditions` conditions, grown best-first.

    Parameters
    ----------
    table
        The training rows.
    y
        `(n_rows,)`: values, or class indices when `classes` is not empty.
    classes
        Class names; empty for regression.
    n_conditions
        At most so many conditions in all, at least 1.
    seed
        Decides between equally good conditions.
    """
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    shape = {
        "max_leaf_nodes": n_conditions + 1,
        "min_samples_leaf": max(5, len(y) // 200),
        "random_state": seed,
    }
    grower = DecisionTreeClassifier(**shape) if classes else DecisionTreeRegressor(**shape)
    logarithmic = not classes and bool(np.all(y > 0))
    grower.fit(table.matrix, np.log(y) if logarithmic else y)
    tree = grower.tree_

    def node(index: int) -> dict[str, Any]:
        if tree.children_left[index] == -1:
            if classes:
                shares = tree.value[index][0] / tree.value[index][0].sum()
                answer = np.zeros(len(classes))
                answer[grower.classes_.astype(np.int64)] = shares
                return {"answer": [float(share) for share in answer]}
            value = float(tree.value[index][0][0])
            return {"answer": float(np.exp(value)) if logarithmic else value}
        at = int(tree.feature[index])
        low, high = node(int(tree.children_left[index])), node(int(tree.children_right[index]))
        asked = {"column": table.columns[at], "level": table.levels[at], "word": table.words[at]}
        if asked["level"] is not None or asked["word"] is not None:
            # "at most one half" of an indicator means "is not this category"
            return {**asked, "at_most": None, "missing": "else", "then": high, "else": low}
        limit = float(f"{tree.threshold[index]:.6g}")
        side = "then" if table.fills[at] <= limit else "else"
        return {**asked, "at_most": limit, "missing": side, "then": low, "else": high}

    return Rule(root=node(0), classes=classes)


def rule_answers(rule: Rule, table: ReadableTable) -> npt.NDArray[np.float64]:
    """Return the rule's answers: `(n_rows,)` values, or `(n_rows, n_classes)` probabilities."""
    n_rows = len(table.matrix)
    said = np.zeros((n_rows, len(rule.classes)) if rule.classes else n_rows)
    asked = zip(table.columns, table.levels, table.words, strict=True)
    place = {condition: index for index, condition in enumerate(asked)}

    def walk(node: dict[str, Any], chosen: npt.NDArray[np.bool_]) -> None:
        if "answer" in node:
            said[chosen] = node["answer"]
            return
        values = table.matrix[:, place[node["column"], node["level"], node["word"]]]
        met = values > 0.5 if node["at_most"] is None else values <= node["at_most"]
        walk(node["then"], chosen & met)
        walk(node["else"], chosen & ~met)

    walk(rule.root, np.ones(n_rows, dtype=np.bool_))
    return said
