"""Prediction intervals, as numbers: how far the truth may lie from what a model says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

IntervalScale = Literal["value", "logarithm"]
_MOST_KNOTS = 100
_LARGEST_LOGARITHM = 700.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What makes an interval of a prediction: `prediction ± reach * spread(prediction)`.

    Parameters
    ----------
    confidence
        Share of new cases whose truth lies inside, above 0 and below 1.
    scale
        `value`, or `logarithm`: the interval is made on the logarithm, so it is a factor.
    reach
        Half the width, not negative, in spreads.
    said, spread
        Knots of the spread as a function of the prediction on the scale; the spread is positive,
        `said` strictly increasing. Without knots the spread is 1.

    Raises
    ------
    InvalidInputError
        If the numbers do not make an interval.
    """

    confidence: float
    reach: float
    scale: IntervalScale = "value"
    said: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.confidence, self.reach, *self.said, *self.spread)
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise _refusal("not all of it are finite numbers")
        if self.scale not in get_args(IntervalScale):
            raise _refusal(f"{str(self.scale)[:40]!r} is no scale")
        if not 0 < self.confidence < 1 or self.reach < 0:
            raise _refusal("its confidence or its reach is out of range")
        if len(self.said) != len(self.spread) or len(self.said) > _MOST_KNOTS:
            raise _refusal(f"it has up to {_MOST_KNOTS} knots with a spread each")
        rises = all(low < high for low, high in zip(self.said, self.said[1:], strict=False))
        if not rises or min(self.spread, default=1.0) <= 0:
            raise _refusal("its knots do not rise, or a spread is not positive")

    def bounds(self, values: Array) -> tuple[Array, Array]:
        """Return the lower and the upper ends for predictions `(n_rows,)`, each `(n_rows,)`."""
        if self.scale == "value":
            half = self.reach * self._spread(values)
            return values - half, values + half
        # a prediction that is not positive has no logarithm; the factor then holds of the least one
        logarithm = np.log(np.maximum(values, np.finfo(np.float64).tiny))
        half = self.reach * self._spread(logarithm)
        lower: Array = np.exp(logarithm - half)
        upper: Array = np.exp(np.minimum(logarithm + half, _LARGEST_LOGARITHM))
        return lower, upper

    def _spread(self, position: Array) -> Array:
        if not self.said:
            return np.ones(len(position))
        spread: Array = np.interp(position, np.array(self.said), np.array(self.spread))
        return spread

    def to_json(self) -> dict[str, Any]:
        """Return the interval as JSON types."""
        return {
            "confidence": self.confidence,
            "reach": self.reach,
            "scale": self.scale,
            "said": list(self.said),
            "spread": list(self.spread),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Interval:
        """Return the interval that `to_json` wrote.

        Raises
        ------
        InvalidInputError
            If it is none.
        """
        try:
            return cls(
                confidence=value["confidence"],
                reach=value["reach"],
                scale=value["scale"],
                said=tuple(value["said"]),
                spread=tuple(value["spread"]),
            )
        except (KeyError, TypeError) as error:
            raise _refusal("it lacks a part") from error


def _refusal(reason: str) -> InvalidInputError:
    return InvalidInputError(
        f"The prediction interval of the model cannot be used: {reason}.",
        hint="Pack the model again.",
        field="interval",
    )
