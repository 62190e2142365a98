"""Losses that algorithms choose by on the validation rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

_LEAST_PROBABILITY = 1e-15


def squared_loss(
    said: npt.NDArray[np.float64], y: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> float:
    """Return the weighted mean squared error; `said` and `y` are `(n_rows, 1)`."""
    return float(np.average((said - y)[:, 0] ** 2, weights=weights))


def log_loss(
    said: npt.NDArray[np.float64], y: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> float:
    """Return the weighted mean logarithmic loss, in nats.

    `said` and `y` are `(n_rows, 1)`, the probability of the positive class and 0 or 1; or
    `(n_rows, n_classes)`, probabilities and a 1 at the class.
    """
    p = np.clip(said, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    if said.shape[1] == 1:
        rows = -(y * np.log(p) + (1 - y) * np.log1p(-p))[:, 0]
    else:
        rows = -(y * np.log(p)).sum(axis=1)
    return float(np.average(rows, weights=weights))
