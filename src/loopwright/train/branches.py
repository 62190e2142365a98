"""Trees of any library as one table of nodes, with how many rows went each way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.predictor import Predictor
from loopwright.train.symmetric_predictor import SymmetricTreesPredictor
from loopwright.train.trees_predictor import TreesPredictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]
    Places = npt.NDArray[np.intp]
    Flags = npt.NDArray[np.bool_]
else:
    np = LazyModule("numpy")

# LightGBM reads what is not farther from zero as zero
_ZERO = float.fromhex("0x1.a95a5cp-117")
_CHUNK_WALKERS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Branches:
    """The nodes of all trees, one tree after the other; a leaf is its own child.

    Parameters
    ----------
    feature, left, right
        `(n_nodes,)`: what a node asks about and where the walk goes on.
    threshold
        `(n_nodes,)`; its type is the one features are rounded to.
    strict
        Whether the walk goes left below the threshold only, or at it, too.
    zero
        Numbers not farther from zero are read as zero.
    missing_left, zero_missing
        `(n_nodes,)`: whether a missing value goes left; whether zero counts as missing.
    value
        `(n_nodes, width)`: what a leaf adds; `width` is 1, or one an output.
    roots, outputs
        `(n_trees,)`: first node, and the output the tree adds to where `width` is 1.
    base
        `(n_outputs,)`: where the sums start.
    """

    feature: Places
    left: Places
    right: Places
    threshold: npt.NDArray[np.floating[Any]]
    strict: bool
    zero: float
    missing_left: Flags
    zero_missing: Flags
    value: Numbers
    roots: Places
    outputs: Places
    base: Numbers
    n_features: int

    @property
    def is_leaf(self) -> Flags:
        """Which nodes ask nothing, `(n_nodes,)`."""
        leaf: Flags = self.left == np.arange(len(self.left))
        return leaf

    def read(self, X: Numbers) -> npt.NDArray[np.floating[Any]]:
        """Return features as the trees read them, `(n_rows, n_features)`."""
        with np.errstate(over="ignore"):
            typed = X.astype(self.threshold.dtype)
        return np.where(np.abs(typed) <= self.zero, typed.dtype.type(0), typed)

    def goes_left(self, nodes: Places, x: npt.NDArray[np.floating[Any]]) -> Flags:
        """Return whether values `x`, `(n_nodes, n_rows)`, go left at the nodes."""
        threshold = self.threshold[nodes][:, None]
        left: Flags = x < threshold if self.strict else x <= threshold
        missing = np.isnan(x)
        missing_left = self.missing_left[nodes][:, None]
        if missing.any():
            left |= missing & missing_left
        of_zero = self.zero_missing[nodes]
        if of_zero.any():
            left = np.where((x == 0) & of_zero[:, None], missing_left, left)
        return left

    def counted(self, X: Numbers) -> Numbers:
        """Return how many of the rows come through each node, `(n_nodes,)`."""
        typed = self.read(X)
        counts = np.zeros(len(self.left), dtype=np.int64)
        step = max(1, _CHUNK_WALKERS // len(self.roots))
        for start in range(0, len(X), step):
            counts += self._counted(typed[start : start + step])
        return counts.astype(np.float64)

    def _counted(self, typed: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
        n_rows, n_features = typed.shape
        flat, is_leaf = typed.ravel(), self.is_leaf
        node = np.repeat(self.roots, n_rows)
        offset = np.tile(np.arange(n_rows, dtype=np.intp) * n_features, len(self.roots))
        counts = np.zeros(len(self.left), dtype=np.int64)
        while len(node):
            counts += np.bincount(node, minlength=len(counts))
            under_way = np.flatnonzero(~is_leaf[node])
            node, offset = node[under_way], offset[under_way]
            x = flat[self.feature[node] + offset]
            threshold = self.threshold[node]
            left = x < threshold if self.strict else x <= threshold
            is_missing = np.isnan(x) | ((x == 0) & self.zero_missing[node])
            left = np.where(is_missing, self.missing_left[node], left)
            node = np.where(left, self.left[node], self.right[node])
        return counts


def branches_of(predictor: Predictor) -> Branches | None:
    """Return a predictor's trees as one table; None if it is not made of trees.

    Raises
    ------
    InvalidInputError
        If a node has two parents, as no trained tree has.
    """
    if isinstance(predictor, TreesPredictor):
        return _checked(_of_trees(predictor))
    if isinstance(predictor, SymmetricTreesPredictor):
        return _checked(_of_symmetric(predictor))
    return None


def _of_trees(trees: TreesPredictor) -> Branches:
    value = trees.value.astype(np.float64)
    base = trees.base.astype(np.float64)
    value = value if value.ndim == 2 else value[:, None]
    if trees.averaged:
        of_output = np.full(len(base), trees.n_trees)
        if value.shape[1] == 1:
            of_output = np.maximum(1, np.bincount(trees.outputs, minlength=len(base)))
            ends = np.append(trees.roots[1:], len(trees.left))
            of_tree = of_output[trees.outputs]
            value = value / np.repeat(of_tree, ends - trees.roots)[:, None]
        else:
            value = value / trees.n_trees
        base = base / of_output
    return Branches(
        feature=trees.feature.astype(np.intp),
        left=trees.left.astype(np.intp),
        right=trees.right.astype(np.intp),
        threshold=trees.threshold,
        strict=trees.comparison == "<",
        zero=0.0 if trees.comparison == "<" else _ZERO,
        missing_left=trees.missing_left != 0,
        zero_missing=trees.zero_missing != 0,
        value=value,
        roots=trees.roots.astype(np.intp),
        outputs=trees.outputs.astype(np.intp),
        base=base,
        n_features=trees.n_features,
    )


def _of_symmetric(trees: SymmetricTreesPredictor) -> Branches:
    """Return trees that ask one question a level as trees that ask at every node."""
    feature, left, right, threshold, missing_left, leaf = [], [], [], [], [], []
    roots, first, question, first_leaf = [], 0, 0, 0
    for depth in trees.depths.tolist():
        roots.append(first)
        for level in range(depth + 1):
            code = np.arange(1 << level)
            place = first + (1 << level) - 1 + code
            is_end = level == depth
            below = first + (2 << level) - 1 + code
            asked = 0 if is_end else question + level
            n = len(code)
            feature.append(np.full(n, 0 if is_end else int(trees.feature[asked])))
            threshold.append(np.full(n, 0.0 if is_end else trees.border[asked], dtype=np.float32))
            missing_left.append(np.full(n, not is_end and not trees.missing_above[asked]))
            left.append(place if is_end else below)
            right.append(place if is_end else below + (1 << level))
            leaf.append(first_leaf + code if is_end else np.full(n, -1))
        first += (2 << depth) - 1
        question += depth
        first_leaf += 1 << depth
    leaves = np.concatenate(leaf)
    value = np.where(leaves[:, None] >= 0, trees.value[leaves] * trees.scale, 0.0)
    return Branches(
        feature=np.concatenate(feature).astype(np.intp),
        left=np.concatenate(left).astype(np.intp),
        right=np.concatenate(right).astype(np.intp),
        threshold=np.concatenate(threshold),
        strict=False,
        zero=0.0,
        missing_left=np.concatenate(missing_left),
        zero_missing=np.zeros(len(leaves), dtype=np.bool_),
        value=value,
        roots=np.array(roots, dtype=np.intp),
        outputs=np.zeros(len(roots), dtype=np.intp),
        base=trees.base,
        n_features=trees.n_features,
    )


def _checked(branches: Branches) -> Branches:
    inner = ~branches.is_leaf
    children = np.concatenate([branches.left[inner], branches.right[inner]])
    if np.bincount(children, minlength=len(branches.left)).max(initial=0) > 1:
        raise InvalidInputError(
            "A node of the model's trees has two parents, so nothing can be said of it.",
            hint="Train the model again, or fetch the file again.",
            field="trees",
        )
    return branches
