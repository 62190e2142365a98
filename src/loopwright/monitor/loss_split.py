"""A change of the loss in two parts: other inputs, and another truth for the same inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from loopwright.core.lazy import LazyModule
from loopwright.monitor.likeness import Likeness
from loopwright.monitor.number_estimate import column_means

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.uint8]
    Numbers = NDArray[np.float64]
else:
    np = LazyModule("numpy")

_SIGMAS = 2.0
_LEAST_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSplit:
    """The mean loss at release and on labelled live rows, and what made the difference.

    Parameters
    ----------
    before, now
        Mean loss of the held-out rows, and of the labelled live rows.
    covariate, covariate_error
        What the live inputs alone change, and its standard error.
    concept, concept_error
        The rest: another truth for the same inputs (`now` less `before` less `covariate`).
    cause
        The part that makes the loss greater beyond doubt, the greater of the two; else `none`.
    """

    metric: str
    n_rows: int
    before: float
    now: float
    covariate: float
    covariate_error: float
    concept: float
    concept_error: float
    cause: Literal["covariate", "concept", "none"]
    message: str


def loss_split(
    metric: str,
    reference: tuple[Codes, Numbers],
    live: tuple[Codes, Numbers],
    *,
    alike: Likeness,
    ordered: NDArray[np.bool_],
    seed: int = 0,
) -> LossSplit:
    """Return the two parts of a change of the mean loss.

    Parameters
    ----------
    reference, live
        Bins (n_rows, n_streams) and the loss of each row, (n_rows,).
    alike
        The weights under which the reference rows stand for these live rows; see `likeness`.

    Notes
    -----
    The loss that the live inputs would have had under the truth of the reference is estimated as in
    `column_means`; what it exceeds the reference by is the covariate part, what the realised loss
    exceeds it by the concept part (the two-way split of Zhang et al., ICML 2023, and of Cai,
    Namkoong and Yadlowsky, "Diagnosing model performance under distribution shift", 2023).
    """
    losses, now_losses = reference[1], live[1]
    means, covariance = column_means(
        reference[0], losses[:, None], live[0], weights=alike.weights, ordered=ordered, seed=seed
    )
    before, now, expected = float(losses.mean()), float(now_losses.mean()), float(means[0])
    estimate_variance = float(covariance[0, 0])
    covariate_error = math.sqrt(estimate_variance + float(losses.var()) / len(losses))
    concept_error = math.sqrt(estimate_variance + float(now_losses.var()) / len(now_losses))
    covariate, concept = expected - before, now - expected
    sure = {
        "covariate": covariate
        if covariate > max(_SIGMAS * covariate_error, _LEAST_SHARE * before)
        else 0.0,
        "concept": concept
        if concept > max(_SIGMAS * concept_error, _LEAST_SHARE * before)
        else 0.0,
    }
    cause: Literal["covariate", "concept", "none"] = "none"
    if max(sure.values()) > 0:
        cause = "concept" if sure["concept"] >= sure["covariate"] else "covariate"
    return LossSplit(
        metric=metric,
        n_rows=len(now_losses),
        before=before,
        now=now,
        covariate=covariate,
        covariate_error=covariate_error,
        concept=concept,
        concept_error=concept_error,
        cause=cause,
        message=_told(metric, before, now, covariate, concept, cause),
    )


def _told(
    metric: str, before: float, now: float, covariate: float, concept: float, cause: str
) -> str:
    end = {
        "covariate": "mostly because other rows come in.",
        "concept": "mostly because the same rows have another truth than before.",
        "none": "neither part is beyond doubt.",
    }[cause]
    return (
        f"{metric} went from {before:.4g} to {now:.4g}: {covariate:+.3g} by other inputs, "
        f"{concept:+.3g} by another truth for the same inputs; {end}"
    )
