"""The reference of the algorithms: every hyperparameter, read from the code.

python -m loopwright.testing.algorithm_reference > docs/reference/algorithms.md
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence

from loopwright.problem import TASKS
from loopwright.train import ALGORITHMS, Algorithm, Hyperparameter, get_algorithm
from loopwright.train.algorithm import USUAL_ALGORITHMS

_HEAD = """\
# Algorithms

Names for `train.algorithms` of the [loop file](loop-file.md#train), with what can be set under
`train.hyperparameters.NAME`. This page is written by `python -m loopwright.testing.algorithm_reference` from
the code.

Every algorithm learns regressions, two classes and more classes, takes weights of rows, is seeded by
`train.seed`, tells its losses on training and validation rows step by step, and leaves a model of plain arrays
that is compared with the library's own answers before it is kept. Serving needs NumPy only.

- **Names.** Each hyperparameter also goes by the names in the last column, which SageMaker or the library uses.
  A name given twice, an unknown one and a value out of range are refused before anything is trained, with the
  nearest name or the range.
- **Classes.** `class_weight: balanced` lets every class count the same in all; `class_weight: {yes: 5}` lets
  the rows of `yes` count five times.
- **Missing values.** `tree` features keep them, and the algorithm decides at every split where they go. For the
  others the recipe fills them in.
- **Elsewhere.** The seed is `train.seed`, threads come from `train.resources`, and the number of classes from
  the data.
"""
_FOOT = """\
## Algorithms of other packages

An installed package brings an algorithm by an entry point; see
[how to add an algorithm](../how-to/add-an-algorithm.md).
"""
_FEATURES = {
    "linear": "for linear models: scaled, complete, texts one column a value",
    "scaled": "scaled, and complete",
    "tree": "as they are, missing ones included",
}
_WORDS = {int: "whole number", float: "number", str: "text"}


def algorithm_reference() -> str:
    """Return the reference of all algorithms as Markdown."""
    parts = [_HEAD, _overview()]
    parts += [_section(get_algorithm(name)) for name in ALGORITHMS]
    return "\n".join([*parts, _FOOT])


def _overview() -> str:
    rows = [
        (
            f"[`{name}`](#{name})",
            _first_line(get_algorithm(name)),
            _library(get_algorithm(name)),
            "yes" if name in USUAL_ALGORITHMS else "",
        )
        for name in ALGORITHMS
    ]
    return _table(("name", "what it does", "trains with", "when none are named"), rows)


def _section(algorithm: Algorithm) -> str:
    about = inspect.cleandoc(type(algorithm).__doc__ or "")
    return "\n".join(
        [
            f"## {algorithm.name}\n",
            about + "\n",
            f"Features: {_FEATURES[algorithm.features]}. Trains with {_library(algorithm)}.\n",
            _table(
                ("hyperparameter", "type", "default", "range", "meaning", "also"),
                [_row(name, one) for name, one in algorithm.hyperparameters.items()],
            ),
        ]
    )


def _row(name: str, one: Hyperparameter) -> tuple[str, ...]:
    return (
        f"`{name}`",
        _type(one),
        "not set" if one.default is None else f"`{one.default}`",
        _range(one),
        one.help.replace("|", "\\|"),
        ", ".join(f"`{alias}`" for alias in one.aliases),
    )


def _type(one: Hyperparameter) -> str:
    word = _WORDS[one.kind]
    if one.shape == "list":
        return f"list of 1 to 8 {word}s"
    if one.shape == "table":
        return f"table of {word}s"
    return word


def _range(one: Hyperparameter) -> str:
    choices = " or ".join(f"`{choice}`" for choice in one.choices)
    if one.kind is str:
        return choices
    return f"{choices} or {one.range}" if choices else one.range


def _library(algorithm: Algorithm) -> str:
    libraries = {algorithm.library(task) for task in TASKS} - {None}
    names = sorted({str(name).partition(".")[0] for name in libraries})
    shown = {"sklearn": "scikit-learn", "catboost": "CatBoost (`loopwright[catboost]`)"}
    return " and ".join(shown.get(name, name) for name in names) or "NumPy"


def _first_line(algorithm: Algorithm) -> str:
    text = " ".join(inspect.cleandoc(type(algorithm).__doc__ or "").split("\n\n")[0].split())
    return re.sub(r"\.$", "", text)


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(algorithm_reference())
