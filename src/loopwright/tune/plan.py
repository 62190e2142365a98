"""The `tune:` block of a loop file: how hyperparameters are searched."""

from __future__ import annotations

from typing import Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.train import algorithm_names, get_algorithm
from loopwright.tune.space import Values, checked_space


class TunePlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How hyperparameters are searched.

    Parameters
    ----------
    trials
        How many sets of hyperparameters are tried, at least 1; those of earlier runs count.
    minutes
        Wall time of one search, above 0; nothing means no limit but the trials.
    money
        What the processors of one search may cost, above 0, at `train.budget.price_per_cpu_hour`;
        trials of earlier runs count.
    parallel
        How many jobs side by side, at least 1; nothing means as many as the machine has room for.
    sampler
        `tpe` learns where good values lie, `random` does not.
    prune
        Whether jobs whose learning curve falls behind are ended early.
    recipe
        Whether other choices about the recipe are tried too: how categories become numbers,
        whether texts count, whether the logarithm of the target is learnt.
    space
        For some algorithms, what to try instead of the usual ranges.
    """

    trials: int = 30
    minutes: float | None = None
    money: float | None = None
    parallel: int | None = None
    sampler: Literal["tpe", "random"] = "tpe"
    prune: bool = True
    recipe: bool = False
    space: dict[str, dict[str, Values]] = {}


def checked_tune(plan: TunePlan) -> TunePlan:
    """Return the plan if every part of it can be done.

    Raises
    ------
    InvalidInputError
        Naming the field, its value and the nearest right one.
    """
    if plan.trials < 1:
        raise _wrong("trials", plan.trials, "is below 1", "Allow at least one.")
    if plan.parallel is not None and plan.parallel < 1:
        raise _wrong("parallel", plan.parallel, "is below 1", "Allow at least one.")
    if plan.minutes is not None and not 0 < plan.minutes < float("inf"):
        raise _wrong("minutes", plan.minutes, "is not above 0", "Give minutes, or leave it out.")
    if plan.money is not None and not 0 < plan.money < float("inf"):
        raise _wrong("money", plan.money, "is not above 0", "Give an amount, or leave it out.")
    for name, space in plan.space.items():
        if name not in algorithm_names():
            hint = did_you_mean(name, algorithm_names())
            raise _wrong(f"space.{name}", name, "is no algorithm", hint)
        try:
            checked_space(get_algorithm(name), space)
        except InvalidInputError as cause:
            field = str(cause.facts.get("field", "")).removeprefix("space.")
            raise InvalidInputError(
                f"tune.space.{name}: {cause.message}",
                hint=cause.hint,
                **{**cause.facts, "field": f"tune.space.{name}.{field}"},
            ) from cause
    return plan


def _wrong(field: str, value: object, problem: str, hint: str) -> InvalidInputError:
    return InvalidInputError(
        f"tune.{field} {problem}: {value!r}.", hint=hint, field=f"tune.{field}", value=value
    )
