"""Live quality against a criterion, with bounds that hold however often they are looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = LazyModule("numpy")

Verdict = Literal["holds", "missed", "undecided"]

_SHARPEST_AT_ROWS = 1_000.0
_LEAST_ROWS = 100
_BISECTIONS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveFigure:
    """One criterion, measured on labelled live rows.

    Parameters
    ----------
    n
        Rows behind the figure.
    estimate
        Their mean; None without rows.
    lower, upper
        Bounds of the true mean at `confidence`, valid at all times together; None when there are
        too few rows for bounds.
    target, direction
        The criterion: at most or at least the target.
    verdict
        `holds` or `missed` when the bounds lie on one side of the target, else `undecided`.
    period
        `since deployment` or `recent`.
    """

    metric: str
    n: int
    estimate: float | None
    lower: float | None
    upper: float | None
    target: float
    direction: Literal["at_most", "at_least"]
    verdict: Verdict
    confidence: float
    period: Literal["since deployment", "recent"]


def live_figures(
    values: Sequence[float] | NDArray[np.float64],
    *,
    metric: str,
    at_most: float | None = None,
    at_least: float | None = None,
    confidence: float = 0.95,
    recent: int = 250,
) -> tuple[LiveFigure, LiveFigure]:
    """Return the figure since deployment and the recent one, both true together at `confidence`."""
    each = 1 - (1 - confidence) / 2
    whole = live_figure(values, metric=metric, at_most=at_most, at_least=at_least, confidence=each)
    last = live_figure(
        values, metric=metric, at_most=at_most, at_least=at_least, confidence=each, recent=recent
    )
    return whole, last


def live_figure(
    values: Sequence[float] | NDArray[np.float64],
    *,
    metric: str = "",
    at_most: float | None = None,
    at_least: float | None = None,
    confidence: float = 0.95,
    recent: int | None = None,
) -> LiveFigure:
    """Return how a metric that is a mean over rows stands against its target.

    Look as often as you like: the probability that any verdict is ever wrong is at most
    1 - confidence (asymptotically so, for values other than 0 and 1).

    Parameters
    ----------
    values
        The metric of each labelled row in time order, (n_rows,), finite: absolute percentage
        errors, 0/1 for "within 5 %", squared errors against a squared target, ...
    at_most, at_least
        The target; give one of them.
    recent
        None: all rows since deployment. A number of rows, at least 2: the shortest newest stretch
        of at least as many rows that decides, so that neither an old good period hides a recent
        break nor an old bad one a recovery; if none decides, the shortest.

    Raises
    ------
    InvalidInputError
        If not exactly one target is given, a value is not finite or a number is out of range.

    Notes
    -----
    For 0/1 values the bounds are all p with B(k + 1/2, n - k + 1/2) / B(1/2, 1/2) below
    p^k (1 - p)^(n - k) / alpha, a beta mixture of likelihood ratios, which is an e-process
    (Robbins 1970; Ville's inequality). For other values they are the asymptotic confidence
    sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory
    and asymptotic confidence sequences" (Annals of Statistics 2024, arXiv 2103.06476): with t rows
    of mean m and standard deviation s,

        m +- s * sqrt(2 (t r^2 + 1) / (t^2 r^2) * log(sqrt(t r^2 + 1) / alpha)),

    r being fixed so that they are sharpest near 1,000 rows, or near the length of the stretch.
    The target counts as one more value in s, so that equal values do not give bounds of no width,
    and a stretch is judged only when it is long enough for its skewness; see `rows_needed`.

    Recent stretches begin at every multiple of L = recent, 2 recent, 4 recent, ... rows; the i-th
    of level j spends alpha / ((j+1)(j+2)(i+1)(i+2)), which sums to alpha over all that ever begin.
    At any time the newest full one of each level is looked at, L to 2 L rows.
    """
    target, direction = _target(at_most, at_least)
    row_values = _checked(values, confidence=confidence, recent=recent)
    whole = _Stretch(values=row_values, alpha=1 - confidence, sharpest_at=_SHARPEST_AT_ROWS)
    stretches = [whole] if recent is None else _recent_stretches(row_values, recent, confidence)
    judged = [_judged(stretch, target, direction) for stretch in stretches]
    shown = next((found for found in judged if found[3] != "undecided"), judged[0])
    estimate, lower, upper, verdict, n = shown
    return LiveFigure(
        metric=metric,
        n=n,
        estimate=estimate,
        lower=lower,
        upper=upper,
        target=target,
        direction=direction,
        verdict=verdict,
        confidence=confidence,
        period="since deployment" if recent is None else "recent",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    values: NDArray[np.float64]
    alpha: float
    sharpest_at: float


def _recent_stretches(
    values: NDArray[np.float64], recent: int, confidence: float
) -> list[_Stretch]:
    """The newest full stretch of each level, the shortest first."""
    stretches = []
    level, length = 0, recent
    while level == 0 or length <= len(values):
        number = max(len(values) // length - 1, 0)
        spent = (level + 1) * (level + 2) * (number + 1) * (number + 2)
        stretches.append(
            _Stretch(
                values=values[number * length :],
                alpha=(1 - confidence) / spent,
                sharpest_at=1.5 * length,
            )
        )
        level, length = level + 1, 2 * length
    return stretches


def _judged(
    stretch: _Stretch, target: float, direction: str
) -> tuple[float | None, float | None, float | None, Verdict, int]:
    n = len(stretch.values)
    if not n:
        return None, None, None, "undecided", 0
    estimate = float(stretch.values.mean())
    if np.isin(stretch.values, (0.0, 1.0)).all():
        lower, upper = share_bounds(int(stretch.values.sum()), n, alpha=stretch.alpha)
    elif n < rows_needed(stretch.values):
        return estimate, None, None, "undecided", n
    else:
        spread = np.sum((stretch.values - estimate) ** 2) + (target - estimate) ** 2
        radius = mean_radius(
            n,
            deviation=math.sqrt(float(spread) / n),
            alpha=stretch.alpha,
            sharpest_at=stretch.sharpest_at,
        )
        lower, upper = estimate - radius, estimate + radius
    below, above = upper <= target, lower >= target
    good, bad = (below, above) if direction == "at_most" else (above, below)
    verdict: Verdict = "holds" if good else "missed" if bad else "undecided"
    return estimate, lower, upper, verdict, n


def rows_needed(values: NDArray[np.float64]) -> float:
    """Return how many such rows the normal approximation needs: 25 times skewness squared.

    At least 100. The rule is Cochran's, "Sampling Techniques" (1977), section 2.15: a long tail
    shows in few rows, and until it does the mean looks smaller and surer than it is.
    """
    centred = values - values.mean()
    variance = float((centred**2).mean())
    if not variance:
        return _LEAST_ROWS
    skewness = float((centred**3).mean() / variance**1.5)
    return max(float(_LEAST_ROWS), 25.0 * skewness**2)


def mean_radius(n: int, *, deviation: float, alpha: float, sharpest_at: float) -> float:
    """Return the half width of the asymptotic confidence sequence after `n` rows.

    `deviation` is the standard deviation of the rows; see `live_figure` for the formula.
    """
    spent = -2 * math.log(alpha)
    r2 = (spent + math.log(spent + 1)) / sharpest_at
    tr2 = n * r2 + 1
    return deviation * math.sqrt(2 * tr2 / (n * n * r2) * math.log(math.sqrt(tr2) / alpha))


def share_bounds(k: int, n: int, *, alpha: float) -> tuple[float, float]:
    """Return time-uniform bounds of a share after `k` of `n` rows had it; see `live_figure`."""
    mixture = _log_beta(k + 0.5, n - k + 0.5) - _log_beta(0.5, 0.5) + math.log(alpha)

    def excluded(p: float) -> bool:
        seen = (k * math.log(p) if k else 0.0) + ((n - k) * math.log1p(-p) if n - k else 0.0)
        return mixture > seen

    tiny = 1e-12
    # each edge is found from outside, so that a bound is never too tight
    lower = 0.0 if k == 0 else _edge(excluded, outside=tiny, inside=min(k / n, 1 - tiny))
    upper = 1.0 if k == n else _edge(excluded, outside=1 - tiny, inside=max(k / n, tiny))
    return lower, upper


def _edge(excluded: Callable[[float], bool], *, outside: float, inside: float) -> float:
    """Return where `excluded` changes, on the outer side."""
    for _ in range(_BISECTIONS):
        middle = (outside + inside) / 2
        if excluded(middle):
            outside = middle
        else:
            inside = middle
    return outside


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _target(
    at_most: float | None, at_least: float | None
) -> tuple[float, Literal["at_most", "at_least"]]:
    if at_most is not None and at_least is None and math.isfinite(at_most):
        return at_most, "at_most"
    if at_least is not None and at_most is None and math.isfinite(at_least):
        return at_least, "at_least"
    raise InvalidInputError(
        f"A live figure needs one target; at_most is {at_most!r} and at_least is {at_least!r}.",
        hint="Give at_most for an error, at_least for a share that should be large.",
        field="at_most",
    )


def _checked(
    values: Sequence[float] | NDArray[np.float64], *, confidence: float, recent: int | None
) -> NDArray[np.float64]:
    if not 0.5 <= confidence < 1:
        raise InvalidInputError(
            f"confidence is {confidence!r}.",
            hint="Give a number from 0.5 up to, but below, 1, such as 0.95.",
            field="confidence",
            value=confidence,
        )
    if recent is not None and recent < 2:
        raise InvalidInputError(
            f"recent is {recent!r} rows.", hint="Give at least 2.", field="recent", value=recent
        )
    row_values = np.asarray(values, dtype=np.float64)
    n_wrong = int((~np.isfinite(row_values)).sum())
    if row_values.ndim != 1 or n_wrong:
        raise InvalidInputError(
            f"{n_wrong} of {row_values.size} metric values, of shape {row_values.shape}, are not "
            "finite numbers.",
            hint="Leave out rows without a label and rows for which the metric is undefined.",
            field="values",
        )
    return row_values
