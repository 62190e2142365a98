"""The `train:` block of a loop file: which algorithms, with what settings, within what budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import msgspec

from loopwright.compute import Limits, Resources
from loopwright.core.errors import InvalidInputError
from loopwright.core.names import did_you_mean
from loopwright.core.quantity import seconds
from loopwright.prepare.choice import Encoding, Texts
from loopwright.problem import Task
from loopwright.train.algorithm import (
    USUAL_ALGORITHMS,
    algorithm_names,
    check_installed,
    check_settings,
    get_algorithm,
)
from loopwright.train.hyperparameter import canonical_hyperparameters, checked_hyperparameters

AUTO = "auto"
"""Stands among the algorithms for a search among all of them."""
DATA_PARALLEL = ("xgboost", "lightgbm")
"""Algorithms whose library can train one model in several processes."""
MOST_WORKERS = 256
_MOST_RETRIES = 100
Setting = int | float | str | None | list[int] | dict[str, int | float]


class TrainBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much one round may train.

    Parameters
    ----------
    minutes
        Wall time for all training jobs of the round, above 0.
    jobs
        How many training jobs, at least 1.
    money
        What the processors of all training jobs of the round may cost, above 0, at
        `price_per_cpu_hour`; nothing means no limit. A search of `tune:` is counted apart.
    price_per_cpu_hour
        What one processor costs an hour, above 0, in the user's money. A job costs its declared
        `cpus` for its wall time.
    """

    minutes: float = 5.0
    jobs: int = 40
    money: float | None = None
    price_per_cpu_hour: float | None = None

    def minutes_for(self, cpus: float) -> float:
        """Return the wall time there is while so many processors work all the time."""
        return min(self.minutes, 60 * self.hours_worth(self.money) / cpus)

    def hours_worth(self, money: float | None) -> float:
        """Return the processor hours that some money buys; without end where nothing limits it."""
        if money is None or self.price_per_cpu_hour is None:
            return float("inf")
        return money / self.price_per_cpu_hour

    def cost(self, cpu_s: float) -> float | None:
        """Return what so many seconds of a processor cost; None where there is no price."""
        price = self.price_per_cpu_hour
        return None if price is None else cpu_s / 3600 * price


Distill = Literal["never", "if_as_good", "always"]
"""When one fast model that learnt from a blend is served instead of it."""


class AutoPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `auto` searches for the best model.

    Parameters
    ----------
    algorithms
        Only these; nothing means all that are installed.
    trials
        How many configurations at most, at least 1.
    distill
        Whether one fast model learns what the blend says, and is served instead of it: `always`,
        `if_as_good` (where with 95 % confidence it costs no more than `distill_may_cost`) or
        `never`. What it costs in accuracy and gains in latency is shown either way.
    distill_may_cost
        How much worse the single model may be on validation rows, as a share of how far the blend
        is from the best there can be, 0 to 1; for `if_as_good`.
    """

    algorithms: tuple[str, ...] | None = None
    trials: int = 80
    distill: Distill = "never"
    distill_may_cost: float = 0.01


class RecipeChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is chosen about the features of all algorithms, where the suggestion is not followed.

    Parameters
    ----------
    encoding
        What becomes of categories: a column for each level (`one-hot`), the place of the level
        (`ordinal`; of use to trees), the mean target of its other rows (`target`) or its share of
        the rows (`frequency`).
    texts
        Whether free texts become features; `none` leaves them out.
    target
        Whether a regression learns the target or its logarithm.
    """

    encoding: Encoding = "suggested"
    texts: Texts = "suggested"
    target: Literal["suggested", "none", "log"] = "suggested"


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
        What one job is given; nothing lets the loop choose. With workers, what each is given.
    workers
        How many jobs train one model of xgboost or lightgbm together, each on a part of the rows;
        the other algorithms, and searches, train in one. All of them must find room at once.
    time_limit
        The longest one job may take; nothing leaves it to the budget.
    limits
        What the processes of one job may do beside that.
    retries
        How often a job starts again when it was lost through no fault of its own.
    seed
        Of everything drawn at random, 0 or more.
    auto
        How `auto` searches.
    recipe
        What is chosen about the features of all algorithms.
    """

    algorithms: tuple[str, ...] = USUAL_ALGORITHMS
    hyperparameters: dict[str, dict[str, Setting]] = {}
    budget: TrainBudget = TrainBudget()
    resources: Resources | None = None
    workers: int = 1
    time_limit: str | None = None
    limits: Limits = Limits()
    retries: int = 1
    seed: int = 7
    auto: AutoPlan = AutoPlan()
    recipe: RecipeChoice = RecipeChoice()

    @property
    def time_limit_s(self) -> float | None:
        """The longest one job may take, in seconds; None where the budget alone says."""
        return seconds(self.time_limit, field="train.time_limit") if self.time_limit else None

    def workers_of(self, algorithm: str) -> int:
        """Return how many jobs train one model of an algorithm."""
        return self.workers if algorithm in DATA_PARALLEL else 1

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
    if not 0 <= plan.auto.distill_may_cost <= 1:
        raise _wrong(
            "auto.distill_may_cost", plan.auto.distill_may_cost, "is not 0 to 1", "Give a share."
        )
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
        with told_under(f"train.{field}"):
            canonical_hyperparameters(get_algorithm(name), settings)
    if not 0 < plan.budget.minutes < float("inf"):
        raise _wrong("budget.minutes", plan.budget.minutes, "is not above 0", "Give minutes.")
    check_money(plan.budget.money, plan.budget, field="budget.money")
    if plan.budget.jobs < 1:
        raise _wrong("budget.jobs", plan.budget.jobs, "is below 1", "Allow at least one job.")
    _check_jobs(plan)
    if not 0 <= plan.seed < 2**31:
        raise _wrong("seed", plan.seed, "is out of range", f"Give 0 to {2**31 - 1:,}.")
    return plan


def check_task(plan: TrainPlan, *, task: Task, classes: Sequence[str]) -> None:
    """Check that the hyperparameters of a checked plan are for the task.

    Raises
    ------
    InvalidInputError
        Naming the setting, its value and what can be set.
    """
    for name, settings in plan.hyperparameters.items():
        algorithm = get_algorithm(name)
        with told_under(f"train.hyperparameters.{name}"):
            complete = checked_hyperparameters(algorithm, settings)
            check_settings(algorithm, complete, task=task, classes=classes)


@contextmanager
def told_under(block: str) -> Iterator[None]:
    """Give errors inside the name of the block in which their fact `field` stands."""
    try:
        yield
    except InvalidInputError as error:
        facts = {**error.facts, "field": f"{block}.{error.facts.get('field')}"}
        raise InvalidInputError(error.message, hint=error.hint, **facts) from error


def check_money(money: float | None, budget: TrainBudget, *, field: str) -> None:
    """Check a limit in money, and the price that it needs.

    Raises
    ------
    InvalidInputError
        If one of them is not above 0, or the price is not told.
    """
    price = budget.price_per_cpu_hour
    if price is not None and not 0 < price < float("inf"):
        raise _wrong("budget.price_per_cpu_hour", price, "is not above 0", "Give such as 0.05.")
    if money is None:
        return
    if not 0 < money < float("inf"):
        raise _wrong(field, money, "is not above 0", "Give an amount, or leave it out.")
    if price is None:
        hint = "Write train.budget.price_per_cpu_hour: what one processor costs an hour."
        raise _wrong(field, money, "needs a price", hint)


def _check_jobs(plan: TrainPlan) -> None:
    """Check what is said of the jobs themselves."""
    if not 1 <= plan.workers <= MOST_WORKERS:
        raise _wrong("workers", plan.workers, "is out of range", f"Give 1 to {MOST_WORKERS}.")
    if plan.workers > 1 and not set(plan.algorithms) & set(DATA_PARALLEL):
        raise InvalidInputError(
            f"train.workers is {plan.workers}, and {' and '.join(plan.algorithms)} "
            f"{'train' if len(plan.algorithms) > 1 else 'trains'} in one process.",
            hint=f"Use {' or '.join(DATA_PARALLEL)}, or one worker.",
            field="train.workers",
            value=plan.workers,
        )
    if not 0 <= plan.retries <= _MOST_RETRIES:
        raise _wrong("retries", plan.retries, "is out of range", f"Give 0 to {_MOST_RETRIES}.")
    if plan.time_limit is not None and not plan.time_limit_s:
        raise _wrong("time_limit", plan.time_limit, "is no time", "Write such as '10 minutes'.")


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
