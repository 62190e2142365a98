"""How the threshold of a binary decision is chosen: a number by hand, or what is wanted of it."""

from __future__ import annotations

from typing import Literal

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.problem.money import Amounts


class ThresholdPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the threshold is chosen by, on validation rows.

    Parameters
    ----------
    by
        `payoff`: where most is earned. `precision`: where the positive class is found most often
        while at least so large a share of what is said to be positive is. `recall`: where the most
        of what is said to be positive is, while at least so large a share of the positives is found.
    at_least
        The precision or the recall that is wanted, above 0 and below 1.
    """

    by: Literal["payoff", "precision", "recall"]
    at_least: float | None = None

    def __str__(self) -> str:
        return self.by if self.at_least is None else f"{self.by} of at least {self.at_least:g}"


def check_threshold(
    threshold: float | ThresholdPolicy, *, task: str, payoff: Amounts | None
) -> None:
    """Refuse a `problem.threshold` that cannot be gone by.

    Raises
    ------
    InvalidInputError
        If the problem has no threshold, the number is no probability, what is wanted is not stated
        or out of range, or there is no payoff to go by.
    """
    if task != "binary":
        raise InvalidInputError(
            f"problem.threshold is for binary problems; this one is {task}.",
            hint="Remove threshold, or state problem.task.",
            field="problem.threshold",
            value=task,
        )
    if not isinstance(threshold, ThresholdPolicy):
        if not 0 <= threshold <= 1:
            raise InvalidInputError(
                f"problem.threshold is {threshold:g}, which is no probability.",
                hint="Give a number from 0 to 1: 70 percent is 0.70.",
                field="problem.threshold",
                value=threshold,
            )
        return
    if threshold.by == "payoff":
        _check_payoff(threshold, payoff)
    elif threshold.at_least is None or not 0 < threshold.at_least < 1:
        wanted = threshold.at_least
        raise InvalidInputError(
            f"problem.threshold goes by {threshold.by}, "
            + ("but says not how much." if wanted is None else f"and wants {wanted:g} of it."),
            hint=f"Write {{by: {threshold.by}, at_least: 0.8}}, a share above 0 and below 1.",
            field="problem.threshold" if wanted is None else "problem.threshold.at_least",
            value=wanted,
        )


def _check_payoff(threshold: ThresholdPolicy, payoff: Amounts | None) -> None:
    if not payoff:
        raise InvalidInputError(
            "problem.threshold goes by payoff, and problem.payoff is not there.",
            hint="State what each outcome earns, such as {true_positive: 160, false_positive: -20, "
            "false_negative: -400}.",
            field="problem.threshold.by",
            value="payoff",
        )
    if threshold.at_least is not None:
        raise InvalidInputError(
            "problem.threshold goes by payoff, where as much as possible is earned.",
            hint="Remove at_least; a criterion on profit_per_case says how much is enough.",
            field="problem.threshold.at_least",
            value=threshold.at_least,
        )
