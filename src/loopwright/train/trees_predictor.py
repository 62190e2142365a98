"""Trees, as data: the arithmetic of XGBoost, LightGBM and scikit-learn to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.kernel import find_kernel
from loopwright.core.lazy import LazyModule
from loopwright.train.link import Link, checked_link
from loopwright.train.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.core import _kernel
else:
    np = LazyModule("numpy")

Comparison = Literal["<", "<="]

MAX_DEPTH = 1024
MAX_FEATURES = 1 << 20
# one chunk's walk then stays in the processor's second-level cache
_CHUNK_WALKERS = 1 << 15
# LightGBM's kZeroThreshold, 1e-35 as a 32-bit float: what is not farther from zero is read as zero
_ZERO = float.fromhex("0x1.a95a5cp-117")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreesPredictor(Predictor):
    """Score a row as base + the value of the leaf it falls into, tree by tree in a fixed order.

    Nodes of all trees lie one after the other; a tree's children come after their parent, and a
    leaf is its own child, so that a walk of `depth` steps ends in a leaf without asking.

    Parameters
    ----------
    feature, left, right
        `(n_nodes,)` int32: the feature compared at a node, and where the walk goes on.
    threshold
        `(n_nodes,)`: the walk goes left where `feature comparison threshold`. Its type, float32
        (XGBoost, scikit-learn) or float64 (LightGBM), is the type that features are rounded to.
    missing_left, zero_missing
        `(n_nodes,)` uint8: whether a missing value goes left; whether zero counts as missing.
    value
        `(n_nodes,)`: what a leaf adds, in the type that is added in; or `(n_nodes, n_outputs)`,
        where every tree adds to every output.
    roots, outputs
        `(n_trees,)` int32, sorted: a tree's first node; the output it adds to.
    base
        `(n_outputs,)`: where the sums start.
    comparison
        `<` (XGBoost) or `<=` (LightGBM, which also reads what is not above 1e-35 as zero).
    n_features
        How many features a row has.
    averaged
        Whether the sums are divided by the number of trees (an output), as in a forest.
    link
        What makes the answer of the score.

    Raises
    ------
    InvalidInputError
        If an index leaves its range, a child does not come after its parent inside its tree, a
        number is not finite, or a tree is deeper than 1,024: a hostile file can neither read
        outside the arrays nor walk for ever.
    """

    feature: npt.NDArray[np.int32]
    left: npt.NDArray[np.int32]
    right: npt.NDArray[np.int32]
    threshold: npt.NDArray[np.floating[Any]]
    missing_left: npt.NDArray[np.uint8]
    zero_missing: npt.NDArray[np.uint8]
    value: npt.NDArray[np.floating[Any]]
    roots: npt.NDArray[np.int32]
    outputs: npt.NDArray[np.int32]
    base: npt.NDArray[np.floating[Any]]
    comparison: Comparison
    n_features: int
    averaged: bool = False
    link: Link = "identity"
    _walk: _Walk | None = field(init=False, repr=False)
    _compiled: _kernel.Trees | None = field(init=False, repr=False)
    _depth: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checked_link(self.link)
        _check_shapes(self)
        _check_values(self)
        depth = _checked_depth(self)
        compiled = _compiled_trees(self)
        object.__setattr__(self, "_depth", depth)
        object.__setattr__(self, "_compiled", compiled)
        object.__setattr__(self, "_walk", None if compiled else _prepared_walk(self, depth))

    @property
    def n_outputs(self) -> int:
        """How many scores a row gets: 1, or one a class."""
        return len(self.base)

    @property
    def n_trees(self) -> int:
        """How many trees are added up."""
        return len(self.roots)

    @property
    def depth(self) -> int:
        """Comparisons on the longest way from a root to a leaf."""
        return self._depth

    def compiled_score(self) -> Callable[[Any, Any], None] | None:
        """Return what writes the scores of features into an array, where the kernel does that."""
        return None if self._compiled is None else self._compiled.score

    def score(self, X: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return scores `(n_rows, n_outputs)` for features `(n_rows, n_features)`."""
        scores = np.empty((len(X), self.n_outputs))
        if self._compiled is not None:
            self._compiled.score(np.ascontiguousarray(X, dtype=np.float64), scores)
            return scores
        walk = self._walk
        assert walk is not None  # noqa: S101 made where nothing is compiled
        width = self.value.shape[1] if self.value.ndim == 2 else 1
        step = max(1, _CHUNK_WALKERS // max(1, self.n_trees * width))
        with np.errstate(over="ignore"):  # a huge number becomes infinite in float32, as in XGBoost
            typed = np.ascontiguousarray(X, dtype=self.threshold.dtype)
        if self.comparison == "<=":
            typed = np.where(np.abs(typed) <= _ZERO, 0.0, typed)
        for start in range(0, len(X), step):
            chunk = typed[start : start + step]
            leaves = walk.leaves(chunk)
            if self.value.ndim == 2:
                terms = np.concatenate(
                    [
                        np.broadcast_to(self.base, (1, len(chunk), self.n_outputs)),
                        self.value.take(leaves, axis=0),
                    ]
                )
                scores[start : start + step] = np.add.accumulate(terms, axis=0)[-1]
                continue
            for output, trees in enumerate(walk.trees_of_output):
                terms = np.empty((len(trees) + 1, len(chunk)), dtype=self.value.dtype)
                terms[0] = self.base[output]
                self.value.take(leaves[trees], out=terms[1:])
                # accumulate adds one tree after the other, in the type of the library;
                # a plain sum would add pairwise
                scores[start : start + step, output] = np.add.accumulate(terms, axis=0)[-1]
        return scores / self._trees_an_output if self.averaged else scores

    @property
    def _trees_an_output(self) -> npt.NDArray[np.intp]:
        if self.value.ndim == 2:
            return np.array([self.n_trees])
        return np.maximum(1, np.bincount(self.outputs, minlength=self.n_outputs))

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what has to be stored."""
        return {name: getattr(self, name) for name in _ARRAYS}

    def meta(self) -> dict[str, Any]:
        """Return what has to be stored beside the arrays."""
        more = {"averaged": True} if self.averaged else {}
        return {"comparison": self.comparison, "n_features": self.n_features, **more}

    @classmethod
    def from_parts(
        cls, arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, Any], link: Link
    ) -> TreesPredictor:
        """Return the predictor that was stored."""
        parts = {name: arrays[name] for name in _ARRAYS}
        return cls(
            **parts,
            comparison=meta["comparison"],
            n_features=meta["n_features"],
            averaged=meta.get("averaged", False),
            link=link,
        )


_WHOLE_NUMBERS = (
    "feature",
    "left",
    "right",
    "missing_left",
    "zero_missing",
    "roots",
    "outputs",
)
_ARRAYS = (
    "feature",
    "left",
    "right",
    "threshold",
    "missing_left",
    "zero_missing",
    "value",
    "roots",
    "outputs",
    "base",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Walk:
    """The arrays of the trees in the shapes that a vectorised walk wants."""

    feature: npt.NDArray[np.intp]
    threshold: npt.NDArray[np.floating[Any]]
    children: npt.NDArray[np.intp]
    missing_left: npt.NDArray[np.bool_]
    zero_missing: npt.NDArray[np.bool_] | None
    is_leaf: npt.NDArray[np.bool_]
    roots: npt.NDArray[np.intp]
    trees_of_output: list[npt.NDArray[np.intp]]
    goes_left: np.ufunc
    depth: int

    def leaves(self, X: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.intp]:
        """Return the leaf of every tree for every row, `(n_trees, n_rows)`."""
        n_rows, n_features = X.shape
        flat = X.ravel()
        has_missing = bool(np.isnan(flat).any())
        place = np.repeat(self.roots, n_rows)
        offset = np.tile(np.arange(n_rows, dtype=np.intp) * n_features, len(self.roots))
        walking = None  # all of them, until enough have arrived
        node = place
        for level in range(self.depth):
            node = self._step(node, flat, offset, has_missing)
            if walking is None:
                place = node
            else:
                place[walking] = node
            if level >= 3:
                under_way = np.flatnonzero(~self.is_leaf.take(node))
                if not len(under_way):
                    break
                if 4 * len(under_way) < 3 * len(node):
                    walking = under_way if walking is None else walking.take(under_way)
                    node, offset = node.take(under_way), offset.take(under_way)
        return place.reshape(len(self.roots), n_rows)

    def _step(
        self,
        node: npt.NDArray[np.intp],
        flat: npt.NDArray[np.floating[Any]],
        offset: npt.NDArray[np.intp],
        has_missing: bool,
    ) -> npt.NDArray[np.intp]:
        x = flat.take(self.feature.take(node) + offset)
        left = self.goes_left(x, self.threshold.take(node))
        if has_missing:
            # a comparison with NaN is false: only those that go left are still to be told
            left |= np.isnan(x) & self.missing_left.take(node)
        if self.zero_missing is not None:
            is_missing = (x == 0) & self.zero_missing.take(node)
            left = np.where(is_missing, self.missing_left.take(node), left)
        # children lie in pairs, the right one first
        following: npt.NDArray[np.intp] = self.children.take(2 * node + left)
        return following


def _compiled_trees(trees: TreesPredictor) -> _kernel.Trees | None:
    kernel = find_kernel()
    if kernel is None:
        return None
    made: _kernel.Trees = kernel.Trees(
        **{name: np.ascontiguousarray(getattr(trees, name)) for name in _WHOLE_NUMBERS},
        # every 32-bit float is a 64-bit one: comparisons stay what they were
        threshold=np.ascontiguousarray(trees.threshold, dtype=np.float64),
        value=np.ascontiguousarray(trees.value, dtype=np.float64),
        base=np.ascontiguousarray(trees.base, dtype=np.float64),
        n_features=trees.n_features,
        single_sums=trees.value.dtype == np.float32,
        single_features=trees.threshold.dtype == np.float32,
        or_equal=trees.comparison == "<=",
        averaged=trees.averaged,
    )
    return made


def _prepared_walk(trees: TreesPredictor, depth: int) -> _Walk:
    children = np.empty(2 * len(trees.left), dtype=np.intp)
    children[0::2], children[1::2] = trees.right, trees.left
    zero_missing = trees.zero_missing != 0
    return _Walk(
        feature=trees.feature.astype(np.intp),
        threshold=trees.threshold,
        children=children,
        missing_left=trees.missing_left != 0,
        zero_missing=zero_missing if zero_missing.any() else None,
        is_leaf=_is_leaf(trees),
        roots=trees.roots.astype(np.intp),
        trees_of_output=[np.flatnonzero(trees.outputs == k) for k in range(trees.n_outputs)],
        goes_left=np.less if trees.comparison == "<" else np.less_equal,
        depth=depth,
    )


def _is_leaf(trees: TreesPredictor) -> npt.NDArray[np.bool_]:
    leaf: npt.NDArray[np.bool_] = trees.left == np.arange(len(trees.left))
    return leaf


def _check_shapes(trees: TreesPredictor) -> None:
    n_nodes, n_trees = len(trees.left), len(trees.roots)
    per_node = ("feature", "left", "right", "threshold", "missing_left", "zero_missing")
    for names, n_values in ((per_node, n_nodes), (("roots", "outputs"), n_trees)):
        for name in names:
            if getattr(trees, name).shape != (n_values,):
                raise _broken(f"{name} has shape {getattr(trees, name).shape}, not ({n_values},)")
    for name in ("feature", "left", "right", "roots", "outputs"):
        if getattr(trees, name).dtype != np.int32:
            raise _broken(f"{name} is not of type int32")
    if trees.value.shape not in ((n_nodes,), (n_nodes, len(trees.base))):
        raise _broken(f"value has shape {trees.value.shape} with {n_nodes} nodes")
    types = (trees.threshold.dtype.name, trees.value.dtype.name)
    known = (("float32", "float32"), ("float64", "float64"), ("float32", "float64"))
    if types not in known or trees.base.dtype != trees.value.dtype:
        raise _broken("threshold, value and base are not of float types that go together")
    if trees.base.ndim != 1 or not 1 <= len(trees.base) <= MAX_FEATURES or not n_trees:
        raise _broken("it has no trees or no outputs")
    if trees.comparison not in ("<", "<=") or not isinstance(trees.n_features, int):
        raise _broken(f"it compares with {trees.comparison!r}")
    if not isinstance(trees.averaged, bool):
        raise _broken(f"averaged is {trees.averaged!r}")


def _check_values(trees: TreesPredictor) -> None:
    n_nodes = len(trees.left)
    ends = np.append(trees.roots[1:], n_nodes)
    if trees.roots[0] != 0 or (ends <= trees.roots).any():
        raise _broken("its trees do not follow one another")
    if not 1 <= trees.n_features <= MAX_FEATURES:
        raise _broken(f"it has {trees.n_features} features")
    if trees.feature.min() < 0 or trees.feature.max() >= trees.n_features:
        raise _broken(f"a node compares a feature outside 0 to {trees.n_features - 1}")
    if trees.outputs.min() < 0 or trees.outputs.max() >= len(trees.base):
        raise _broken(f"a tree adds to an output outside 0 to {len(trees.base) - 1}")
    here = np.arange(n_nodes)
    end = np.repeat(ends, ends - trees.roots)
    is_leaf = (trees.left == here) & (trees.right == here)
    for name in ("left", "right"):
        child = getattr(trees, name)
        if ((child <= here) & ~is_leaf).any() or (child >= end).any():
            raise _broken(f"a {name} child does not come after its parent inside its tree")
    if np.isnan(trees.threshold).any() or not np.isfinite(trees.value).all():
        raise _broken("a threshold or a leaf's value is not a number")
    if not np.isfinite(trees.base).all():
        raise _broken("its base is not a number")


def _checked_depth(trees: TreesPredictor) -> int:
    is_leaf = _is_leaf(trees)
    level = trees.roots[~is_leaf[trees.roots]]
    depth = 0
    while len(level):
        depth += 1
        if depth > MAX_DEPTH:
            raise _broken(f"a tree is deeper than {MAX_DEPTH:,} comparisons")
        # each once: nodes that share a child must not make the next level grow without end;
        # `np.unique` would load masked arrays, a tenth of what a serving process takes to start
        below = np.sort(np.concatenate([trees.left[level], trees.right[level]]))
        below = below[np.diff(below, prepend=-1) > 0]
        level = below[~is_leaf[below]]
    return depth


def _broken(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The trees of the model cannot be trusted: {reason}.",
        hint="Train the model again, or fetch the file again.",
        field="trees",
        value=reason,
    )
