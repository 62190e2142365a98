"""Whether the model still goes by the same columns as on the rows it was tested on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

    from loopwright.train import ServingModel
    from loopwright.train.attribution import Attributor

    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")

MOST_ROWS = 300
LEAST_ROWS = 50
_BUDGET_US = 300_000.0
_N_DRAWS = 200
_NULL_LEVEL = 0.01
_SHOWN = 10
_MOST_COLUMNS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnInfluenceShift:
    """The share of one column in what moves the answers, before and live; 0 to 1."""

    column: str
    before: float
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationDrift:
    """How far the ranking of columns by influence moved.

    Parameters
    ----------
    ndcg
        How well the live ranking orders the columns by their influence before: 1 for the same
        order. The measure of SageMaker Clarify, which alarms below 0.90 whatever the rows.
    null
        What it falls below by chance alone in 1 of 100 samples of as many rows.
    has_moved
        Whether `ndcg` is below `null`, and the columns' shares moved by 0.05 or more in all.
    moved
        How much of the influence went from some columns to others, 0 to 1.
    columns
        Shares of the ten columns with the most influence before or now.
    n_rows
        Live rows explained.
    """

    ndcg: float
    null: float
    has_moved: bool
    moved: float
    columns: tuple[ColumnInfluenceShift, ...]
    n_rows: int
    message: str


def influence_sizes(
    model: ServingModel, attributor: Attributor, frame: pl.DataFrame, *, seed: int = 0
) -> Numbers:
    """Return the size of what each raw column adds to the answers of some rows.

    Parameters
    ----------
    frame
        Raw rows. So many are drawn as about 0.3 seconds explain, at most 300; none where that is
        fewer than 50.

    Returns
    -------
    numpy.ndarray
        (n_drawn, n_columns), summed over the outputs of more than two classes.
    """
    n_rows = min(MOST_ROWS, frame.height, int(_BUDGET_US / attributor.row_cost_us))
    if n_rows < LEAST_ROWS or len(attributor.columns) > _MOST_COLUMNS:
        return np.empty((0, len(attributor.columns)))
    drawn = np.sort(np.random.default_rng(seed).choice(frame.height, n_rows, replace=False))
    features = model.fitted.transform(frame[drawn.tolist()])
    sizes: Numbers = np.abs(attributor.attributions(features).values).sum(axis=2)
    return sizes


def explanation_drift(
    columns: tuple[str, ...], reference: Numbers, live: Numbers, *, seed: int = 0
) -> ExplanationDrift | None:
    """Return how far the explanations moved; None with fewer than 50 rows of either kind.

    Parameters
    ----------
    columns
        Names of the columns, in the order of the sizes.
    reference, live
        See `influence_sizes`: (n_reference, n_columns) and (n_live, n_columns).

    Notes
    -----
    NDCG is that of Jaervelin and Kekaelaeinen (ACM TOIS 20, 2002): the influence before, in the live
    order, discounted by log2(1 + rank), over the same in its own order. Two bootstrap samples of
    the reference give its value when nothing moved; rankings of columns with hardly any influence
    change by chance, and the null level knows that, while a constant does not.
    """
    if min(len(reference), len(live)) < LEAST_ROWS or not columns:
        return None
    before, now = reference.mean(axis=0), live.mean(axis=0)
    rng = np.random.default_rng(seed)
    weights = [
        rng.multinomial(n, np.full(len(reference), 1 / len(reference)), size=_N_DRAWS) / n
        for n in (len(reference), len(live))
    ]
    drawn = [w @ reference for w in weights]
    null_ndcg = np.array([ndcg(one, other) for one, other in zip(*drawn, strict=True)])
    null = float(np.quantile(null_ndcg, _NULL_LEVEL))
    shares, live_shares = _shares(before), _shares(now)
    found = ndcg(before, now)
    moved = float(np.abs(shares - live_shares).sum() / 2)
    has_moved = found < null and moved >= 0.05
    order = np.argsort(-np.maximum(shares, live_shares), kind="stable")[:_SHOWN].tolist()
    shown = tuple(
        ColumnInfluenceShift(
            column=columns[at], before=float(shares[at]), now=float(live_shares[at])
        )
        for at in order
    )
    return ExplanationDrift(
        ndcg=found,
        null=null,
        has_moved=has_moved,
        moved=moved,
        columns=shown,
        n_rows=len(live),
        message=_told(shown, found, null, has_moved=has_moved),
    )


def ndcg(before: Numbers, now: Numbers) -> float:
    """Return how well the order of `now` ranks the values of `before`, 0 to 1.

    Examples
    --------
    >>> ndcg(np.array([3.0, 2.0, 1.0]), np.array([30.0, 20.0, 10.0]))
    1.0
    """
    discount = 1 / np.log2(np.arange(len(before)) + 2)
    best = float(np.sort(before)[::-1] @ discount)
    if best <= 0:
        return 1.0
    return float(before[np.argsort(-now, kind="stable")] @ discount) / best


def _shares(values: Numbers) -> Numbers:
    total = float(values.sum())
    shares: Numbers = values / total if total > 0 else np.zeros_like(values)
    return shares


def _told(
    columns: tuple[ColumnInfluenceShift, ...], found: float, null: float, *, has_moved: bool
) -> str:
    level = f"NDCG {found:.3f}, by chance alone rarely below {null:.3f}"
    if not has_moved:
        return f"The model goes by the same columns as before ({level})."
    most = max(columns, key=lambda each: abs(each.now - each.before))
    return (
        f"The model goes by other columns than before ({level}): {most.column} makes "
        f"{most.before:.0%} of the influence before and {most.now:.0%} now."
    )
