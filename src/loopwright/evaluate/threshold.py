"""From which probability on the positive class is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule
from loopwright.problem import Metric, class_answers

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_N_STEPS = 200


def best_threshold(
    metric: Metric, y: npt.NDArray[np.float64], probability: npt.NDArray[np.float64]
) -> float:
    """Return the threshold with the best value of the metric on these rows, 0 to 1.

    Use validation rows, never the test rows. Only thresholds between values that occur are tried,
    at most 200 of them at equal steps of rank, and always and never; of equally good ones the middle one is taken, so
    that the choice does not hang on one row.
    """
    levels = np.unique(probability)
    cuts = (levels[1:] + levels[:-1]) / 2
    if len(cuts) > _N_STEPS:
        cuts = cuts[np.linspace(0, len(cuts) - 1, _N_STEPS).round().astype(np.int64)]
    # always yes, and never (but for a probability of 1), are ways to decide too
    cuts = np.concatenate([[0.0], cuts, [1.0]])
    ones = np.ones((1, len(y)))
    sign = 1.0 if metric.higher_is_better else -1.0
    values = np.array(
        [
            sign
            * float(metric.resampled(y, class_answers(probability, threshold=float(cut)), ones)[0])
            for cut in cuts
        ]
    )
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return float(cuts[best[len(best) // 2]])
