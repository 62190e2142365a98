"""Whole requests answered by the compiled kernel: from the bytes of the body to those of the answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from loopwright.core.kernel import find_kernel
from loopwright.core.lazy import LazyModule
from loopwright.prepare import FittedRecipe, RecipeUnion, Signature, row_parts
from loopwright.train.link import Link
from loopwright.train.outcome import Outcome
from loopwright.train.predictor import Predictor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from loopwright.core import _kernel
else:
    np = LazyModule("numpy")

_LINKS: dict[Link, str] = {"identity": "i", "exp": "e", "sigmoid": "s", "softmax": "x"}
# an object with one of these names may be a batch, or its row bring an id
_TAKEN = frozenset({"instances", "columns", "data", "inference_id"})

Answered = tuple[bytes, bytes | None, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The JSON around answers and captured rows that is the same for all of them.

    Parameters
    ----------
    after
        Ends every answer, before its bracket.
    head, tail
        Stand in every captured line between its time and its inputs, and after its prediction.
    """

    after: bytes
    head: bytes
    tail: bytes


class RequestPlan:
    """Answers the usual request in one call of the kernel; for one thread at a time.

    Parameters
    ----------
    plan
        The kernel's.
    uses_today
        Whether features depend on the present date.
    """

    __slots__ = ("_answer", "_uses_today")

    def __init__(self, plan: _kernel.Plan, *, uses_today: bool) -> None:
        self._answer = plan.answer
        self._uses_today = uses_today

    def answer(self, body: bytes, inference_id: str, *, at: str | None) -> Answered | None:
        """Return the answer to a JSON body, the lines to capture, and how many rows it has.

        There is nothing to capture where `at`, the time that is captured, is None. None means that
        the body has to be read otherwise, or that something is wrong with it.
        """
        today = datetime.now(UTC).date() if self._uses_today else None
        return self._answer(body, inference_id, at, today)


def request_plan(
    signature: Signature,
    fitted: FittedRecipe | RecipeUnion,
    predictor: Predictor,
    outcome: Outcome,
    frame: Frame,
) -> RequestPlan | None:
    """Return the plan of a model; None where the kernel is not there or has no words for it."""
    kernel = find_kernel()
    names = {field.name for field in signature.fields}
    if kernel is None or isinstance(fitted, RecipeUnion) or not names or names & _TAKEN:
        return None
    fields, encoder = row_parts(signature, fitted)
    scorer = None
    if outcome.calibration is None:
        # trees and weighted sums are asked by the kernel itself
        scorer = getattr(predictor.compiled_score(), "__self__", None)
    try:
        plan = kernel.Plan(
            fields=[
                (name, _opening(number, name), *rest) for number, (name, *rest) in enumerate(fields)
            ],
            instructions=[tuple(instruction) for instruction in encoder.instructions],
            features=encoder.features,
            n_registers=encoder.n_registers,
            refuses_unknown=signature.unknown == "refuse",
            target=signature.target,
            scorer=scorer,
            numbers=_numbers(predictor, outcome),
            link=_LINKS[predictor.link],
            task=outcome.task[0],
            n_outputs=outcome.n_outputs,
            threshold=float(outcome.threshold),
            classes=tuple(msgspec.json.encode(name) for name in outcome.classes),
            after=frame.after,
            version=frame.head,
            tail=frame.tail,
            encode=msgspec.json.encode,
        )
    except ValueError:
        # a level that is neither number nor text, or names that no text can hold
        return None
    return RequestPlan(plan, uses_today=fitted.uses_today)


def _opening(number: int, name: str) -> bytes:
    """Return what begins a field in a captured row."""
    return (b"," if number else b"{") + msgspec.json.encode(name) + b":"


def _numbers(
    predictor: Predictor, outcome: Outcome
) -> Callable[[bytes, int], npt.NDArray[np.float64]]:
    """Return what asks the models that the kernel does not ask itself."""

    def numbers(features: bytes, n_rows: int) -> npt.NDArray[np.float64]:
        X = np.frombuffer(features).reshape(n_rows, -1)
        raw = outcome.calibrated(predictor.predict_raw(X))
        return np.ascontiguousarray(raw, dtype=np.float64)

    return numbers
