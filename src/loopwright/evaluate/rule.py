"""A rule of a few conditions: an answer that needs no model, as words, Python and SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.evaluate.readable import Question, ReadableTable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

MOST_CONDITIONS = 3
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A binary tree of conditions over a readable table.

    A node is `{"column", "level" | "word" | "at_most", "is_date", "missing", "has_missing", "then",
    "else"}`, a leaf is `{"answer", "n_rows"}`: a value for regression, probabilities per class
    otherwise.

    Parameters
    ----------
    root
        The first node.
    classes
        Of a classification, the positive one last when there are two.
    threshold
        Two classes only: probability from which the positive one is said.
    """

    root: dict[str, Any]
    classes: tuple[str, ...]
    threshold: float = 0.5

    @property
    def n_conditions(self) -> int:
        """How many conditions it asks."""

        def count(node: dict[str, Any]) -> int:
            return 0 if "answer" in node else 1 + count(node["then"]) + count(node["else"])

        return count(self.root)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it asks about, each once."""
        return tuple(dict.fromkeys(question.column for question in self.questions))

    @property
    def questions(self) -> tuple[Question, ...]:
        """What it asks, each once, in the order of the tree."""
        found: dict[Question, None] = {}

        def collect(node: dict[str, Any]) -> None:
            if "answer" not in node:
                found[asked_at(node)] = None
                collect(node["then"])
                collect(node["else"])

        collect(self.root)
        return tuple(found)

    def to_words(self) -> str:
        """Return the rule in plain English, a line for each answer."""
        lines = []

        def write(node: dict[str, Any], path: list[tuple[dict[str, Any], bool]]) -> None:
            if "answer" in node:
                when = f"When {_path_words(path)}: " if path else "Always: "
                lines.append(f"{when}{self._said_words(node)}")
                return
            write(node["then"], [*path, (node, True)])
            write(node["else"], [*path, (node, False)])

        write(self.root, [])
        return "\n".join(lines)

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

    def to_json(self) -> dict[str, Any]:
        """Return the rule as JSON types."""
        return {"root": self.root, "classes": list(self.classes), "threshold": self.threshold}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rule:
        """Return the rule that `to_json` wrote."""
        return cls(
            root=value["root"], classes=tuple(value["classes"]), threshold=value["threshold"]
        )

    def _share(self, leaf: dict[str, Any]) -> str:
        """Return the probability behind a class as a comment: rankings are made of it."""
        if not self.classes:
            return ""
        named, share = self._named_share(leaf)
        return f"  # probability of {named!r}: {share:.3f}"

    def _named_share(self, leaf: dict[str, Any]) -> tuple[str, float]:
        named = self.classes[1] if len(self.classes) == 2 else str(self._said(leaf))
        return named, leaf["answer"][self.classes.index(named)]

    def _said_words(self, leaf: dict[str, Any]) -> str:
        seen = f" (seen in {leaf['n_rows']:,} rows)" if "n_rows" in leaf else ""
        if not self.classes:
            return f"say {float(self._said(leaf)):,.6g}{seen}."
        named, share = self._named_share(leaf)
        count = f" of {leaf['n_rows']:,} rows" if "n_rows" in leaf else ""
        return f"say {self._said(leaf)} ({share:.1%}{count} were {named})."

    def _said(self, leaf: dict[str, Any]) -> float | str:
        answer = leaf["answer"]
        if not self.classes:
            return float(f"{answer:.6g}")
        if len(self.classes) == 2:
            return self.classes[int(answer[1] >= self.threshold)]
        return self.classes[max(range(len(answer)), key=lambda index: answer[index])]


def asked_at(node: Mapping[str, Any]) -> Question:
    """Return what a node asks; which side missing values take is the node's own affair."""
    return Question(
        column=node["column"],
        level=node["level"],
        word=node["word"],
        is_date=bool(node.get("is_date")),
    )


def _is_number(node: Mapping[str, Any]) -> bool:
    return node["level"] is None and node["word"] is None


def _path_words(path: list[tuple[dict[str, Any], bool]]) -> str:
    """Return the conditions on the way to a leaf; of several bounds on one column the tightest."""
    told: dict[tuple[str, str], str] = {}
    for node, met in path:
        name = f"'{node['column']}'"
        if node["word"] is not None:
            verb = "holds" if met else "does not hold"
            told[name, f"word {node['word']}"] = f"{name} {verb} the word '{node['word']}'"
        elif isinstance(node["level"], bool):
            told[name, "level"] = f"{name} is {'true' if met else 'not true'}"
        elif node["level"] is not None:
            told[name, f"level {node['level']}"] = (
                f"{name} is {'' if met else 'not '}'{node['level']}'"
            )
        else:
            side = "upper" if met else "lower"
            told.pop((name, side), None)  # one further down is tighter
            told[name, side] = f"{name} is {_bound_words(node, met)}{_missing_words(node, met)}"
    return " and ".join(told.values())


def _bound_words(node: Mapping[str, Any], met: bool) -> str:
    if node.get("is_date"):
        after = _day_after(node)
        return f"before {after}" if met else f"on {after} or later"
    return f"{'at most' if met else 'more than'} {node['at_most']:,.6g}"


def _missing_words(node: Mapping[str, Any], met: bool) -> str:
    is_here = (node["missing"] == "then") == met
    return " or missing" if is_here and node.get("has_missing") else ""


def _day_after(node: Mapping[str, Any]) -> str:
    """Return the first day beyond "at most so many days"."""
    return (_EPOCH + timedelta(days=int(node["at_most"] // 1) + 1)).isoformat()


def _python_condition(node: dict[str, Any]) -> str:
    value = f"row[{node['column']!r}]"
    if node["level"] is not None:
        return f"{value} == {node['level']!r}"
    if node["word"] is not None:
        return f"{node['word']!r} in ({value} or '').lower()"
    test = f"{value} <= {node['at_most']!r}"
    if node.get("is_date"):  # a date, a moment, or text as JSON has it
        test = f"str({value})[:10] < {_day_after(node)!r}"
    return (
        f"{value} is None or {test}"
        if node["missing"] == "then"
        else f"{value} is not None and {test}"
    )


def _sql_condition(node: dict[str, Any]) -> str:
    column = '"' + node["column"].replace('"', '""') + '"'
    if isinstance(node["level"], bool):
        return f"{column} = {'TRUE' if node['level'] else 'FALSE'}"
    if node["level"] is not None:
        return f"{column} = {_sql_text(node['level'])}"
    if node["word"] is not None:
        return f"LOWER({column}) LIKE {_sql_text('%' + node['word'] + '%')}"
    test = f"{column} <= {node['at_most']!r}"
    if node.get("is_date"):
        test = f"{column} < '{_day_after(node)}'"
    return f"({column} IS NULL OR {test})" if node["missing"] == "then" else test


def _sql_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def fitted_rule(
    table: ReadableTable,
    y: npt.NDArray[np.float64],
    *,
    classes: tuple[str, ...],
    n_conditions: int = MOST_CONDITIONS,
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
            n_rows = int(tree.n_node_samples[index])
            if classes:
                shares = tree.value[index][0] / tree.value[index][0].sum()
                answer = np.zeros(len(classes))
                answer[grower.classes_.astype(np.int64)] = shares
                return {"answer": [float(share) for share in answer], "n_rows": n_rows}
            value = float(tree.value[index][0][0])
            said = float(np.exp(value)) if logarithmic else value
            return {"answer": said, "n_rows": n_rows}
        question = table.questions[int(tree.feature[index])]
        low, high = node(int(tree.children_left[index])), node(int(tree.children_right[index]))
        asked = {
            "column": question.column,
            "level": question.level,
            "word": question.word,
            "is_date": question.is_date,
            "has_missing": question.has_missing,
        }
        if question.is_yes_or_no:
            # "at most one half" of an indicator means "is not this category"
            return {**asked, "at_most": None, "missing": "else", "then": high, "else": low}
        limit = float(f"{tree.threshold[index]:.6g}")
        if question.is_whole and abs(limit) < 1e6:
            limit = float(np.floor(tree.threshold[index]))
        side = "then" if question.fill <= limit else "else"
        return {**asked, "at_most": limit, "missing": side, "then": low, "else": high}

    return Rule(root=node(0), classes=classes)


def rule_answers(rule: Rule, table: ReadableTable) -> npt.NDArray[np.float64]:
    """Return the rule's answers: `(n_rows,)` values, or `(n_rows, n_classes)` probabilities."""
    n_rows = len(table.matrix)
    said = np.zeros((n_rows, len(rule.classes)) if rule.classes else n_rows)
    place = {(each.column, each.level, each.word): at for at, each in enumerate(table.questions)}

    def walk(node: dict[str, Any], chosen: npt.NDArray[np.bool_]) -> None:
        if "answer" in node:
            said[chosen] = node["answer"]
            return
        values = table.matrix[:, place[node["column"], node["level"], node["word"]]]
        met = values > 0.5 if not _is_number(node) else values <= node["at_most"]
        walk(node["then"], chosen & met)
        walk(node["else"], chosen & ~met)

    walk(rule.root, np.ones(n_rows, dtype=np.bool_))
    return said
