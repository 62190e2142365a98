"""A rule as a model like any other: a recipe that asks its questions, and a tree that answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.evaluate.readable import Question
from loopwright.evaluate.rule import Rule, asked_at
from loopwright.prepare import Derive, Drop, Recipe
from loopwright.train.trees_predictor import TreesPredictor

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np = LazyModule("numpy")
    pl = LazyModule("polars")

_REASON = "the rule asks for it"


def rule_recipe(rule: Rule, rows: pl.DataFrame) -> Recipe:
    """Return the recipe whose features are the answers to the rule's questions.

    Parameters
    ----------
    rule
        The rule.
    rows
        The table it was learnt from, without the target.

    Raises
    ------
    InvalidInputError
        If the table has no columns.
    """
    if not rows.width:
        raise InvalidInputError(
            "A table without columns cannot be answered row by row.",
            hint="Keep at least one column.",
            field="rows",
        )
    asked = [each for each in rule.questions if not _is_plain(each)]
    derived = [
        Derive(name=feature_name(each), expression=_expression(each), reason=_REASON)
        for each in asked
    ]
    plain = {each.column for each in rule.questions if _is_plain(each)}
    if not plain and not derived:
        # an answer for all still needs a row to answer
        first = rows.columns[0]
        derived = [
            Derive(
                name="missing",
                expression=f"is_missing(column({first!r}))",
                reason="one answer for all asks nothing of a row",
            )
        ]
    left_out = tuple(name for name in rows.columns if name not in plain)
    drop = [Drop(columns=left_out, reason="the rule asks for no more")] if left_out else []
    return Recipe((*derived, *drop))


def feature_name(question: Question) -> str:
    """Return the name of the feature that answers a question."""
    if _is_plain(question):
        return question.column
    if question.word is not None:
        return f"{question.column} holds {question.word}"
    return (
        f"{question.column} in days"
        if question.is_date
        else f"{question.column} is {question.level}"
    )


def _is_plain(question: Question) -> bool:
    """Tell whether the column itself answers: numbers and truth values do."""
    if isinstance(question.level, bool):
        return True
    return not (question.is_yes_or_no or question.is_date)


def _expression(question: Question) -> str:
    column = f"column({question.column!r})"
    if question.word is not None:
        return f'contains(lower(coalesce({column}, "")), {question.word!r})'
    if question.is_date:
        return f'days_between(date("1970-01-01"), {column})'
    return f"{column} == {question.level!r}"


def rule_predictor(rule: Rule, feature_names: Sequence[str]) -> TreesPredictor:
    """Return the rule as a tree over the features of its recipe.

    Parameters
    ----------
    rule
        The rule.
    feature_names
        Of the fitted recipe, in order.
    """
    nodes = _Nodes(rule, {name: at for at, name in enumerate(feature_names)})
    n_outputs = len(rule.classes) if len(rule.classes) > 2 else 1
    value = np.array(nodes.value, dtype=np.float64)
    n = len(value)
    return TreesPredictor(
        feature=np.array(nodes.feature, dtype=np.int32),
        left=np.array(nodes.left, dtype=np.int32),
        right=np.array(nodes.right, dtype=np.int32),
        threshold=np.array(nodes.threshold, dtype=np.float64),
        missing_left=np.array(nodes.missing_left, dtype=np.uint8),
        zero_missing=np.zeros(n, dtype=np.uint8),
        value=value,
        roots=np.zeros(1, dtype=np.int32),
        outputs=np.zeros(1, dtype=np.int32),
        base=np.zeros(n_outputs, dtype=np.float64),
        comparison="<=",
        n_features=len(feature_names),
    )


class _Nodes:
    """The arrays of the tree, a parent before its children."""

    def __init__(self, rule: Rule, place: dict[str, int]) -> None:
        self.rule, self.place = rule, place
        self.feature: list[int] = []
        self.left: list[int] = []
        self.right: list[int] = []
        self.threshold: list[float] = []
        self.missing_left: list[int] = []
        self.value: list[Any] = []
        self._write(rule.root)

    def _write(self, node: dict[str, Any]) -> int:
        at = len(self.value)
        is_leaf = "answer" in node
        question = None if is_leaf else asked_at(node)
        yes_or_no = question is not None and question.is_yes_or_no
        self.feature.append(0 if question is None else self.place[feature_name(question)])
        self.threshold.append(0.5 if yes_or_no else 0.0 if is_leaf else node["at_most"])
        # the tree goes left where the feature is at most the threshold
        low, high = ("else", "then") if yes_or_no else ("then", "else")
        self.missing_left.append(int(not is_leaf and node["missing"] == low))
        self.value.append(self._said(node))
        self.left.append(at)
        self.right.append(at)
        if not is_leaf:
            self.left[at] = self._write(node[low])
            self.right[at] = self._write(node[high])
        return at

    def _said(self, node: dict[str, Any]) -> Any:
        n_classes = len(self.rule.classes)
        if "answer" not in node:
            return [0.0] * n_classes if n_classes > 2 else 0.0
        if not n_classes:
            return float(node["answer"])
        shares = [float(share) for share in node["answer"]]
        return shares[1] if n_classes == 2 else shares
