"""What outcomes earn: the payoff of a loop file, and the metrics that count it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeGuard

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.core.names import did_you_mean
from loopwright.problem.mean import CLASSES, MeanMetric, Metric, column

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.problem.answer import Answers

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")

Amount = float | str
"""Money: a number, or an expression over the columns of the row it is about."""

Payoff = dict[str, Amount | dict[str, Amount]]
"""For two classes: an amount by outcome. For more: by true class, an amount by the class said."""

Amounts = Mapping[str, "Amount | Mapping[str, Amount]"]
"""A payoff that is only read."""

OUTCOMES: dict[str, tuple[int, int]] = {
    "true_positive": (1, 1),
    "false_positive": (0, 1),
    "true_negative": (0, 0),
    "false_negative": (1, 0),
}
"""The true and the said class of each outcome of a binary decision."""

_PER_CASE: dict[str, float] = {
    "profit_per_case": 1.0,
    "expected_profit_per_thousand": 1_000.0,
    "cost_per_case": -1.0,
}
MONEY_METRICS = tuple(_PER_CASE)


def is_per_row(payoff: Amounts | None) -> bool:
    """Return whether an amount depends on the row."""
    amounts = [each for line in (payoff or {}).values() for each in _line(line).values()]
    return any(isinstance(each, str) for each in amounts)


def amounts(payoff: Amounts, classes: tuple[str, ...]) -> list[list[Amount]]:
    """Return the amount for each true class (lines) and each class said (columns); 0 if not stated.

    Parameters
    ----------
    payoff
        As the loop file states it.
    classes
        Class names, the positive one last when there are two.

    Raises
    ------
    InvalidInputError
        If it names a class there is not.
    """
    table: list[list[Amount]] = [[0.0] * len(classes) for _ in classes]
    if _by_outcome(payoff):
        for outcome, amount in payoff.items():
            true, said = OUTCOMES[outcome]
            table[true][said] = amount
        return table
    for true_name, line in payoff.items():
        for said_name, amount in _line(line).items():
            for name in (true_name, said_name):
                if name not in classes:
                    raise InvalidInputError(
                        f"problem.payoff names the class {name!r}, which the target does not have.",
                        hint=did_you_mean(name, classes),
                        field="problem.payoff",
                        value=name,
                    )
            table[classes.index(true_name)][classes.index(said_name)] = amount
    return table


def checked_payoff(payoff: Amounts, *, task: str) -> None:
    """Check the shape of a payoff, and its signs where they are plain numbers.

    Raises
    ------
    InvalidInputError
        If an outcome is unknown, the task has no outcomes, or a right answer earns less than a
        wrong one, so that the sign of an amount must be wrong.
    """
    if _nested(payoff) and task == "multiclass":
        for true, line in payoff.items():
            numbers = {said: each for said, each in line.items() if isinstance(each, int | float)}
            if len(numbers) == len(line):
                check_line(true, numbers)
        return
    for outcome, amount in payoff.items():
        if outcome not in OUTCOMES:
            raise InvalidInputError(
                f"problem.payoff has {outcome!r}, which is no outcome of a binary decision.",
                hint=did_you_mean(outcome, OUTCOMES),
                field=f"problem.payoff.{outcome}",
                value=outcome,
            )
        if isinstance(amount, Mapping):
            raise InvalidInputError(
                f"problem.payoff.{outcome} is a block; an outcome of a binary decision earns one "
                "amount.",
                hint="Write a number or an expression.",
                field=f"problem.payoff.{outcome}",
                value=None,
            )
    if task != "binary":
        raise InvalidInputError(
            f"problem.payoff by outcome is for binary problems; this one is {task}.",
            hint="State it by true class and class said, such as {cat: {cat: 1, dog: -5}}."
            if task == "multiclass"
            else "Remove payoff, or state problem.task.",
            field="problem.payoff",
            value=task,
        )
    if not is_per_row(payoff):
        numbers = {name: each for name, each in payoff.items() if isinstance(each, int | float)}
        check_outcomes({name: float(numbers.get(name, 0.0)) for name in OUTCOMES})


def check_outcomes(earned: Mapping[str, float], *, of: str = "") -> None:
    """Refuse amounts of a binary decision by which a wrong answer earns more than a right one.

    Parameters
    ----------
    earned
        What each outcome earns, on average.
    of
        Says of which rows, for amounts that differ by row.
    """
    pairs = (
        ("true_positive", "false_negative", "naming a positive", "missing it"),
        ("true_negative", "false_positive", "leaving a negative alone", "a false alarm"),
    )
    for right, wrong, good, bad in pairs:
        if earned[right] < earned[wrong]:
            raise InvalidInputError(
                f"problem.payoff has a wrong sign: {good} ({right} {earned[right]:g}) would earn "
                f"less than {bad} ({wrong} {earned[wrong]:g}){of}.",
                hint="Costs are negative: write what is earned, such as {true_positive: 160, "
                "false_positive: -20, false_negative: -400}. An outcome that is not stated earns 0.",
                field=f"problem.payoff.{wrong}",
                value=earned[wrong],
            )
    if all(earned[right] == earned[wrong] for right, wrong, *_ in pairs):
        raise InvalidInputError(
            "By problem.payoff a right answer earns as much as a wrong one, whatever is said.",
            hint="State what each outcome earns, or remove payoff.",
            field="problem.payoff",
            value=None,
        )


def check_line(true: str, earned: Mapping[str, float]) -> None:
    """Refuse amounts of one true class by which another class said earns more."""
    right = earned.get(true, 0.0)
    for said, amount in earned.items():
        if amount > right:
            raise InvalidInputError(
                f"problem.payoff has a wrong sign: where {true!r} is true, saying {said!r} would "
                f"earn {amount:g}, more than the {right:g} of the right answer.",
                hint="Costs are negative: write what is earned.",
                field=f"problem.payoff.{true}",
                value=amount,
            )


def money_metric(name: str, payoff: Amounts | None) -> Metric:
    """Return a metric that counts what answers earn.

    The amounts of each row come with the answers (`Answers.money`) or, where there are two classes
    and plain numbers, from `payoff`.

    Raises
    ------
    InvalidInputError
        If there is no payoff.
    """
    if not payoff:
        raise InvalidInputError(
            f"The metric {name!r} needs a payoff.",
            hint="State under problem.payoff what each outcome earns, such as "
            "{true_positive: 160, false_positive: -20, false_negative: -400}.",
            field="problem.payoff",
            value=None,
        )
    factor = _PER_CASE[name]
    fixed = None
    if _by_outcome(payoff) and not is_per_row(payoff):
        fixed = np.asarray(amounts(payoff, ("no", "yes")), dtype=np.float64)

    def earned(y: Array, answers: Answers) -> Array:
        true, said = y.astype(np.int64), answers.labels
        if answers.money is not None:
            return column(factor * answers.money[np.arange(len(y)), true, said])
        if fixed is None:
            raise InvalidInputError(
                f"{name} counts what each row is worth, which came without these answers.",
                hint="Give the answers the rows' money.",
                field="problem.payoff",
                value=name,
            )
        return column(factor * fixed[true, said])

    return MeanMetric(name=name, tasks=CLASSES, higher_is_better=factor > 0, columns=earned)


def _line(line: Amount | Mapping[str, Amount]) -> Mapping[str, Amount]:
    return line if isinstance(line, Mapping) else {"": line}


def _nested(payoff: Amounts) -> TypeGuard[Mapping[str, Mapping[str, Amount]]]:
    return bool(payoff) and all(isinstance(line, Mapping) for line in payoff.values())


def _by_outcome(payoff: Amounts) -> TypeGuard[Mapping[str, Amount]]:
    return all(name in OUTCOMES and not isinstance(line, Mapping) for name, line in payoff.items())
