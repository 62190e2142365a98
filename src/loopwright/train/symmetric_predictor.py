"""Symmetric trees, as data: CatBoost's, which ask the same question on a whole level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.link import Link, checked_link
from loopwright.train.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

MAX_DEPTH = 16
_MAX_FEATURES = 1 << 20
# the leaf numbers of one chunk then stay in the processor's second-level cache
_CHUNK_LEAVES = 1 << 15
_ARRAYS = ("feature", "border", "missing_above", "depths", "value", "base")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SymmetricTreesPredictor(Predictor):
    """Score a row as base + scale times the sum of one leaf of each tree.

    The answers to a tree's questions are the binary digits of its leaf, the first question's being
    the lowest. Trees are added one after the other in 64 bits.

    Parameters
    ----------
    feature, border
        `(n_questions,)` int32 and float32, tree by tree: whether the feature, in 32 bits, is
        above the border.
    missing_above
        `(n_questions,)` uint8: whether a missing value counts as above.
    depths
        `(n_trees,)` int32, 0 to 16: questions a tree asks.
    value
        `(n_leaves, n_outputs)`: the leaves, 2 to the depth for each tree.
    base
        `(n_outputs,)`: what is added in the end.
    scale
        What the sum is multiplied by.
    n_features
        How many features a row has.
    link
        What makes the answer of the score.

    Raises
    ------
    InvalidInputError
        If an index leaves its range, sizes do not fit, or a number is not finite.
    """

    feature: npt.NDArray[np.int32]
    border: npt.NDArray[np.float32]
    missing_above: npt.NDArray[np.uint8]
    depths: npt.NDArray[np.int32]
    value: npt.NDArray[np.float64]
    base: npt.NDArray[np.float64]
    n_features: int
    scale: float = 1.0
    link: Link = "identity"
    _levels: list[_Level] = field(init=False, repr=False)
    _first_leaf: npt.NDArray[np.intp] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checked_link(self.link)
        _check(self)
        first = np.cumsum(np.append(0, 1 << self.depths.astype(np.intp)))[:-1]
        object.__setattr__(self, "_first_leaf", first)
        object.__setattr__(self, "_levels", _prepared_levels(self))

    @property
    def n_outputs(self) -> int:
        """How many scores a row gets: 1, or one a class."""
        return len(self.base)

    @property
    def n_trees(self) -> int:
        """How many trees are added up."""
        return len(self.depths)

    def score(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return scores `(n_rows, n_outputs)` for features `(n_rows, n_features)`."""
        scores = np.empty((len(X), self.n_outputs))
        step = max(1, _CHUNK_LEAVES // (self.n_trees * self.n_outputs))
        with np.errstate(over="ignore"):  # a huge number becomes infinite in 32 bits
            typed = X.astype(np.float32)
        for start in range(0, len(X), step):
            columns = np.ascontiguousarray(typed[start : start + step].T)
            terms = self.value.take(self._leaves(columns), axis=0)
            total = np.add.accumulate(terms, axis=0)[-1]
            scores[start : start + step] = total * self.scale + self.base
        return scores

    def _leaves(self, columns: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
        """Return the leaf of every tree for every row, `(n_trees, n_rows)`."""
        has_missing = bool(np.isnan(columns).any())
        leaves = np.repeat(self._first_leaf[:, None], columns.shape[1], axis=1)
        for bit, level in enumerate(self._levels):
            x = columns.take(level.feature, axis=0)
            above = x > level.border
            if has_missing:
                above |= np.isnan(x) & level.missing_above
            leaves[level.trees] += above.astype(np.intp) << bit
        return leaves

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what has to be stored."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def meta(self) -> dict[str, Any]:
        """Return what has to be stored beside the arrays."""
        return {"n_features": self.n_features, "scale": self.scale}

    @classmethod
    def from_parts(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], link: Link
    ) -> SymmetricTreesPredictor:
        """Return the predictor that was stored."""
        parts = {name: arrays[name] for name in _ARRAYS}
        return cls(**parts, n_features=meta["n_features"], scale=meta["scale"], link=link)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Level:
    """The questions that trees ask at one depth, for the trees that are so deep."""

    trees: npt.NDArray[np.intp] | slice
    feature: npt.NDArray[np.intp]
    border: npt.NDArray[np.float32]
    missing_above: npt.NDArray[np.bool_]


def _prepared_levels(trees: SymmetricTreesPredictor) -> list[_Level]:
    first = np.cumsum(np.append(0, trees.depths))[:-1]
    levels = []
    for depth in range(int(trees.depths.max())):
        deep = np.flatnonzero(trees.depths > depth)
        question = first[deep] + depth
        levels.append(
            _Level(
                trees=slice(None) if len(deep) == trees.n_trees else deep,
                feature=trees.feature[question].astype(np.intp),
                border=trees.border[question][:, None],
                missing_above=(trees.missing_above[question] != 0)[:, None],
            )
        )
    return levels


def _check(trees: SymmetricTreesPredictor) -> None:
    types = {
        "feature": np.int32,
        "border": np.float32,
        "missing_above": np.uint8,
        "depths": np.int32,
        "value": np.float64,
        "base": np.float64,
    }
    for name, kind in types.items():
        if getattr(trees, name).dtype != kind:
            raise _broken(f"{name} is not of type {kind.__name__}")
    if trees.base.ndim != 1 or not 1 <= len(trees.base) <= _MAX_FEATURES:
        raise _broken("it has no outputs")
    if trees.depths.ndim != 1 or not len(trees.depths):
        raise _broken("it has no trees")
    if trees.depths.min() < 0 or trees.depths.max() > MAX_DEPTH:
        raise _broken(f"a tree asks less than 0 or more than {MAX_DEPTH} questions")
    n_questions = int(trees.depths.sum())
    for name in ("feature", "border", "missing_above"):
        if getattr(trees, name).shape != (n_questions,):
            raise _broken(f"{name} has shape {getattr(trees, name).shape}, not ({n_questions},)")
    n_leaves = int((1 << trees.depths.astype(np.int64)).sum())
    if trees.value.shape != (n_leaves, len(trees.base)):
        raise _broken(f"value has shape {trees.value.shape} with {n_leaves} leaves")
    if not isinstance(trees.n_features, int) or not 1 <= trees.n_features <= _MAX_FEATURES:
        raise _broken(f"it has {trees.n_features!r} features")
    if n_questions and not 0 <= trees.feature.min() <= trees.feature.max() < trees.n_features:
        raise _broken(f"a question is about a feature outside 0 to {trees.n_features - 1}")
    if not isinstance(trees.scale, int | float) or not all(
        np.isfinite(numbers).all() for numbers in (trees.value, trees.base, trees.scale)
    ):
        raise _broken("a leaf, the base or the scale is not a number")
    if np.isnan(trees.border).any():
        raise _broken("a border is not a number")


def _broken(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The symmetric trees of the model cannot be trusted: {reason}.",
        hint="Train the model again, or fetch the file again.",
        field="trees",
        value=reason,
    )
