"""Which steps bring columns of numbers into the shape that linear models and neighbours want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.prepare.binning import Bin
from loopwright.prepare.catalogue import AnyStep
from loopwright.prepare.filling import GroupImpute
from loopwright.prepare.imputation import Impute
from loopwright.prepare.judged import Judged
from loopwright.prepare.one_hot import OneHot
from loopwright.prepare.place import written
from loopwright.prepare.power import Power
from loopwright.prepare.scaling import Clip, Log1p, Scale
from loopwright.prepare.step import Derive, fresh

if TYPE_CHECKING:
    import numpy as np
    import polars as pl
else:
    np, pl = LazyModule("numpy"), LazyModule("polars")

SHAPING = frozenset({"scale", "robust_scale", "quantile_scale", "power", "bin", "sklearn"})
"""Steps after which a column has the scale that a person wants it to have."""

_BENDING = SHAPING | {"log1p", "clip"}
_LONG_TAIL_SKEWNESS = 2.0
_FAR_DEVIATIONS = 8.0
_CLIPPED_SHARE = 0.001
_MIN_ROWS = 500
_MOST_ROWS = 20_000
_MOST_COLUMNS = 500
_MOST_CURVES = 12
_MOST_FILLED = 30
_MOST_GROUPS = 15
_N_BINS = 24
_MIN_BEND = 0.01
_MIN_GROUPS_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What suggestions for numbers look at besides the columns themselves.

    Parameters
    ----------
    target
        One number per training row, None where there is none or more than two classes.
    over_all
        The steps over all numbers that a person ordered, by name; none of the kind is suggested.
    auto
        Whether more is done than what a model cannot do without.
    linear
        Whether the model is a weighted sum: it can follow a curve only where bins let it, and far
        values pull it. Distances to neighbours gain nothing from either.
    """

    target: np.ndarray | None
    over_all: frozenset[str] = frozenset()
    auto: bool = True
    linear: bool = False


def early_number_steps(columns: Sequence[Judged], evidence: Evidence) -> list[AnyStep]:
    """Return the steps for numbers that come before categories are gone: curves and gaps."""
    if not evidence.auto:
        return []
    taken = [c.name for c in columns]
    bends = curves(_free(columns), evidence, taken=taken) if evidence.linear else []
    return [*bends, *gaps_of_groups(columns)]


def number_steps(columns: Sequence[Judged], evidence: Evidence) -> list[AnyStep]:
    """Return the steps for numbers; what a person ordered for all of them is left out."""
    steps: list[AnyStep] = []
    if evidence.auto:
        tails = long_tails(_free(columns))
        steps += [*tails, *(far_values(_free(columns), tails) if evidence.linear else [])]
    if "impute" not in evidence.over_all:
        steps.append(_impute(columns))
    if not evidence.over_all & SHAPING:
        shaped = tuple(c.name for c in columns if c.ordered & SHAPING)
        reason = "coefficients and distances compare columns on one scale"
        steps.append(Scale(but=shaped, reason=reason))
    return steps


def _free(columns: Sequence[Judged]) -> list[Judged]:
    return [c for c in columns if c.kind == "number" and not c.ordered & _BENDING]


def _impute(columns: Sequence[Judged]) -> Impute:
    gaps = {c.name: c.n_gaps for c in columns if c.n_gaps}
    shown = ", ".join(f"{name} ({n:,})" for name, n in list(gaps.items())[:8])
    return Impute(
        reason="linear models and neighbours need every value; "
        + (f"missing in training: {shown}" if gaps else "none was missing in training")
    )


def long_tails(columns: Sequence[Judged]) -> list[AnyStep]:
    """Return the steps that shorten long tails: a logarithm from 0 upwards, else a power."""
    steps: list[AnyStep] = []
    long = {c.name: c.skewness for c in columns if c.skewness > _LONG_TAIL_SKEWNESS}
    up = {c.name: long[c.name] for c in columns if c.name in long and c.least >= 0.0}
    if up:
        low, high = min(up.values()), max(up.values())
        steps.append(
            Log1p(
                columns=tuple(up),
                reason=f"long tails (skewness {low:.1f} to {high:.1f}) would outweigh the rest",
            )
        )
    both = {
        c.name: c.skewness
        for c in columns
        if c.name not in up and abs(c.skewness) > _LONG_TAIL_SKEWNESS
    }
    if both:
        low, high = min(both.values()), max(both.values())
        steps.append(
            Power(
                columns=tuple(both),
                reason=f"long tails with values below 0 or to the left (skewness {low:.1f} to "
                f"{high:.1f}) would outweigh the rest",
            )
        )
    return steps


def far_values(columns: Sequence[Judged], tails: Sequence[AnyStep]) -> list[AnyStep]:
    """Return the step that moves the farthest values nearer, where they are far even so."""
    logs = {name for step in tails if isinstance(step, Log1p) for name in step.columns}
    powers = {name for step in tails if isinstance(step, Power) for name in step.columns}
    far: dict[str, float] = {}
    for column in columns:
        values = column.numbers.to_numpy()
        if column.name in powers or column.n_levels <= 10 or len(values) < _MIN_ROWS:
            continue
        if column.name in logs:
            values = np.log1p(values)
        with np.errstate(all="ignore"):
            away = float(np.abs(values - values.mean()).max() / values.std())
        if np.isfinite(away) and away > _FAR_DEVIATIONS:
            far[column.name] = away
    if not far:
        return []
    shown = ", ".join(f"{name} ({away:.0f})" for name, away in list(far.items())[:8])
    return [
        Clip(
            columns=tuple(far),
            tail=_CLIPPED_SHARE,
            reason="values many standard deviations from the mean would pull a line or a "
            f"distance: {shown}",
        )
    ]


def gaps_of_groups(columns: Sequence[Judged]) -> list[AnyStep]:
    """Return the steps that fill gaps with the median of a category, where that tells much."""
    groups = [
        c
        for c in columns
        if c.kind == "category" and 2 <= c.n_levels <= 50 and not c.n_gaps and not c.ordered
    ]
    if len(columns[0].values) < _MIN_ROWS:
        return []
    gappy = [c for c in columns if c.n_gaps and c.kind == "number" and c.n_levels > 10]
    chosen: dict[str, dict[str, float]] = {}
    for column in gappy[:_MOST_FILLED]:
        shares = {c.name: share_explained(column.values, c.values) for c in groups[:_MOST_GROUPS]}
        best = max(shares, key=lambda name: shares[name], default="")
        if best and shares[best] > _MIN_GROUPS_SHARE:
            chosen.setdefault(best, {})[column.name] = shares[best]
    flags: list[AnyStep] = [
        Derive(
            name=fresh(f"{name}_missing", [c.name for c in columns]),
            expression=f"is_missing({written(name)})",
            reason=f"that {name} is missing may tell something by itself",
        )
        for filled in chosen.values()
        for name in filled
    ]
    return flags + [
        GroupImpute(
            columns=tuple(filled),
            by=by,
            reason=f"{by} explains much of what is missing ("
            + ", ".join(f"{name} {share:.0%}" for name, share in filled.items())
            + " of the variance), so its median is nearer than that of all rows",
        )
        for by, filled in chosen.items()
    ]


def share_explained(values: pl.Series, groups: pl.Series) -> float:
    """Return the share of the variance of some numbers that lies between groups, 0 to 1."""
    if values.len() != groups.len():
        return 0.0
    table = pl.DataFrame({"x": values.cast(pl.Float64), "by": groups}).drop_nulls()
    total = table["x"].var(ddof=0)
    if table.height < _MIN_ROWS or not isinstance(total, float) or not total > 0.0:
        return 0.0
    means = table.group_by("by").agg(n=pl.len(), mean=pl.col("x").mean())
    n_groups = means.height
    mean = table["x"].mean()
    between = float((means["n"] * (means["mean"] - mean) ** 2).sum()) / table.height
    # groups explain something by chance alone
    return max(0.0, between / total - (n_groups - 1) / table.height)


def curves(columns: Sequence[Judged], evidence: Evidence, *, taken: Sequence[str]) -> list[AnyStep]:
    """Return the steps that let a linear model follow numbers whose relation to the target bends."""
    y = evidence.target
    if y is None or len(y) < _MIN_ROWS or len(columns) > _MOST_COLUMNS:
        return []
    bends: dict[str, float] = {}
    for column in columns:
        if column.n_levels > 2 and column.values.len() == len(y):
            bends[column.name] = bend(column.values, y, logarithm=_is_long(column))
    order = sorted((n for n in bends if bends[n] > _MIN_BEND), key=lambda n: (-bends[n], n))
    return _curve_steps({name: bends[name] for name in order[:_MOST_CURVES]}, taken)


def _is_long(column: Judged) -> bool:
    return column.skewness > _LONG_TAIL_SKEWNESS and column.least >= 0.0


def _curve_steps(bends: Mapping[str, float], taken: Sequence[str]) -> list[AnyStep]:
    if not bends:
        return []
    names: dict[str, str] = {}
    for name in bends:
        names[name] = fresh(f"{name}_bin", [*taken, *names.values()])
    shown = ", ".join(f"{name} {share:.1%}" for name, share in bends.items())
    reason = "the relation to the target bends; a line would leave out so much of its variance: "
    copies: list[AnyStep] = [
        Derive(name=own, expression=written(name), reason=f"{name} in bins, beside the number")
        for name, own in names.items()
    ]
    own = tuple(names.values())
    return [
        *copies,
        Bin(columns=own, n_bins=_N_BINS, reason=reason + shown),
        OneHot(columns=own, reason="each bin gets a weight of its own"),
    ]


def bend(values: pl.Series, y: np.ndarray, *, logarithm: bool) -> float:
    """Return how much more of the target a curve explains than a line, as a share of its variance.

    The curve is the mean target in bins of equal counts, the line that of least squares. What bins
    explain by chance is taken off.
    """
    step = max(1, len(y) // _MOST_ROWS)
    x = values.gather_every(step).cast(pl.Float64).fill_null(float("nan")).to_numpy()
    y = y[::step]
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < _MIN_ROWS:
        return 0.0
    if logarithm:
        x = np.log1p(x)
    total = float(y.var())
    edges = np.unique(np.quantile(x, np.linspace(0.0, 1.0, _N_BINS + 1))[1:-1])
    codes = np.searchsorted(edges, x, side="right")
    counts = np.bincount(codes, minlength=len(edges) + 1)
    sums = np.bincount(codes, weights=y, minlength=len(edges) + 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), 0.0)
    spread = float(x.std())
    if not total > 0.0 or not spread > 0.0 or not np.isfinite(spread):
        return 0.0
    between = float((counts * (means - y.mean()) ** 2).sum()) / len(y) / total
    r = float(((x - x.mean()) * (y - y.mean())).mean()) / (spread * total**0.5)
    return float(between - int((counts > 0).sum() - 2) / len(y) - r * r)
