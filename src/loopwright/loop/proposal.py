"""A proposal from the data and the question: which task it is, how to approach it, and why."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.loop.sourcing import Target

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

Approach = Literal[
    "linear regression",
    "logistic regression",
    "tree",
    "boosted trees",
    "image",
    "text",
    "forecast",
]

USUAL = ("linear-learner", "knn", "xgboost", "lightgbm")
_READABLE = ("linear-learner", "decision-tree")
_FEW_ROWS = 500
_LOOKED_AT = 2_000
# so many words in the middle value are sentences, not names
_WORDS_OF_TEXT = 6
_ASKS_WHY = re.compile(
    r"\b(why|explain|because|reasons?|drives?|drivers?|factors?|understand)\b", re.IGNORECASE
)
_ASKS_AHEAD = re.compile(
    r"\b(forecast|demand|tomorrow|next (?:hour|day|week|month|quarter|year)|coming (?:days|weeks|months)"
    r"|in the future|over time)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """How a problem could be gone at.

    Parameters
    ----------
    task
        For `problem.task`.
    task_reason
        What says so.
    approach
        In the words of the field.
    why
        What in the data and the question speaks for it.
    algorithms
        For `train.algorithms`.
    split_by
        `time` with the column of `split_column` where later rows are to be foretold.
    caveat
        What this version cannot do of it; empty otherwise.
    """

    task: str
    task_reason: str
    approach: Approach
    why: str
    algorithms: tuple[str, ...] = USUAL
    split_by: Literal["random", "time"] = "random"
    split_column: str | None = None
    caveat: str = ""


def proposed(
    rows: pl.LazyFrame,
    target: Target,
    *,
    question: str = "",
    explainable: bool = False,
    of_images: bool = False,
) -> Proposal:
    """Return the task and the approach that the rows and the question suggest, with reasons.

    Parameters
    ----------
    rows
        The table; its first 2,000 rows are looked at.
    target
        The target in it.
    question
        The business question, in words.
    explainable
        Whether only models that a person can read will do.
    of_images
        Whether the rows speak of image files.
    """
    table = rows.head(_LOOKED_AT).collect()
    task, reason = target.task, target.reason
    regression = task == "regression"
    straight: Approach = "linear regression" if regression else "logistic regression"
    if of_images:
        return Proposal(
            task=task,
            task_reason=reason,
            approach="image",
            why="the rows are image files",
            caveat="this version learns from what is known about a file, not from its pixels",
        )
    moments = [name for name, dtype in table.schema.items() if dtype.is_temporal()]
    if regression and moments and _ASKS_AHEAD.search(question):
        said = _ASKS_AHEAD.search(question)
        return Proposal(
            task=task,
            task_reason=reason,
            approach="forecast",
            why=f"the question speaks of {said[0] if said else ''!r}, and {moments[0]!r} tells when "
            "each row was: earlier rows teach, later ones judge",
            split_by="time",
            split_column=moments[0],
            caveat="this version foretells each row from its own columns, not from the rows before",
        )
    asks_why = _ASKS_WHY.search(question)
    if explainable or asks_why:
        why = (
            "a person must be able to read the model"
            if explainable
            else f"the question asks {asks_why[0].lower()!r}, and a tree shows its reasons"
            if asks_why
            else ""
        )
        return Proposal(
            task=task, task_reason=reason, approach="tree", why=why, algorithms=_READABLE
        )
    texts = [name for name in table.columns if name != target.column and _is_text(table[name])]
    if texts:
        return Proposal(
            task=task,
            task_reason=reason,
            approach="text",
            why=f"{texts[0]!r} holds sentences: their words become features",
        )
    n_rows = int(rows.select(pl.len()).collect().item())
    if n_rows < _FEW_ROWS:
        return Proposal(
            task=task,
            task_reason=reason,
            approach=straight,
            why=f"{n_rows:,} rows are few: simple models learn all there is to learn from them",
            algorithms=("linear-learner", "decision-tree", "knn"),
        )
    return Proposal(
        task=task,
        task_reason=reason,
        approach="boosted trees",
        why=f"{n_rows:,} rows with {len(table.columns) - 1} columns are enough for trees to find what "
        f"{straight} cannot; it is tried beside them",
    )


def _is_text(column: pl.Series) -> bool:
    """Return whether a column holds sentences."""
    if column.dtype != pl.String:
        return False
    words = column.drop_nulls().str.split(" ").list.len().median()
    return isinstance(words, int | float) and words >= _WORDS_OF_TEXT
