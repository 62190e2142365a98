"""The `train:` block of a loop file: which algorithms, with what settings, within what budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from loopwright.compute import Resources
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.train.algorithm import (
    USUAL_ALGORITHMS,
    algorithm_names,
    check_installed,
    get_algorithm,
)
from loopwright.train.hyperparameter import canonical_hyperparameters

AUTO = "auto"
"""Stands among the algorithms for a search among all of them."""
Setting = int | float | str | None | list[int] | dict[str, int | float]


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


class AutoPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `auto` searches for the best model.

    Parameters
    ----------
    algorithms
        Only these; nothing means all that are installed.
    trials
        How many configurations at most, at least 1.
    """

    algorithms: tuple[str, ...] | None = None
    trials: int = 80


class TrainPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is trained in a round.

    Parameters
    ----------
    algorithms
        Names, each trained by a job of its own; see the reference of algorithms. `auto` searches
        among all of them for the best blend within the budget.
    hyperparameters
        For some of the algorithms, what differs from the defaults.
    budget
        How much one round may train.
    resources
        What one job is given; nothing lets the loop choose.
    seed
        Of everything drawn at random, 0 or more.
    auto
        How `auto` searches.
    """

    algorithms: tuple[str, ...] = USUAL_ALGORITHMS
    hyperparameters: dict[str, dict[str, Setting]] = {}
    budget: TrainBudget = TrainBudget()
    resources: Resources | None = None
    seed: int = 7
    auto: AutoPlan = AutoPlan()

    def settings(self) -> dict[str, dict[str, Any]]:
        """Return `hyperparameters` under loopwright's own names, checked.

        Raises
        ------
        InvalidInputError
            See `canonical_hyperparameters`.
        """
        return {
            name: canonical_hyperparameters(get_algorithm(name), given)
            for name, given in self.hyperparameters.items()
        }


def checked_train(plan: TrainPlan) -> TrainPlan:
    """Return the plan if every part of it can be done.

    Raises
    ------
    InvalidInputError
        Naming the field, its value and the nearest right one.
    """
    _check_names("algorithms", plan.algorithms, known=(*algorithm_names(), AUTO))
    if plan.auto.algorithms is not None:
        _check_names("auto.algorithms", plan.auto.algorithms, known=algorithm_names())
    if plan.auto.trials < 1:
        raise _wrong("auto.trials", plan.auto.trials, "is below 1", "Allow at least one.")
    for name, settings in plan.hyperparameters.items():
        field = f"hyperparameters.{name}"
        if name not in plan.algorithms:
            raise _wrong(
                field, name, "is not among the algorithms", did_you_mean(name, plan.algorithms)
            )
        if name == AUTO:
            raise _wrong(field, settings, "cannot be set", "auto has `train.auto` instead.")
        canonical_hyperparameters(get_algorithm(name), settings)
    if not 0 < plan.budget.minutes < float("inf"):
        raise _wrong("budget.minutes", plan.budget.minutes, "is not above 0", "Give minutes.")
    if plan.budget.jobs < 1:
        raise _wrong("budget.jobs", plan.budget.jobs, "is below 1", "Allow at least one job.")
    if not 0 <= plan.seed < 2**31:
        raise _wrong("seed", plan.seed, "is out of range", f"Give 0 to {2**31 - 1:,}.")
    return plan


def _check_names(block: str, names: Sequence[str], *, known: Sequence[str]) -> None:
    if not names:
        raise _wrong(block, [], "is empty", f"Known: {', '.join(sorted(known))}.")
    for place, name in enumerate(names):
        field = f"{block}[{place}]"
        if name not in known:
            raise _wrong(field, name, "is no algorithm", did_you_mean(name, known))
        if name in names[:place]:
            raise _wrong(field, name, "stands there twice", "Keep one of the two.")
        if name != AUTO:
            # what every task needs; fit_algorithm checks what only this one does
            check_installed(get_algorithm(name), "regression")


def _wrong(field: str, value: object, problem: str, hint: str) -> InvalidInputError:
    return InvalidInputError(
        f"train.{field} {problem}: {value!r}.", hint=hint, field=f"train.{field}", value=value
    )
