"""The short way of the usual request: a JSON body, one model, nothing asked for beside.

Whatever is not usual, bad rows too, goes the long way of `deploy/invocation.py`, which says what is
wrong with it: so every answer and every captured line is the same by both ways.
"""

from __future__ import annotations

import math
from typing import Any

from loopwright.core.errors import InvalidInputError
from loopwright.core.names import new_id
from loopwright.deploy.answer_form import json_body
from loopwright.deploy.capture import CapturedPrediction, CaptureLog, utc_now_text
from loopwright.deploy.extra import ATTRIBUTES_HEADER
from loopwright.deploy.invocation import given_id
from loopwright.deploy.message import Request, Response
from loopwright.deploy.model import OneRow, Served
from loopwright.deploy.rows import json_value
from loopwright.deploy.variant import TARGET_HEADER
from loopwright.deploy.whole_way import WholeWay

_TARGET = b"/invocations"
_JSON = b"application/json"
_ACCEPTED = frozenset({None, b"*/*", _JSON})
# headers that ask for something, or choose who answers
_ASKING = frozenset({ATTRIBUTES_HEADER, TARGET_HEADER})
# an object of fewer columns may be a batch by another name
_FEWEST_COLUMNS = 3


class ShortWay:
    """Answers usual requests with one model; for the event loop's thread alone.

    Parameters
    ----------
    served
        The model, and what its answers carry.
    one_row
        What answers its single rows.
    capture
        Where answers are captured; None for nowhere.
    whole
        Answers what is most usual, in one step; None if the model has none.
    """

    __slots__ = ("_answer", "_capture", "_served", "_whole")

    def __init__(
        self,
        served: Served,
        one_row: OneRow | None,
        capture: CaptureLog | None,
        *,
        whole: WholeWay | None = None,
    ) -> None:
        self._served = served
        self._answer = None if one_row is None else one_row.answer
        self._capture = capture
        self._whole = whole

    def answer(self, request: Request) -> tuple[Response, int] | None:
        """Return the answer to a request, captured, and how many rows it predicts.

        None where the long way has to be gone.
        """
        headers = request.headers
        if (
            request.target != _TARGET
            or headers.get(b"content-type") != _JSON
            or headers.get(b"accept") not in _ACCEPTED
            or not _ASKING.isdisjoint(headers)
        ):
            return None
        try:
            inference_id = given_id(request) or new_id()
            if self._whole is not None:
                whole = self._whole.answer(request.body, inference_id)
                if whole is not None:
                    return Response(200, whole[0]), whole[1]
            if self._answer is None:
                return None
            row = json_value(request.body)
        except InvalidInputError:
            return None
        if type(row) is not dict or len(row) < _FEWEST_COLUMNS or "inference_id" in row:
            return None
        found = self._answer(row)
        if found is None:
            return None
        checked, answer = found
        prediction, probability = answer["prediction"], answer.get("probability")
        if not (_is_sayable(prediction) and _is_sayable(probability)):
            return None
        answer["inference_id"] = inference_id
        if self._capture is not None:
            self._keep(inference_id, checked, answer)
        return Response(200, json_body([answer], self._served, is_single=True)), 1

    def _keep(self, inference_id: str, row: dict[str, Any], answer: dict[str, Any]) -> None:
        log, served = self._capture, self._served
        assert log is not None  # noqa: S101 asked before
        captured = CapturedPrediction(
            inference_id=inference_id,
            at=utc_now_text(),
            version=served.version,
            inputs=row,
            prediction=answer["prediction"],
            probability=answer.get("probability"),
            probabilities=answer.get("probabilities"),
        )
        log.write(log.encoded((captured,)))


def find_short_way(
    served: Served, capture: CaptureLog | None, *, whole: WholeWay | None = None
) -> ShortWay | None:
    """Return the short way to the answers of a model, over its whole way; None if there is none."""
    # code of one's own reads and writes bodies itself
    one_row = served.model.one_row() if served.code is None else None
    if one_row is None and whole is None:
        return None
    return ShortWay(served, one_row, capture, whole=whole)


def _is_sayable(value: object) -> bool:
    """Return whether JSON has a way to say a value."""
    return not isinstance(value, float) or math.isfinite(value)
