"""One row answered in as few steps as there are: what an endpoint does most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from loopwright.core.kernel import find_kernel
from loopwright.core.lazy import LazyModule
from loopwright.prepare import OneRowReader
from loopwright.train.outcome import Outcome
from loopwright.train.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
else:
    np = LazyModule("numpy")

Answered = tuple[dict[str, Any], dict[str, Any]]


class OneRow:
    """Answers single rows as `ServingModel.check_and_predict` does, with the same results.

    It writes features and scores where it wrote those of the row before, so that only one thread may
    use it.

    Parameters
    ----------
    read
        Checks a row and makes its features.
    predictor, outcome
        What answers them.
    """

    __slots__ = ("_linked", "_n_outputs", "_outcome", "_predictor", "_read", "_score", "_scores")

    def __init__(self, read: OneRowReader, predictor: Predictor, outcome: Outcome) -> None:
        self._read = read
        self._predictor = predictor
        self._outcome = outcome
        self._n_outputs = predictor.n_outputs
        self._scores = np.empty((1, predictor.n_outputs))
        self._score = predictor.compiled_score()
        kernel = find_kernel()
        self._linked: Callable[[Any, str, int], None] | None = (
            kernel.linked if kernel is not None and predictor.link != "identity" else None
        )

    def answer(self, row: Any) -> Answered | None:
        """Return a row as it was read, and its answer; None where the usual way has to be gone."""
        checked = self._read(row)
        if checked is None:
            return None
        raw = self._outcome.calibrated(self._raw())
        return checked, self._outcome.answers(raw)[0]

    def _raw(self) -> npt.NDArray[np.float64]:
        if self._score is None:
            return self._predictor.predict_raw(self._read.features)
        scores = self._scores
        self._score(self._read.features, scores)
        if self._linked is not None:
            self._linked(scores, self._predictor.link, self._n_outputs)
        return scores[:, 0] if self._n_outputs == 1 else scores
