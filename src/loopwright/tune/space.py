"""Search spaces: which hyperparameters are tried, and over which ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.prepare import ENCODINGS, TEXTS
from loopwright.train import Algorithm

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

MAX_CHOICES = 100


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Numbers from `low` to `high`, ends included; `log: true` tries orders of magnitude alike."""

    low: float
    high: float
    log: bool = False


Values = Range | list[int | float | str]
"""A range, or a list: two numbers are the ends of a range, anything else the values to try."""
Space = Mapping[str, Range | tuple[int | float | str, ...]]

RECIPE_PREFIX = "recipe."
"""Begins the names of choices about the recipe, which a space may hold beside hyperparameters."""
RECIPE_SPACE: Mapping[str, tuple[str, ...]] = {
    f"{RECIPE_PREFIX}encoding": ENCODINGS,
    f"{RECIPE_PREFIX}texts": TEXTS,
    f"{RECIPE_PREFIX}target": ("suggested", "none", "log"),
}

_BOOSTING: dict[str, Range] = {
    "learning_rate": Range(low=0.01, high=0.3, log=True),
    "subsample": Range(low=0.5, high=1.0),
    "colsample": Range(low=0.3, high=1.0),
    "reg_alpha": Range(low=1e-4, high=10.0, log=True),
    "reg_lambda": Range(low=1e-3, high=30.0, log=True),
}
# the ranges in which the best settings of each algorithm usually lie
DEFAULT_SPACES: Mapping[str, Space] = {
    "lightgbm": {
        **_BOOSTING,
        "num_leaves": Range(low=8, high=256, log=True),
        "min_child_samples": Range(low=2, high=100, log=True),
    },
    "xgboost": {
        **_BOOSTING,
        "max_depth": Range(low=3, high=12),
        "min_child_weight": Range(low=0.5, high=30.0, log=True),
    },
    "catboost": {
        "learning_rate": Range(low=0.01, high=0.3, log=True),
        "max_depth": Range(low=4, high=9),
        "reg_lambda": Range(low=0.3, high=30.0, log=True),
    },
    "linear-learner": {
        "alpha": Range(low=1e-6, high=10.0, log=True),
        "l1_ratio": Range(low=0.0, high=1.0),
    },
    "knn": {
        "n_neighbors": Range(low=1, high=100, log=True),
        "weighting": ("uniform", "distance"),
    },
    "decision-tree": {
        "max_depth": Range(low=2, high=12),
        "min_samples_leaf": Range(low=1, high=200, log=True),
    },
    "random-forest": {
        "max_features": Range(low=0.1, high=1.0),
        "min_samples_leaf": Range(low=1, high=20, log=True),
    },
    "neural-network": {
        "learning_rate": Range(low=1e-4, high=1e-2, log=True),
        "weight_decay": Range(low=1e-6, high=1e-1, log=True),
        "dropout": Range(low=0.0, high=0.4),
    },
}


def checked_space(algorithm: Algorithm, given: Mapping[str, Values] | None) -> Space:
    """Return the space to search: the given one checked, or the algorithm's own.

    Parameters
    ----------
    algorithm
        Its hyperparameters say what there is and how far it goes.
    given
        What a person wants tried; nothing, or an empty table, is the default space.

    Raises
    ------
    InvalidInputError
        If a name is unknown (with the nearest one), a range is empty, goes beyond what the
        algorithm allows, or crosses zero on a logarithmic scale; or there is nothing to search.
    """
    if not given:
        space = {
            name: values
            for name, values in DEFAULT_SPACES.get(algorithm.name, {}).items()
            if name in algorithm.hyperparameters
        }
        if not space:
            raise InvalidInputError(
                f"There is no usual search space for {algorithm.name}.",
                hint=f"Name what to try under space: {', '.join(algorithm.hyperparameters)}.",
                field="space",
                value=algorithm.name,
            )
        return space
    own = {alias: name for name, one in algorithm.hyperparameters.items() for alias in one.aliases}
    found: dict[str, Any] = {}
    for written, values in given.items():
        name = own.get(written, written)
        if name in found:
            raise _wrong(name, written, "stands there twice", "Keep one of its names.")
        of_recipe = name.startswith(RECIPE_PREFIX)
        found[name] = (
            _checked_words(name, values) if of_recipe else _checked(algorithm, name, values)
        )
    return found


def _checked_words(name: str, values: Values) -> tuple[str, ...]:
    """Return which choices about the recipe are tried."""
    if name not in RECIPE_SPACE:
        raise InvalidInputError(
            f"A recipe has no choice {name[:80]!r} to search.",
            hint=did_you_mean(name[:80], RECIPE_SPACE),
            field=f"space.{name[:80]}",
            value=name[:80],
        )
    known = RECIPE_SPACE[name]
    if not isinstance(values, list) or not values:
        raise _wrong(name, values, "is no list of words", f"List some of: {', '.join(known)}.")
    for value in values:
        if value not in known:
            raise _wrong(name, value, f"names {value!r}", did_you_mean(str(value), known))
    return tuple(dict.fromkeys(str(value) for value in values))


def _checked(algorithm: Algorithm, name: str, values: Values) -> Any:
    known = algorithm.hyperparameters
    if name not in known:
        raise InvalidInputError(
            f"{algorithm.name} has no hyperparameter {name[:80]!r} to search.",
            hint=did_you_mean(name[:80], known),
            field=f"space.{name[:80]}",
            value=name[:80],
        )
    numeric = known[name].kind is not str
    if isinstance(values, list):
        is_pair = len(values) == 2 and all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in values
        )
        if numeric and is_pair:
            values = Range(low=float(values[0]), high=float(values[1]))
        else:
            return _checked_choices(algorithm, name, values)
    if not numeric:
        raise _wrong(name, values, f"is a range, but {name} is a word", "List the words to try.")
    if not values.low < values.high:
        raise _wrong(
            name,
            [values.low, values.high],
            f"goes from {values.low:g} to {values.high:g}, which is no range",
            "Give the lower end first, and the greater last.",
        )
    if values.log and values.low <= 0:
        raise _wrong(
            name,
            values.low,
            f"begins at {values.low:g}, which has no logarithm",
            "Begin above 0, or leave log out.",
        )
    for end in (values.low, values.high):
        if not math.isfinite(end):
            raise _wrong(name, end, f"reaches to {end:g}", "Give two ends that are numbers.")
        if problem := known[name].problem(int(end) if known[name].kind is int else end):
            raise _wrong(name, end, f"reaches to {end:g}; {problem}", known[name].help)
    return values


def _checked_choices(algorithm: Algorithm, name: str, values: list[Any]) -> tuple[Any, ...]:
    one = algorithm.hyperparameters[name]
    if not 1 <= len(values) <= MAX_CHOICES:
        raise _wrong(name, values, f"has {len(values)} values", f"Give 1 to {MAX_CHOICES}.")
    for value in values:
        if problem := one.problem(value):
            raise _wrong(name, value, f"names {value!r}; {problem}", one.help)
    return tuple(dict.fromkeys(values))


def _wrong(name: str, value: object, problem: str, hint: str) -> InvalidInputError:
    return InvalidInputError(
        f"The space of {name} {problem}.", hint=hint, field=f"space.{name}", value=value
    )


def distributions(algorithm: Algorithm, space: Space) -> dict[str, BaseDistribution]:
    """Return a space as Optuna states it."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    found: dict[str, BaseDistribution] = {}
    for name, values in space.items():
        if not isinstance(values, Range):
            found[name] = CategoricalDistribution(values)
        elif algorithm.hyperparameters[name].kind is int:
            found[name] = IntDistribution(round(values.low), round(values.high), log=values.log)
        else:
            found[name] = FloatDistribution(values.low, values.high, log=values.log)
    return found
