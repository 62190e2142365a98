"""A tree as rules: text to read, and Python that answers the same to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.trees_predictor import TreesPredictor

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")

_HEAD = '''"""The rules of a decision tree, as loopwright trained it; needs nothing but Python."""

import math
import struct


def _rounded(x):
    """Return x as the 32-bit number that the tree compares."""
    if x is None:
        return math.nan
    try:
        return struct.unpack("f", struct.pack("f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def answer(features):
    """Return {what} for a dict of features by name; None or NaN is missing."""
'''


def rules_text(tree: TreesPredictor, *, names: Sequence[str], classes: Sequence[str] = ()) -> str:
    """Return the rules of one tree as indented text.

    Parameters
    ----------
    tree
        A predictor with one tree.
    names
        Of the features.
    classes
        Of a classification, in the order of their indices.

    Raises
    ------
    InvalidInputError
        If the predictor has more trees than one.
    """
    _check_single(tree)
    return "\n".join(_text_lines(tree, 0, 0, names, classes)) + "\n"


def rules_python(tree: TreesPredictor, *, names: Sequence[str]) -> str:
    """Return the rules of one tree as a Python module with a function `answer(features)`.

    Its answer is `Predictor.score` of the row: the value, the probability of the positive class,
    or a list of the probabilities of every class.

    Raises
    ------
    InvalidInputError
        If the predictor has more trees than one, or is not in 32 bits as scikit-learn's are.
    """
    _check_single(tree)
    if tree.comparison != "<" or tree.threshold.dtype != np.float32:
        raise InvalidInputError(
            "Only trees that compare 32-bit numbers can be written as Python.",
            hint="Train a decision-tree.",
            field="tree",
        )
    what = "a list of shares, one a class," if tree.value.ndim == 2 else "a number"
    return _HEAD.replace("{what}", what) + "\n".join(_python_lines(tree, 0, 1, names)) + "\n"


def _check_single(tree: TreesPredictor) -> None:
    if tree.n_trees != 1:
        raise InvalidInputError(
            f"The model is made of {tree.n_trees:,} trees; rules are those of a single one.",
            hint="Train a decision-tree.",
            field="tree",
            value=tree.n_trees,
        )


def _text_lines(
    tree: TreesPredictor, node: int, level: int, names: Sequence[str], classes: Sequence[str]
) -> Iterator[str]:
    indent = "    " * level
    if tree.left[node] == node:
        yield f"{indent}→ {_said(tree, node, classes)}"
        return
    name, threshold = names[tree.feature[node]], float(tree.threshold[node])
    left = " or missing" if tree.missing_left[node] else ""
    right = "" if tree.missing_left[node] else " or missing"
    opposite = ">=" if tree.comparison == "<" else ">"
    tests = (
        f"{name} {tree.comparison} {threshold:.6g}{left}",
        f"{name} {opposite} {threshold:.6g}{right}",
    )
    if not np.isfinite(threshold):  # it parts what is there from what is missing
        tests = (f"{name} is there", f"{name} is missing")
    yield f"{indent}if {tests[0]}:"
    yield from _text_lines(tree, int(tree.left[node]), level + 1, names, classes)
    yield f"{indent}else ({tests[1]}):"
    yield from _text_lines(tree, int(tree.right[node]), level + 1, names, classes)


def _said(tree: TreesPredictor, node: int, classes: Sequence[str]) -> str:
    if tree.value.ndim == 2:
        shares = tree.value[node]
        named = classes or [str(k) for k in range(len(shares))]
        best = sorted(zip(shares.tolist(), named, strict=True), reverse=True)
        return ", ".join(f"{name} {share:.1%}" for share, name in best[:3] if share > 0)
    if len(classes) == 2:
        return f"{classes[1]} {float(tree.value[node]):.1%}"
    return f"{float(tree.value[node]):.6g}"


def _python_lines(
    tree: TreesPredictor, node: int, level: int, names: Sequence[str]
) -> Iterator[str]:
    indent = "    " * level
    if tree.left[node] == node:
        yield f"{indent}return {tree.value[node].tolist()!r}"
        return
    # a missing one fails every comparison
    threshold = float(tree.threshold[node])
    bound = repr(threshold) if np.isfinite(threshold) else "math.inf"
    read = f"_rounded(features[{names[tree.feature[node]]!r}])"
    test = f"not {read} >= {bound}" if tree.missing_left[node] else f"{read} < {bound}"
    yield f"{indent}if {test}:"
    yield from _python_lines(tree, int(tree.left[node]), level + 1, names)
    yield f"{indent}else:"
    yield from _python_lines(tree, int(tree.right[node]), level + 1, names)
