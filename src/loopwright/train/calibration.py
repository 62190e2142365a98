"""A repair of probabilities, as numbers: what a model says becomes how often it comes true."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

CalibrationMethod = Literal["platt", "beta", "isotonic", "temperature"]
METHODS: tuple[str, ...] = get_args(CalibrationMethod)
_N_PARAMETERS = {"platt": 2, "beta": 3, "isotonic": 0, "temperature": 1}
_MOST_KNOTS = 1_000
# a probability of 0 or 1 has no logarithm of its odds
_TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A strictly increasing map of probabilities, so that a ranking and a threshold keep their sense.

    Parameters
    ----------
    method
        `platt`: `logit q = a logit p + c` (Platt 1999, on log-odds); parameters `(a, c)`.
        `beta`: `logit q = a ln p - b ln(1 - p) + c` (Kull, Silva Filho and Flach, AISTATS 2017);
        parameters `(a, b, c)`. `isotonic`: straight lines between the knots. `temperature`, for
        more than two classes: `q` in proportion to `p ** (1 / t)` (Guo et al., ICML 2017);
        parameters `(t,)`.
    parameters
        See above; `a`, `b` not negative, not both 0; `t` positive.
    said, happened
        The knots of `isotonic`, both strictly increasing, from 0 to 1.

    Raises
    ------
    InvalidInputError
        If the numbers do not make a strictly increasing map.
    """

    method: CalibrationMethod
    parameters: tuple[float, ...] = ()
    said: tuple[float, ...] = ()
    happened: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise _refusal(f"{str(self.method)[:40]!r} is no method", self.method)
        numbers = (*self.parameters, *self.said, *self.happened)
        if not all(_is_number(number) for number in numbers):
            raise _refusal("not all of it are finite numbers")
        if len(self.parameters) != _N_PARAMETERS[self.method]:
            raise _refusal(f"{self.method} has {_N_PARAMETERS[self.method]} parameters")
        if self.method == "isotonic":
            self._check_knots()
        elif self.said or self.happened:
            raise _refusal(f"{self.method} has no knots")
        slopes = self.parameters[: 2 if self.method == "beta" else 1]
        if slopes and (min(slopes) < 0 or max(slopes) <= 0):
            raise _refusal("it does not increase", slopes[0])

    def _check_knots(self) -> None:
        if not 2 <= len(self.said) <= _MOST_KNOTS or len(self.said) != len(self.happened):
            raise _refusal(f"it needs 2 to {_MOST_KNOTS} knots", len(self.said))
        for knots in (self.said, self.happened):
            rises = all(low < high for low, high in pairwise(knots))
            if not rises or knots[0] < 0 or knots[-1] > 1:
                raise _refusal("its knots do not rise from 0 to 1")

    def applied(self, raw: Array) -> Array:
        """Return repaired probabilities: `(n_rows,)` of the positive class, or `(n_rows, n_classes)`.

        Each row is worked on by itself: its answer does not depend on the rows that come with it.
        """
        if self.method == "temperature":
            return _sharpened(raw, self.parameters[0])
        p = raw if raw.ndim == 1 else raw[:, 1]
        q = self._curve(p)
        return q if raw.ndim == 1 else np.stack([1 - q, q], axis=1)

    def _curve(self, p: Array) -> Array:
        if self.method == "isotonic":
            curve: Array = np.interp(p, np.array(self.said), np.array(self.happened))
            return curve
        p = np.clip(p, _TINY, 1 - _TINY)
        if self.method == "platt":
            a, c = self.parameters
            b = a
        else:
            a, b, c = self.parameters
        score = np.clip(a * np.log(p) - b * np.log1p(-p) + c, -700.0, 700.0)
        q: Array = 1 / (1 + np.exp(-score))
        return q

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as JSON types."""
        return {
            "method": self.method,
            "parameters": list(self.parameters),
            "said": list(self.said),
            "happened": list(self.happened),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """Return the calibration that `to_json` wrote.

        Raises
        ------
        InvalidInputError
            If it is none.
        """
        try:
            return cls(
                method=value["method"],
                parameters=tuple(value["parameters"]),
                said=tuple(value["said"]),
                happened=tuple(value["happened"]),
            )
        except (KeyError, TypeError) as error:
            raise _refusal("it lacks a part") from error


def _sharpened(shares: Array, temperature: float) -> Array:
    logarithms = np.log(np.clip(shares, _TINY, 1.0)) / temperature
    weights = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    # one addition a class, so that a row's answer does not depend on how many rows come with it
    total = weights[:, :1].copy()
    for column in range(1, weights.shape[1]):
        total += weights[:, column : column + 1]
    sharpened: Array = weights / total
    return sharpened


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refusal(reason: str, value: object = None) -> InvalidInputError:
    return InvalidInputError(
        f"The calibration of the model cannot be used: {reason}.",
        hint="Pack the model again.",
        field="calibration",
        value=value,
    )
