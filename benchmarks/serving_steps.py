"""Where the time of a row goes inside the endpoint, without HTTP: for the serving benchmark."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loopwright.prepare import RowReader
from loopwright.train import open_bundle

_CALLS, _ROUNDS = 400, 7


def step_times(bundle: Path, rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return microseconds of processor time a row, by step.

    Checking and encoding are one step of the kernel, so that the two together are an upper bound of
    what validation costs.
    """
    model = open_bundle(bundle)
    read = RowReader(model.signature, model.fitted).read
    found = [read([row], today=None) for row in rows]
    features = [each[1] for each in found if each is not None]
    bodies = [json.dumps(row).encode() for row in rows]
    steps: dict[str, Callable[[int], object]] = {
        "JSON": lambda at: msgspec.json.decode(bodies[at]),
        "check and encode, kernel": lambda at: read([rows[at]], today=None),
        "check alone, Python": lambda at: model.signature.check_row(rows[at], index=0),
        "check, encode, predict, answer": lambda at: model.check_and_predict([rows[at]]),
    }
    if len(features) == len(rows):
        steps["predict"] = lambda at: model.predictor.predict_raw(features[at])
    else:
        del steps["check and encode, kernel"]
    one_row = model.one_row()
    if one_row is not None:
        steps["the same by the short way"] = lambda at: one_row.answer(rows[at])
    return {name: _microseconds(step, len(rows)) for name, step in steps.items()}


def _microseconds(step: Callable[[int], object], n_rows: int) -> float:
    rounds = []
    for _ in range(_ROUNDS):
        before = time.process_time()
        for number in range(_CALLS):
            step(number % n_rows)
        rounds.append((time.process_time() - before) / _CALLS * 1e6)
    return statistics.median(rounds)
