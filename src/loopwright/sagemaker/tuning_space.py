"""The ranges of a tuning job: checked, as Optuna's distributions, and as the text that jobs are given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from loopwright.sagemaker.error import validation

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Kind = Literal["integer", "continuous", "categorical"]

# where nothing is said, a range over two powers of ten and more is searched by its logarithm
_WIDE = 100.0
_GROUPS: Mapping[str, Kind] = {
    "IntegerParameterRanges": "integer",
    "ContinuousParameterRanges": "continuous",
    "CategoricalParameterRanges": "categorical",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One hyperparameter that is searched.

    Parameters
    ----------
    low, high
        Ends of a range, both in it.
    scaling
        `Linear`, `Logarithmic` or `ReverseLogarithmic` (by the logarithm of 1 - x).
    values
        The words of a categorical one, as they came.
    """

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    scaling: str = "Linear"
    values: tuple[str, ...] = ()

    def distribution(self) -> BaseDistribution:
        """Return it as Optuna states it; a reversed one is that of 1 - x."""
        from optuna.distributions import (
            CategoricalDistribution,
            FloatDistribution,
            IntDistribution,
        )

        if self.kind == "categorical":
            return CategoricalDistribution(self.values)
        is_log = self.scaling == "Logarithmic"
        if self.kind == "integer":
            return IntDistribution(int(self.low), int(self.high), log=is_log)
        if self.scaling == "ReverseLogarithmic":
            return FloatDistribution(1 - self.high, 1 - self.low, log=True)
        return FloatDistribution(self.low, self.high, log=is_log)

    def text(self, value: Any) -> str:
        """Return what a job is given for a value of the distribution."""
        if self.kind == "categorical":
            return str(value)
        if self.kind == "integer":
            return str(int(value))
        plain = 1 - value if self.scaling == "ReverseLogarithmic" else value
        return repr(min(max(float(plain), self.low), self.high))

    def value(self, text: str) -> Any:
        """Return the value of the distribution that a job was given as text; None for none."""
        if self.kind == "categorical":
            return text if text in self.values else None
        try:
            number = float(text)
        except ValueError:
            return None
        if not self.low <= number <= self.high:
            return None
        if self.kind == "integer":
            return int(number)
        if self.scaling != "ReverseLogarithmic":
            return number
        return min(max(1 - number, 1 - self.high), 1 - self.low)

    def ends(self) -> tuple[str, str]:
        """Return the first and the last that jobs may be given."""
        if self.kind == "categorical":
            return self.values[0], self.values[-1]
        if self.kind == "integer":
            return str(int(self.low)), str(int(self.high))
        return repr(self.low), repr(self.high)


def parameters_of(ranges: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Return the ranges of a request.

    Raises
    ------
    ApiError
        If one is empty, is none, stands twice, or cannot be searched on its scale.
    """
    if ranges.get("AutoParameters"):
        raise validation(
            "AutoParameters are not supported yet by loopwright: give a range to each."
        )
    found: list[Parameter] = []
    for group, kind in _GROUPS.items():
        for each in ranges.get(group, ()):
            found.append(_categorical(each) if kind == "categorical" else _range(each, kind))
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise validation(f"The hyperparameter {name} has more than one range.")
    if not found:
        raise validation("At least one hyperparameter range must be specified for tuning.")
    return tuple(found)


def _categorical(given: Mapping[str, Any]) -> Parameter:
    return Parameter(
        name=given["Name"], kind="categorical", values=tuple(dict.fromkeys(given["Values"]))
    )


def _range(given: Mapping[str, Any], kind: Kind) -> Parameter:
    name = given["Name"]
    low, high = (_number(name, given[key], kind) for key in ("MinValue", "MaxValue"))
    if low > high:
        raise validation(
            f"The MinValue of the hyperparameter {name}, {given['MinValue']}, is greater than its "
            f"MaxValue, {given['MaxValue']}."
        )
    scaling = given.get("ScalingType", "Auto")
    if scaling == "Auto":
        scaling = "Logarithmic" if low > 0 and high / low >= _WIDE else "Linear"
    if scaling == "Logarithmic" and low <= 0:
        raise validation(f"Logarithmic scaling needs values above 0; {name} begins at {low:g}.")
    if scaling == "ReverseLogarithmic" and (kind == "integer" or low < 0 or high >= 1):
        raise validation(
            f"ReverseLogarithmic scaling is for continuous values from 0 to below 1; {name} goes "
            f"from {low:g} to {high:g}."
        )
    return Parameter(name=name, kind=kind, low=low, high=high, scaling=scaling)


def _number(name: str, text: str, kind: Kind) -> float:
    try:
        value = float(int(text) if kind == "integer" else float(text))
    except ValueError as error:
        raise validation(
            f"{text[:80]!r} is no {kind} value of the hyperparameter {name}."
        ) from error
    # optuna counts whole numbers exactly up to here
    if not math.isfinite(value) or abs(value) > 2**53:
        raise validation(f"{text[:80]!r} is no {kind} value of the hyperparameter {name}.")
    return value


def grid(parameters: Sequence[Parameter]) -> Iterator[dict[str, str]]:
    """Yield every combination of the words of categorical parameters, the last changing first."""
    names = [each.name for each in parameters]
    for values in product(*(each.values for each in parameters)):
        yield dict(zip(names, values, strict=True))


def n_combinations(parameters: Sequence[Parameter]) -> int:
    """Return how many combinations a grid has."""
    return math.prod(len(each.values) for each in parameters)
