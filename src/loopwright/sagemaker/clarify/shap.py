"""Kernel SHAP: what each feature adds to the answer of any model, against rows of a baseline."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers: TypeAlias = npt.NDArray[np.float64]
    Flags: TypeAlias = npt.NDArray[np.bool_]
    Answers: TypeAlias = Callable[[np.ndarray], Numbers]
else:
    np = LazyModule("numpy")

_CHUNK = 20_000


def kernel_values(
    answers: Answers,
    X: np.ndarray,
    baseline: np.ndarray,
    *,
    n_samples: int | None = None,
    seed: int | None = None,
    use_logit: bool = False,
) -> tuple[Numbers, Numbers]:
    """Return the expected answer, and the Shapley values of every row.

    Expected answer plus the values of a row is its answer, up to rounding. With at least 2^m - 2
    samples, of m features that differ from the baseline, the values are exact.

    Parameters
    ----------
    answers
        Returns `(n, n_outputs)` for cells of shape `(n, n_features)`.
    X, baseline
        Cells, `(n_rows, n_features)` and `(n, n_features)`.
    n_samples
        How many sets of features are tried for a row, 2 m + 2048 unless told.
    seed
        Of the sets that are drawn where there are more than that; 0 unless told.
    use_logit
        Whether the values add up in log odds; answers must be probabilities.

    Returns
    -------
    tuple
        `(n_outputs,)` and `(n_rows, n_features, n_outputs)`.

    Notes
    -----
    Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017,
    theorem 2: the values are the weighted least squares fit of what sets of features answer, each
    set z with the weight (m - 1) / (C(m, |z|) |z| (m - |z|)). As in their `shap` package, whole
    sizes of sets are tried as far as the samples reach, from the smallest and the largest on, the
    rest is drawn with its complements, and a feature that no row of the baseline changes has the
    value 0.
    """
    link = _logit if use_logit else _same
    expected = link(answers(baseline).mean(axis=0))
    full = link(answers(X))
    values = np.zeros((*X.shape, len(expected)))
    plans: dict[bytes, tuple[Flags, Numbers]] = {}
    differs = (X[:, None, :] != baseline[None, :, :]).any(axis=1)
    patterns: dict[bytes, list[int]] = {}
    for row, each in enumerate(differs):
        patterns.setdefault(each.tobytes(), []).append(row)
    for key, rows in patterns.items():
        varying = np.flatnonzero(np.frombuffer(key, dtype=bool))
        gains = full[rows] - expected
        if len(varying) == 0:
            continue
        if len(varying) == 1:
            values[rows, varying[0]] = gains
            continue
        sets, weights = plans.setdefault(key, _plan(len(varying), n_samples, seed))
        said = _of_sets(answers, X[rows], baseline, sets, varying)
        found = _fitted(sets, weights, link(said) - expected, gains)
        values[np.asarray(rows)[:, None], varying] = found
    return expected, values


def _same(values: Numbers) -> Numbers:
    return values


def _logit(values: Numbers) -> Numbers:
    inside = np.clip(values, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(inside / (1 - inside)))


def _of_sets(
    answers: Answers, X: np.ndarray, baseline: np.ndarray, sets: Flags, varying: np.ndarray
) -> Numbers:
    """Return what each set of known features answers, on average over the baseline."""
    known = np.ones((len(sets), X.shape[1]), dtype=bool)
    known[:, varying] = sets
    n_sets = max(1, min(len(sets), _CHUNK // len(baseline)))
    n_rows = max(1, _CHUNK // (n_sets * len(baseline)))
    found = []
    for first in range(0, len(X), n_rows):
        rows = X[first : first + n_rows]
        parts = []
        for start in range(0, len(sets), n_sets):
            part = known[start : start + n_sets]
            cells = np.where(part[None, :, None, :], rows[:, None, None, :], baseline[None, None])
            said = answers(cells.reshape(-1, X.shape[1]))
            parts.append(said.reshape(len(rows), len(part), len(baseline), -1).mean(axis=2))
        found.append(np.concatenate(parts, axis=1))
    return np.concatenate(found)


def _fitted(sets: Flags, weights: Numbers, said: Numbers, gains: Numbers) -> Numbers:
    """Return the values `(n_rows, m, n_outputs)` that add up to `gains`."""
    # the last value follows from the sum, which leaves an ordinary weighted fit of the others
    last = sets[:, -1].astype(float)
    A = sets[:, :-1] - last[:, None]
    root = np.sqrt(weights)
    solver = np.linalg.pinv(A * root[:, None]) * root
    y = said - last[None, :, None] * gains[:, None, :]
    found = np.einsum("fs,rso->rfo", solver, y)
    return np.concatenate([found, (gains - found.sum(axis=1))[:, None, :]], axis=1)


def _plan(m: int, n_samples: int | None, seed: int | None) -> tuple[Flags, Numbers]:
    """Return the sets of features that are tried, `(n, m)`, and their weights."""
    wanted = 2 * m + 2048 if n_samples is None else n_samples
    wanted = min(wanted, 2**m - 2) if m <= 30 else wanted
    sizes = np.arange(1, m // 2 + 1)
    weights = np.array([(m - 1) / (size * (m - size)) for size in sizes])
    is_paired = sizes != m - sizes
    weights[is_paired] *= 2
    weights /= weights.sum()
    sets: list[np.ndarray] = []
    own: list[float] = []
    n_whole = 0
    left = wanted
    for at, size in enumerate(sizes):
        n_sets = math.comb(m, int(size)) * (2 if is_paired[at] else 1)
        share = weights[at] / weights[at:].sum()
        if left * share / n_sets < 1.0 - 1e-8:
            break
        for chosen in itertools.combinations(range(m), int(size)):
            row = np.zeros(m, dtype=bool)
            row[list(chosen)] = True
            for each in (row, ~row) if is_paired[at] else (row,):
                sets.append(each)
                own.append(weights[at] / n_sets)
        left -= n_sets
        n_whole += 1
    if n_whole < len(sizes) and left > 0:
        _draw(sets, own, sizes[n_whole:], weights[n_whole:], is_paired[n_whole:], m, left, seed)
    return np.array(sets).reshape(-1, m), np.array(own)


def _draw(
    sets: list[np.ndarray],
    own: list[float],
    sizes: np.ndarray,
    weights: Numbers,
    is_paired: Flags,
    m: int,
    left: int,
    seed: int | None,
) -> None:
    """Draw sets of the sizes that are not tried whole; how often one is drawn is its weight."""
    rng = np.random.default_rng(0 if seed is None else seed)
    share = weights / weights.sum()
    counts: dict[bytes, int] = {}
    for _ in range(4 * left):
        if len(counts) >= left:
            break
        at = int(rng.choice(len(sizes), p=share))
        row = np.zeros(m, dtype=bool)
        row[rng.permutation(m)[: sizes[at]]] = True
        for each in (row, ~row) if is_paired[at] else (row,):
            key = each.tobytes()
            if key in counts or len(counts) < left:
                counts[key] = counts.get(key, 0) + 1
    total = sum(counts.values())
    for key, count in counts.items():
        sets.append(np.frombuffer(key, dtype=bool))
        own.append(float(weights.sum()) * count / total)


def aggregated(values: Numbers, method: str) -> Numbers:
    """Return the global values, `(n_features, n_outputs)`, of those of rows."""
    if method == "median":
        return np.asarray(np.median(values, axis=0))
    if method == "mean_sq":
        return np.asarray((values**2).mean(axis=0))
    return np.asarray(np.abs(values).mean(axis=0))
