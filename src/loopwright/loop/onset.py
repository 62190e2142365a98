"""Since when a model errs more: the moment among the predictions, however late their labels came."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING

from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl
else:
    np = LazyModule("numpy")

# fewer rows on either side tell nothing
FEWEST_ROWS = 50
# the best of very many splits lies above 3 by chance more often than not
_CERTAIN_Z = 5.0


def onset(at: pl.Series, losses: npt.NDArray[np.float64]) -> datetime | None:
    """Return when the first prediction was made of those that err more than the ones before.

    An alarm about errors tells when labels became bad, which is later than when the world changed
    by as much as labels are late. What is to be learnt anew begins with the predictions.

    Parameters
    ----------
    at
        When the labelled predictions were made, in any order.
    losses
        The loss of each, `(n_rows,)`.

    Returns
    -------
    None where the losses do not rise beyond doubt anywhere, or with fewer than 100 of them.

    Notes
    -----
    The split in time that explains most of the variance (Hinkley, Biometrika 57, 1970), with at least
    50 rows on either side, if the means differ by 5 standard errors.
    """
    finite = np.isfinite(losses)
    times, losses = at.filter(finite), losses[finite]
    order = times.arg_sort()
    times, x = times.gather(order), losses[order.to_numpy()]
    n = len(x)
    if n < 2 * FEWEST_ROWS:
        return None
    k = np.arange(FEWEST_ROWS, n - FEWEST_ROWS + 1)
    total = np.cumsum(x)
    before, after = total[k - 1] / k, (total[-1] - total[k - 1]) / (n - k)
    between = np.where(after > before, k * (n - k) / n * (after - before) ** 2, 0.0)
    best = int(np.argmax(between))
    within = float(((x - x.mean()) ** 2).sum()) - float(between[best])
    deviation = math.sqrt(max(within, 0.0) / n)
    if not between[best] > (_CERTAIN_Z * deviation) ** 2:
        return None
    found = times[int(k[best])]
    return found if isinstance(found, datetime) else None
