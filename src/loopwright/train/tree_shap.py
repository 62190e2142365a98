"""SHAP values of trees: exact, for many rows at once and for a single one, in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from loopwright.core.lazy import LazyModule
from loopwright.train.branches import Branches

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]
    Places = npt.NDArray[np.intp]
    Flags = npt.NDArray[np.bool_]
else:
    np = LazyModule("numpy")

# nodes times rows worked on at once: what is written is then read from the cache
_CHUNK = 1 << 17
_GROUP_NODES = 512
_GROUP_NODES_ONE_ROW = 1 << 15
_FEW_ROWS = 4


class TreeShap:
    """Shapley values of every feature for the score of trees, exact up to rounding.

    What a feature's absence means is told by the rows the trees were counted on: the walk goes
    both ways, as often as those rows did (path-dependent). `base` plus the values of a row is its
    score.

    Parameters
    ----------
    branches
        The trees.
    cover
        `(n_nodes,)`: rows that came through each node; see `Branches.counted`.

    Notes
    -----
    Lundberg et al., "From local explanations to global understanding with explainable AI for
    trees", Nature Machine Intelligence 2 (2020), algorithm 1. It is computed otherwise: the
    Shapley weight s!(d-1-s)!/d! is the integral of t^s (1-t)^(d-1-s) from 0 to 1, so that the
    value of feature i in a leaf with value v on whose way d features are asked is

        v (o_i - z_i) * integral of prod_{j != i} (o_j t + z_j (1 - t)) dt,

    where o_j is 1 if the row goes on at all questions about j and else 0, and z_j the share of
    rows that do. The integrand is a polynomial of degree d - 1; d/2 Gauss-Legendre points
    integrate it exactly. As in Yu et al., "Linear TreeShap", NeurIPS 2022, products are passed
    down the tree and sums up, so that a row costs nodes times points; every factor is positive,
    so that nothing cancels.
    """

    def __init__(self, branches: Branches, cover: Numbers) -> None:
        self._branches = branches
        self._cover = cover

    @cached_property
    def base(self) -> Numbers:
        """The score when nothing is known of a row, `(n_outputs,)`."""
        base = self._branches.base.copy()
        for group in self._wide_groups:
            base[group.outputs] += group.expected
        return base

    @cached_property
    def _groups(self) -> list[_Group]:
        return _grouped(self._branches, self._cover, _GROUP_NODES)

    @cached_property
    def _wide_groups(self) -> list[_Group]:
        return _grouped(self._branches, self._cover, _GROUP_NODES_ONE_ROW)

    @property
    def n_nodes(self) -> int:
        """Nodes of all trees."""
        return len(self._branches.left)

    def values(self, X: Numbers) -> Numbers:
        """Return Shapley values `(n_rows, n_features, n_outputs)` for `(n_rows, n_features)`."""
        n_rows, n_features = X.shape
        typed = np.ascontiguousarray(self._branches.read(X).T)
        phi = np.zeros((len(self._branches.base), n_features, n_rows))
        for group in self._wide_groups if n_rows <= _FEW_ROWS else self._groups:
            step = max(1, _CHUNK // group.n_nodes)
            for start in range(0, n_rows, step):
                rows = slice(start, start + step)
                group.add(self._branches, typed[:, rows], phi[:, :, rows])
        return np.ascontiguousarray(phi.transpose(2, 1, 0))


@dataclass(slots=True, kw_only=True, eq=False)
class _Level:
    """The children of the nodes of one level: all that lie left, then all that lie right."""

    parents: Places  # in the group's numbering
    nodes: Places  # the parents, in the numbering of the branches
    feature: Places
    start: int  # first child
    middle: int  # first right child
    end: int
    repeated: Places  # children whose feature was asked before on the way, from `start`
    above: Places  # for these: the last child before that was about the same feature


@dataclass(slots=True, kw_only=True, eq=False)
class _Group:
    """Some trees that add to the same outputs, level by level, with all that no row changes."""

    outputs: Places
    n_nodes: int
    n_roots: int
    levels: list[_Level]
    value: Numbers  # (n_nodes, width); 0 where there is no leaf
    expected: Numbers  # (width,): what the trees add when nothing is known
    local: Numbers  # (n_nodes, 1, 1): share of the parent's rows
    ratio_on: Numbers  # (n_nodes, n_points, 1)
    ratio_off: Numbers
    gain_on: Numbers
    gain_off: Numbers
    order: Places  # children by feature
    starts: Places
    features: Places

    def add(self, branches: Branches, typed: npt.NDArray[np.floating[Any]], phi: Numbers) -> None:
        """Add the values of rows `(n_features, n_rows)` to `(n_outputs, n_features, n_rows)`."""
        n_rows, n_points = typed.shape[1], self.ratio_on.shape[1]
        on, alive = self._followed(branches, typed)
        # a row alone is served sooner by all points at once, many rows by what fits in the cache
        step = n_points if n_rows <= _FEW_ROWS else 1
        P, G = (np.empty((self.n_nodes, step, n_rows)) for _ in range(2))
        parts = np.zeros((self.value.shape[1], self.n_nodes, n_rows))
        for first in range(0, n_points, step):
            points = slice(first, first + step)
            self._go_down(points, P, on, alive)
            gain = np.where(on[:, None], self.gain_on[:, points], self.gain_off[:, points])
            for output in range(self.value.shape[1]):
                self._go_up(output, P, G)
                if step == 1:
                    np.multiply(G, gain, out=G)
                    parts[output] += G[:, 0]
                else:
                    parts[output] = np.einsum("npr,npr->nr", G, gain)
        for output, part in zip(self.outputs.tolist(), parts, strict=True):
            for level, living in zip(self.levels, alive, strict=True):
                part[level.start + level.repeated] *= living
            phi[output, self.features] += np.add.reduceat(part[self.order], self.starts, axis=0)

    def _followed(
        self, branches: Branches, typed: npt.NDArray[np.floating[Any]]
    ) -> tuple[Flags, list[Flags]]:
        """Return whether a row goes on at all questions about a child's feature, up to it.

        Then, level by level, whether it did so at those asked before, where there are any.
        """
        on = np.empty((self.n_nodes, typed.shape[1]), dtype=np.bool_)
        on[: self.n_roots] = True
        alive = []
        for level in self.levels:
            left = branches.goes_left(level.nodes, typed[level.feature])
            on[level.start : level.middle] = left
            np.logical_not(left, out=on[level.middle : level.end])
            living = on[level.above]
            on[level.start + level.repeated] &= living
            alive.append(living)
        return on, alive

    def _go_down(self, points: slice, P: Numbers, on: Flags, alive: list[Flags]) -> None:
        P[: self.n_roots] = 1.0
        for level, living in zip(self.levels, alive, strict=True):
            here = slice(level.start, level.end)
            ratio = np.where(
                on[here, None], self.ratio_on[here, points], self.ratio_off[here, points]
            )
            if len(again := level.repeated):
                local = self.local[level.start + again]
                ratio[again] = np.where(living[:, None], ratio[again], local)
            parent = P[level.parents]
            half = len(parent)
            np.multiply(parent, ratio[:half], out=P[level.start : level.middle])
            np.multiply(parent, ratio[half:], out=P[level.middle : level.end])

    def _go_up(self, output: int, P: Numbers, G: Numbers) -> None:
        np.multiply(P, self.value[:, output, None, None], out=G)
        for level in reversed(self.levels):
            G[level.parents] = G[level.start : level.middle] + G[level.middle : level.end]


def _grouped(branches: Branches, cover: Numbers, most_nodes: int) -> list[_Group]:
    """Return the trees in groups of some nodes; those of a group add to the same outputs."""
    width = branches.value.shape[1]
    sizes = np.diff(np.append(branches.roots, len(branches.left)))
    groups, is_leaf = [], branches.is_leaf
    for output in range(len(branches.base)) if width == 1 else [-1]:
        outputs = np.array([output]) if width == 1 else np.arange(width)
        trees = np.flatnonzero(branches.outputs == output) if width == 1 else np.arange(len(sizes))
        group = np.maximum(0, np.cumsum(sizes[trees]) - 1) // most_nodes
        for number in np.unique(group).tolist():
            roots = branches.roots[trees[group == number]]
            groups.append(_group(branches, is_leaf, cover, roots, outputs))
    return groups


def _group(
    branches: Branches, is_leaf: Flags, cover: Numbers, roots: Places, outputs: Places
) -> _Group:
    nodes, parent = [roots], [np.full(len(roots), -1, dtype=np.intp)]
    levels: list[tuple[Places, Places, int]] = []
    first, start = 0, len(roots)
    while len(inner := np.flatnonzero(~is_leaf[nodes[-1]])):
        asking = nodes[-1][inner]
        levels.append((first + inner, asking, start))
        nodes.append(np.concatenate([branches.left[asking], branches.right[asking]]))
        parent.append(np.tile(first + inner, 2))
        first, start = start, start + 2 * len(inner)
    return _with_shares(
        branches,
        is_leaf,
        cover,
        np.concatenate(nodes),
        np.concatenate(parent),
        levels,
        outputs,
        len(roots),
    )


def _with_shares(
    branches: Branches,
    is_leaf: Flags,
    cover: Numbers,
    nodes: Places,
    parent: Places,
    levels: list[tuple[Places, Places, int]],
    outputs: Places,
    n_roots: int,
) -> _Group:
    feature = branches.feature[nodes[parent]]
    feature[:n_roots] = -1
    above = _last_alike(feature, parent, len(levels))
    counts, of_parent = cover[nodes], cover[nodes[parent]]
    # where no row came by, both ways are as likely
    local = np.where(of_parent > 0, counts / np.maximum(of_parent, 1e-300), 0.5)
    local[:n_roots] = 1.0
    share, reached, asked = np.ones(len(nodes)), local.copy(), np.zeros(len(nodes), dtype=np.intp)
    for _, asking, start in levels:
        here = np.arange(start, start + 2 * len(asking))
        has = above[here] >= 0
        share[here] = local[here] * np.where(has, share[above[here]], 1.0)
        reached[here] *= reached[parent[here]]
        asked[here] = asked[parent[here]] + ~has
    value = np.where(is_leaf[nodes][:, None], branches.value[nodes], 0.0)
    order = n_roots + np.argsort(feature[n_roots:], kind="stable")
    features, starts = np.unique(feature[order], return_index=True)
    ratio_on, ratio_off, gain_on, gain_off = _coefficients(
        share, np.where(above >= 0, share[above], 1.0), int(asked.max(initial=1))
    )
    return _Group(
        outputs=outputs,
        n_nodes=len(nodes),
        n_roots=n_roots,
        levels=[_level(branches, above, *each) for each in levels],
        value=value,
        expected=reached @ value,
        local=local[:, None, None],
        ratio_on=ratio_on,
        ratio_off=ratio_off,
        gain_on=gain_on,
        gain_off=gain_off,
        order=order,
        starts=starts,
        features=features,
    )


def _level(branches: Branches, above: Places, parents: Places, nodes: Places, start: int) -> _Level:
    middle, end = start + len(nodes), start + 2 * len(nodes)
    repeated = np.flatnonzero(above[start:end] >= 0)
    return _Level(
        parents=parents,
        nodes=nodes,
        feature=branches.feature[nodes],
        start=start,
        middle=middle,
        end=end,
        repeated=repeated,
        above=above[start + repeated],
    )


def _last_alike(feature: Places, parent: Places, depth: int) -> Places:
    """Return for each child the last one before it that was about the same feature, else -1."""
    found = np.full(len(feature), -1, dtype=np.intp)
    looking, at = np.arange(len(feature)), parent.copy()
    for _ in range(depth):
        keep = at >= 0
        looking, at = looking[keep], at[keep]
        alike = feature[at] == feature[looking]
        found[looking[alike]] = at[alike]
        looking, at = looking[~alike], parent[at[~alike]]
    return found


@lru_cache(maxsize=64)
def _gauss_legendre(n_points: int) -> tuple[Numbers, Numbers]:
    """Return points and weights that integrate polynomials from 0 to 1."""
    points, weights = np.polynomial.legendre.leggauss(n_points)
    return (points + 1) / 2, weights / 2


def _coefficients(
    share: Numbers, before: Numbers, n_features: int
) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Return by what products change at each child and what sums count there, on and off.

    Each is `(n_nodes, n_points, 1)`. `share` is that of rows going on at all questions about the
    child's feature up to it, `before` up to the last one before.
    """
    t, w = _gauss_legendre(max(1, (n_features + 1) // 2))
    share, before = share[:, None], before[:, None]
    on, on_before = t + share * (1 - t), t + before * (1 - t)
    gain_before = (1 - before) / on_before
    return (
        (on / on_before)[..., None],
        (share * (1 - t) / on_before)[..., None],
        (w * ((1 - share) / on - gain_before))[..., None],
        (w * (-1 / (1 - t) - gain_before))[..., None],
    )
