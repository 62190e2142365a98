"""The `train:` block of a loop file: which algorithms, with what settings, within what budget."""

from __future__ import annotations

import msgspec

from loopwright.compute import Resources
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.train.algorithm import ALGORITHMS, checked_hyperparameters, get_algorithm


class TrainBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one round may train.

    Parameters
    ----------
    minutes
        Wall time for all training jobs of the round, above 0.
    jobs
        How many training jobs, at least 1.
    """

    minutes: float = 5.0
    jobs: int = 40


class TrainPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is trained in a round.

    Parameters
    ----------
    algorithms
        Names, each trained by a job of its own.
    hyperparameters
        For some of the algorithms, what differs from the defaults.
    budget
        How much one round may train.
    resources
        What one job is given; nothing lets the loop choose.
    seed
        Of everything drawn at random, 0 or more.
    """

    algorithms: tuple[str, ...] = tuple(ALGORITHMS)
    hyperparameters: dict[str, dict[str, int | float | str | None]] = {}
    budget: TrainBudget = TrainBudget()
    resources: Resources | None = None
    seed: int = 7


def checked_train(plan: TrainPlan) -> TrainPlan:
    """Return the plan if every part of it can be done.

    Raises
    ------
    InvalidInputError
        Naming the field, its value and the nearest right one.
    """
    if not plan.algorithms:
        raise _wrong("algorithms", [], "is empty", f"Known: {', '.join(sorted(ALGORITHMS))}.")
    for place, name in enumerate(plan.algorithms):
        field = f"algorithms[{place}]"
        if name not in ALGORITHMS:
            raise _wrong(field, name, "is no algorithm", did_you_mean(name, ALGORITHMS))
        if name in plan.algorithms[:place]:
            raise _wrong(field, name, "stands there twice", "Keep one of the two.")
    for name, settings in plan.hyperparameters.items():
        field = f"hyperparameters.{name}"
        if name not in plan.algorithms:
            raise _wrong(
                field, name, "is not among the algorithms", did_you_mean(name, plan.algorithms)
            )
        checked_hyperparameters(get_algorithm(name), settings)
    if not 0 < plan.budget.minutes < float("inf"):
        raise _wrong("budget.minutes", plan.budget.minutes, "is not above 0", "Give minutes.")
    if plan.budget.jobs < 1:
        raise _wrong("budget.jobs", plan.budget.jobs, "is below 1", "Allow at least one job.")
    if not 0 <= plan.seed < 2**31:
        raise _wrong("seed", plan.seed, "is out of range", f"Give 0 to {2**31 - 1:,}.")
    return plan


def _wrong(field: str, value: object, problem: str, hint: str) -> InvalidInputError:
    return InvalidInputError(
        f"train.{field} {problem}: {value!r}.", hint=hint, field=f"train.{field}", value=value
    )
