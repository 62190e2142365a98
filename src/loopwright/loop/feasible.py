"""Whether the test rows could ever show what was agreed: said before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.evaluate.feasibility import Feasibility, feasibilities
from loopwright.loop.answering import units_of_rows
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part, truth
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult
from loopwright.loop.workspace import Workspace
from loopwright.loop.worth import row_money
from loopwright.problem import Metric, checked_problem

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
else:
    np = LazyModule("numpy")


def feasible(
    workspace: Workspace, loop: LoopFile, target: Target, parts: dict[str, Any]
) -> StepResult:
    """Hold the criteria against the truth of the test rows; no model looks at them.

    Raises
    ------
    InvalidInputError
        If a criterion could not be shown even if every answer were right, with the rows needed.
    """
    problem = loop.problem
    test = read_part(workspace, parts["test"])
    y = truth(test, target)
    metrics = checked_problem(problem, task=target.task)
    _check_fit(metrics, y)
    found = feasibilities(
        problem.criteria,
        metrics,
        y,
        n_classes=len(target.classes),
        money=row_money(problem, target, test),
        confidence=problem.confidence,
        seed=loop.train.seed,
        units=units_of_rows(loop, test),
    )
    for number, each in enumerate(found):
        if not each.is_possible:
            raise _refusal(each, number, parts)
    told = [*(each.told for each in found if each.told), *_remarks(metrics, y)]
    needed = [
        f"{criterion.metric} {each.value_needed:.4g}"
        for criterion, each in zip(problem.criteria, found, strict=True)
        if each.value_needed is not None
    ]
    return StepResult(
        output={"criteria": [each.to_json() for each in found], "remarks": told},
        summary=f"{len(y):,} test rows can show what was agreed"
        + (f"; a model must come out at {', '.join(needed)}" if needed else ""),
        reason="; ".join(f"look out: {text}" for text in told),
    )


def _refusal(found: Feasibility, number: int, parts: dict[str, Any]) -> InvalidInputError:
    field = f"problem.criteria[{number}]"
    hint = "Ask for less, or check the payoff." if found.rows_needed is None else ""
    if found.rows_needed is not None:
        n_all = sum(int(parts["n_rows"][name]) for name in ("train", "validation", "test"))
        whole = math.ceil(n_all * found.rows_needed / max(1, found.n_rows))
        hint = (
            f"It takes about {found.rows_needed:,} test rows: bring about {whole:,} rows in all, "
            "give data.split.test a larger share, or ask for less."
        )
    return InvalidInputError(
        f"{field}: {found.told}.",
        hint=hint,
        field=field,
        value=found.criterion,
        rows_needed=found.rows_needed,
    )


def _check_fit(metrics: Sequence[Metric], y: Array) -> None:
    """Refuse a metric that has no value on this target."""
    for number, metric in enumerate(metrics):
        if metric.name == "rmsle" and (n_below := int((y < 0).sum())):
            raise InvalidInputError(
                f"problem.criteria[{number}]: rmsle is for targets of 0 and more; {n_below:,} of "
                f"{len(y):,} test rows lie below.",
                hint="Choose rmse or mae.",
                field=f"problem.criteria[{number}]",
                value="rmsle",
            )


def _remarks(metrics: Sequence[Metric], y: Array) -> list[str]:
    """Return what to know of metrics that divide by the target."""
    relative = [each.name for each in metrics if each.name == "mape" or "share_within" in each.name]
    n_zero = int((y == 0).sum()) if relative else 0
    if not n_zero:
        return []
    return [
        f"the target is 0 in {n_zero:,} of {len(y):,} test rows, where no answer but 0 is within any "
        f"percentage ({', '.join(relative)}); wape and mae have no such rows"
    ]
