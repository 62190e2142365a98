"""What each column adds to an answer: Shapley values of any predictor, on the answer's own scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.train.blend_predictor import BlendPredictor
from loopwright.train.branches import branches_of
from loopwright.train.linear_predictor import LinearPredictor
from loopwright.train.link import linked
from loopwright.train.predictor import Predictor, completed
from loopwright.train.sampled_shap import N_PAIRS, predicting_cost, sampled_values
from loopwright.train.tree_shap import TreeShap

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float64]
    Transform = Callable[[Numbers], Numbers]
else:
    np = LazyModule("numpy")

N_BACKGROUND = 2 * N_PAIRS
_CHUNK_ROWS = 1024
# walks of one row through one tree: enough rows to tell the shares at the nodes, in half a second
_MOST_WALKS = 1_500_000
_NEAR = 1e-6
_N_POINTS = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attributions:
    """What each column adds to each answer.

    Parameters
    ----------
    base
        `(n_outputs,)`: the answer when nothing is known of a row.
    values
        `(n_rows, n_columns, n_outputs)`: `base` plus a row's values is its answer.
    error
        Typical standard error of a value where it was sampled, in units of the answer; 0 where
        values are exact up to rounding.
    """

    base: Numbers
    values: Numbers
    error: float

    def answers(self) -> Numbers:
        """Return what base and values add up to, `(n_rows, n_outputs)`."""
        total: Numbers = self.base + self.values.sum(axis=1)
        return total


def learned_background(predictor: Predictor, X: Numbers) -> dict[str, npt.NDArray[Any]]:
    """Return what must be kept of rows of features to explain answers afterwards, by name.

    For trees the rows that came through each node, for a weighted sum the means, for anything
    else 32 of the rows. Of very many rows as many are used, at equal steps, as half a second
    allows.

    Parameters
    ----------
    X
        Training rows `(n_rows, n_features)`, at least 1.
    """
    return _learned(predictor, X, "")


def _learned(predictor: Predictor, X: Numbers, prefix: str) -> dict[str, npt.NDArray[Any]]:
    if isinstance(predictor, BlendPredictor):
        found: dict[str, npt.NDArray[Any]] = {}
        share = max(100, len(X) // len(predictor.members))
        for place, (member, (start, end)) in enumerate(
            zip(predictor.members, predictor.spans, strict=True)
        ):
            own = np.ascontiguousarray(_spread(X, share)[:, start:end])
            found |= _learned(member, own, f"{prefix}m{place}_")
        return found
    if isinstance(predictor, LinearPredictor):
        return {f"{prefix}mean": completed(X).mean(axis=0)}
    if (branches := branches_of(predictor)) is not None:
        counts = branches.counted(_spread(X, max(200, _MOST_WALKS // len(branches.roots))))
        return {f"{prefix}cover": counts.astype(np.int32)}
    return {f"{prefix}rows": _spread(X, N_BACKGROUND)}


def _spread(X: Numbers, most: int) -> Numbers:
    """Return at most so many of the rows, at equal steps."""
    if len(X) <= most:
        return X
    return np.ascontiguousarray(X[np.linspace(0, len(X) - 1, most).astype(np.intp)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attributor:
    """Explains the answers of a predictor, column by column; frozen, any thread may call it.

    Parameters
    ----------
    predictor
        What answers.
    background
        What `learned_background` returned.
    origins
        For each feature the raw columns it is made from; what a feature adds is shared equally
        between them.
    transform
        What is done to `(n_rows,)` or `(n_rows, n_outputs)` answers afterwards, such as the repair
        of probabilities; nothing leaves them.

    Raises
    ------
    InvalidInputError
        If the background does not go with the predictor; it may come from anywhere.

    Notes
    -----
    Trees: exact, path-dependent (see `TreeShap`). Weighted sums: exact, against the means
    (Strumbelj and Kononenko 2014). Both on the score; through a link they are taken along the
    straight line from the base's score to the row's (Aumann and Shapley 1974; for a logarithm it
    is the logarithmic mean Divisia index of Ang 2004), so that they add up on the answer's scale
    too and keep their proportions. Blends: the weighted mean of their members' values. Anything
    else: sampled; see `sampled_values`.
    """

    predictor: Predictor
    background: Mapping[str, npt.NDArray[Any]]
    origins: tuple[tuple[str, ...], ...]
    transform: Transform | None = None
    columns: tuple[str, ...] = field(init=False)
    _shares: Numbers = field(init=False)
    _parts: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        columns = tuple(dict.fromkeys(name for each in self.origins for name in each))
        places = {name: at for at, name in enumerate(columns)}
        shares = np.zeros((len(self.origins), len(columns)))
        for at, names in enumerate(self.origins):
            for name in names:
                shares[at, places[name]] = 1 / len(names)
        parts: dict[str, Any] = {}
        _prepare(self.predictor, self.background, "", parts)
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "_shares", shares)
        object.__setattr__(self, "_parts", parts)

    @property
    def is_exact(self) -> bool:
        """Whether nothing is sampled."""
        return not any(name.endswith("rows") for name in self._parts)

    @property
    def row_cost_us(self) -> float:
        """About how many microseconds of processor time a row takes."""
        players = len({*self.origins})
        cost = 10.0
        for part in self._parts.values():
            if isinstance(part, TreeShap):
                cost += 0.07 * part.n_nodes
            elif isinstance(part, tuple):
                cost += 2 * N_PAIRS * (players + 1) * predicting_cost(part[0])
        return cost

    def attributions(self, X: Numbers, *, n_pairs: int = N_PAIRS) -> Attributions:
        """Return what each column adds to the answers for features `(n_rows, n_features)`.

        Parameters
        ----------
        n_pairs
            Pairs of orders that are tried where values are sampled, 2 to 16.
        """
        found = [
            self._chunk(X[start : start + _CHUNK_ROWS], n_pairs)
            for start in range(0, max(1, len(X)), _CHUNK_ROWS)
        ]
        base, values, squares = found[0][0], np.concatenate([f[1] for f in found]), 0.0
        if len(X):
            squares = sum(f[2] * len(f[1]) for f in found) / len(X)
        if self.transform is not None:
            n_before = np.sqrt((values**2).mean()) if values.size else 0.0
            base, values = through(base, values, _on_columns(self.transform))
            n_after = np.sqrt((values**2).mean()) if values.size else 0.0
            squares *= (n_after / n_before) ** 2 if n_before else 1.0
        return Attributions(base=base, values=values, error=float(np.sqrt(squares)))

    def _chunk(self, X: Numbers, n_pairs: int) -> tuple[Numbers, Numbers, float]:
        return self._explained(self.predictor, "", X, self._shares, self.origins, n_pairs)

    def _explained(
        self,
        predictor: Predictor,
        prefix: str,
        X: Numbers,
        shares: Numbers,
        origins: tuple[tuple[str, ...], ...],
        n_pairs: int,
    ) -> tuple[Numbers, Numbers, float]:
        """Return base, values and the mean squared error of a value, in units of the answer."""
        if isinstance(predictor, BlendPredictor):
            total: tuple[Any, Any, float] = (0.0, 0.0, 0.0)
            for place, (member, (start, end), weight) in enumerate(
                zip(predictor.members, predictor.spans, predictor.weights.tolist(), strict=True)
            ):
                part = self._explained(
                    member,
                    f"{prefix}m{place}_",
                    np.ascontiguousarray(X[:, start:end]),
                    shares[start:end],
                    origins[start:end],
                    n_pairs,
                )
                total = (
                    total[0] + weight * part[0],
                    total[1] + weight * part[1],
                    total[2] + weight**2 * part[2],
                )
            return total
        if f"{prefix}rows" in self._parts:
            _, rows = self._parts[f"{prefix}rows"]
            base, values, squares = sampled_values(predictor, X, rows, origins, n_pairs=n_pairs)
            return base, _by_column(values, shares), squares
        if f"{prefix}mean" in self._parts:
            base, values = _of_sum(predictor, X, self._parts[f"{prefix}mean"])
        else:
            trees: TreeShap = self._parts[f"{prefix}cover"]
            base, values = trees.base, trees.values(X)
        values = _by_column(values, shares)
        return (*through(base, values, lambda scores: linked(scores, predictor.link)), 0.0)


def _by_column(values: Numbers, shares: Numbers) -> Numbers:
    """Return the values of columns for those of features `(n_rows, n_features, n_outputs)`."""
    # one sum a row: a matrix product over all rows adds in another order than over one
    summed: Numbers = np.einsum("rfo,fc->rco", values, shares)
    return summed


def _of_sum(predictor: Any, X: Numbers, mean: Numbers) -> tuple[Numbers, Numbers]:
    base = predictor.intercepts + predictor.coefficients @ mean
    return base, (completed(X) - mean)[:, :, None] * predictor.coefficients.T


def _on_columns(transform: Transform) -> Transform:
    """Return a transform of `(n_rows, n_outputs)`, where one output comes as `(n_rows,)`."""

    def applied(answers: Numbers) -> Numbers:
        if answers.shape[1] == 1:
            return transform(answers[:, 0])[:, None]
        return transform(answers)

    return applied


def through(base: Numbers, values: Numbers, transform: Transform) -> tuple[Numbers, Numbers]:
    """Return base and values after a transform of what they add up to.

    Parameters
    ----------
    base
        `(n_outputs,)`.
    values
        `(n_rows, n_columns, n_outputs)`.
    transform
        From `(n_rows, n_outputs)` to the same shape, row by row.

    Notes
    -----
    Each value is multiplied by the mean slope of the transform on the straight line from the base
    to the row (Aumann and Shapley, "Values of Non-Atomic Games", 1974). With one output that is
    the slope of the chord; with several it is integrated at 8 Gauss-Legendre points.
    """
    start, reached = base[None], base + values.sum(axis=1)
    below, above = transform(start), transform(reached)
    if base.shape == (1,):
        if np.array_equal(below, start) and np.array_equal(above, reached):
            return base, values
        return below[0], values * _chord(start, reached, below, above, transform)[:, :, None]
    moved = np.zeros_like(values)
    points, weights = np.polynomial.legendre.leggauss(_N_POINTS)
    step = 1e-5 * np.maximum(1.0, np.abs(base).max())
    for at, weight in zip((points + 1) / 2, weights / 2, strict=True):
        here = start + at * (reached - start)
        for output in range(len(base)):
            ahead = np.zeros(len(base))
            ahead[output] = step
            slope = (transform(here + ahead) - transform(here - ahead)) / (2 * step)
            moved += weight * values[:, :, output, None] * slope[:, None, :]
    # what the integration left over is shared in proportion, so that nothing is missing
    size = np.abs(moved)
    left = (above - below) - moved.sum(axis=1)
    moved += size / np.maximum(size.sum(axis=1, keepdims=True), 1e-300) * left[:, None, :]
    return below[0], moved


def _chord(
    start: Numbers, reached: Numbers, below: Numbers, above: Numbers, transform: Transform
) -> Numbers:
    way = reached - start
    step = _NEAR * np.maximum(1.0, np.abs(start))
    tangent = (transform(start + step) - transform(start - step)) / (2 * step)
    is_short = np.abs(way) < step
    slope: Numbers = np.where(is_short, tangent, (above - below) / np.where(is_short, 1.0, way))
    return slope


def _prepare(
    predictor: Predictor, background: Mapping[str, npt.NDArray[Any]], prefix: str, parts: Any
) -> None:
    """Put what explains each predictor into `parts`, after checking its background."""
    if isinstance(predictor, BlendPredictor):
        for place, member in enumerate(predictor.members):
            _prepare(member, background, f"{prefix}m{place}_", parts)
        return
    if isinstance(predictor, LinearPredictor):
        mean = _found(background, f"{prefix}mean", (predictor.n_features,))
        parts[f"{prefix}mean"] = mean
    elif (branches := branches_of(predictor)) is not None:
        cover = _found(background, f"{prefix}cover", (len(branches.left),))
        parts[f"{prefix}cover"] = TreeShap(branches, np.maximum(cover, 0.0))
    else:
        rows = _found(background, f"{prefix}rows", (None, predictor.n_features))
        parts[f"{prefix}rows"] = (predictor, rows)


def _found(
    background: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int | None, ...]
) -> Numbers:
    array = background.get(name)
    if array is None or len(array.shape) != len(shape) or not len(array):
        fits = False
    else:
        fits = all(n is None or n == m for n, m in zip(shape, array.shape, strict=True))
    if array is None or not fits or (name.endswith(("mean", "cover")) and not _is_finite(array)):
        raise InvalidInputError(
            f"What explains the model does not go with it: {name[:40]!r} is not there, or has "
            "another shape.",
            hint="Pack the model again, or fetch it again.",
            field="explanation",
            value=name[:40],
        )
    return array.astype(np.float64)


def _is_finite(array: npt.NDArray[Any]) -> bool:
    return bool(np.isfinite(array).all())
