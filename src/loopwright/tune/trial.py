"""Trials: one set of hyperparameters each, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any


class TrialState(Enum):
    """What became of a trial."""

    RUNNING = "running"
    DONE = "done"
    PRUNED = "pruned"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One set of hyperparameters and what came of it.

    Parameters
    ----------
    number
        From 0, in the order of their beginning.
    hyperparameters
        What was tried; everything else as ordered for the study.
    state
        See `TrialState`.
    job
        Id of the training job.
    value
        The metric on the validation rows; nothing until it is done.
    steps
        The learning curve as far as it was looked at: step and loss on validation rows.
    reason
        Why it failed or was ended.
    seconds
        Wall time of its job.
    origin
        `search`, or where a first guess came from.
    """

    number: int
    hyperparameters: Mapping[str, Any]
    state: TrialState = TrialState.RUNNING
    job: str = ""
    value: float | None = None
    steps: tuple[tuple[int, float], ...] = ()
    reason: str = ""
    seconds: float | None = None
    origin: str = "search"

    def with_steps(self, steps: Mapping[int, float]) -> TrialRecord:
        """Return the trial with what its learning curve was at some steps."""
        return replace(self, steps=tuple(sorted(steps.items())))

    def to_json(self) -> dict[str, Any]:
        """Return the trial as JSON types."""
        return {
            "number": self.number,
            "hyperparameters": dict(self.hyperparameters),
            "state": self.state.value,
            "job": self.job,
            "value": self.value,
            "steps": [list(step) for step in self.steps],
            "reason": self.reason,
            "seconds": self.seconds,
            "origin": self.origin,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrialRecord:
        """Return the trial that `to_json` wrote."""
        return cls(
            **{
                **value,
                "state": TrialState(value["state"]),
                "steps": tuple((int(s), float(v)) for s, v in value["steps"]),
            }
        )


def best_of(trials: Iterable[TrialRecord], *, higher_is_better: bool) -> TrialRecord | None:
    """Return the best of the trials that are done; of equal ones the first."""
    done = [t for t in trials if t.state is TrialState.DONE and t.value is not None]
    sign = -1.0 if higher_is_better else 1.0
    return min(done, key=lambda t: (sign * (t.value or 0.0), t.number), default=None)
