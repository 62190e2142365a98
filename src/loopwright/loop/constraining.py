"""Constraints held: which algorithms may be trained, what they may see, how quick and small they are."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.loop.candidate import Candidate
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part
from loopwright.loop.release import plain_row
from loopwright.loop.step import StepResult
from loopwright.loop.workspace import Workspace
from loopwright.prepare.expression import parse_expression
from loopwright.train import ServingModel, open_bundle

if TYPE_CHECKING:
    from loopwright.problem import Constraints

EXPLAINABLE = ("linear-learner", "decision-tree", "rule")
"""Algorithms whose models a person can read."""

_N_CALLS = 1_000
_N_REPEATS = 3
_MOST_S = 2.0
_BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintVerdict:
    """Whether a constraint holds: what was found beside its limit, in the limit's unit."""

    constraint: str
    value: float | str
    limit: float | str
    holds: bool

    def __str__(self) -> str:
        found = f"{self.value:.3g}" if isinstance(self.value, float) else self.value
        return f"{self.constraint}: {found} ({'holds' if self.holds else 'is missed'})"

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON types."""
        return {name: getattr(self, name) for name in self.__slots__} | {"told": str(self)}


def check_explainable(loop: LoopFile) -> None:
    """Refuse algorithms that nobody can read where the problem asks for a model people can.

    Raises
    ------
    InvalidInputError
        With the algorithms that can be read.
    """
    constraints = loop.problem.constraints
    if constraints is None or not constraints.explainable:
        return
    for number, name in enumerate(loop.train.algorithms):
        if name not in EXPLAINABLE:
            raise InvalidInputError(
                f"train.algorithms has {name!r}, and problem.constraints.explainable asks for models "
                "that a person can read.",
                hint="Write algorithms: [linear-learner, decision-tree].",
                field=f"train.algorithms[{number}]",
                value=name,
            )


def without_personal(loop: LoopFile, personal: Iterable[str]) -> LoopFile:
    """Return the loop with the columns of personal data dropped, if the problem asks for that.

    Raises
    ------
    InvalidInputError
        If the features are made of one of them by order.
    """
    constraints, found = loop.problem.constraints, sorted(personal)
    if constraints is None or constraints.personal_data or not found:
        return loop
    plan = loop.prepare
    used: dict[str, tuple[str, ...]] = {
        f"prepare.keep[{at}]": (name,) for at, name in enumerate(plan.keep)
    }
    known = _AnyColumn()
    for name, expression in plan.derive.items():
        used[f"prepare.derive.{name}"] = parse_expression(expression, known).columns  # type: ignore[arg-type]
    for at, step in enumerate(plan.steps):
        columns = step.get("columns")
        used[f"prepare.steps[{at}]"] = tuple(columns) if isinstance(columns, list | tuple) else ()
    for field, columns in used.items():
        if wrong := [name for name in columns if name in found]:
            raise InvalidInputError(
                f"{field} uses {', '.join(map(repr, wrong))}, which holds personal data, and "
                "problem.constraints.personal_data is false.",
                hint="Take it out, or allow personal data.",
                field=field,
                value=wrong[0],
            )
    drop = tuple(dict.fromkeys((*plan.drop, *found)))
    return msgspec.structs.replace(loop, prepare=msgspec.structs.replace(plan, drop=drop))


class _AnyColumn(dict[str, str]):
    """Columns of unknown types, whatever their names."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "unknown"


def measures_model(constraints: Constraints | None) -> bool:
    """Return whether a constraint is about the packed model."""
    return constraints is not None and (
        constraints.latency_ms is not None
        or constraints.size_mb is not None
        or constraints.explainable
    )


def constrained(
    workspace: Workspace,
    constraints: Constraints,
    winner: Candidate,
    bundle: Mapping[str, Any],
    test: str,
) -> StepResult:
    """Measure the packed model, as it would be served, against the constraints.

    Parameters
    ----------
    bundle
        Digest and size of the packed model, as `packed` returns them.
    test
        Digest of the test rows; their inputs are answered one by one, their target is not read.
    """
    found = []
    if constraints.size_mb is not None:
        size = int(bundle["n_bytes"]) / _BYTES_PER_MB
        found.append(
            ConstraintVerdict(
                constraint=f"size at most {constraints.size_mb:g} MB",
                value=size,
                limit=constraints.size_mb,
                holds=size <= constraints.size_mb,
            )
        )
    if constraints.latency_ms is not None:
        model = open_bundle(workspace.artifacts.local_path(str(bundle["bundle"])))
        inputs = [field.name for field in model.signature.fields]
        rows = read_part(workspace, test).select(inputs).head(_N_CALLS).rows(named=True)
        taken = latency_ms(model, [plain_row(row) for row in rows])
        found.append(
            ConstraintVerdict(
                constraint=f"99 of 100 answers within {constraints.latency_ms:g} ms",
                value=taken,
                limit=constraints.latency_ms,
                holds=taken <= constraints.latency_ms,
            )
        )
    if constraints.explainable:
        found.append(
            ConstraintVerdict(
                constraint="a model that a person can read",
                value=winner.algorithm,
                limit=", ".join(EXPLAINABLE),
                holds=winner.algorithm in EXPLAINABLE,
            )
        )
    return StepResult(
        output={"verdicts": [each.to_json() for each in found]},
        summary="; ".join(map(str, found)),
        reason="measured on the packed model, one row at a time, without the network"
        if constraints.latency_ms is not None
        else "",
    )


def latency_ms(model: ServingModel, rows: list[dict[str, Any]]) -> float:
    """Return the time in milliseconds within which 99 of 100 answers to one row are computed.

    The least of three passes: another program that takes the processor for a moment says nothing
    about the model.
    """
    best = float("inf")
    for row in rows[:20]:  # what is set up at the first call is no part of an answer
        model.predict([row])
    for _ in range(_N_REPEATS):
        times, started = [], time.perf_counter()
        for row in rows:
            at = time.perf_counter()
            model.predict([row])
            times.append(time.perf_counter() - at)
            if times[-1] + at - started > _MOST_S:
                break
        times.sort()
        best = min(best, times[min(len(times) - 1, int(0.99 * len(times)))])
    return best * 1_000
