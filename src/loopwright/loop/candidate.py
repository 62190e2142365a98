"""A trained model that may become the champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from loopwright.loop.file import LoopFile
from loopwright.loop.sourcing import Target
from loopwright.loop.workspace import Workspace
from loopwright.train import (
    Calibration,
    Interval,
    Outcome,
    ServingModel,
    open_bundle,
    pack_bundle,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A trained model that may become the champion, and how it did on validation rows.

    Parameters
    ----------
    members
        Digest of every file of the model, by its name in a bundle.
    score
        The primary metric on validation.
    meets
        Whether every criterion's bound holds on validation.
    missed
        Metrics of the criteria that miss.
    threshold
        Binary only: chosen on validation as the problem asks, else 0.5.
    how
        The rest of how it answers, and why so; see `Answering.how`.
    """

    algorithm: str
    window: str
    attempt: int
    members: dict[str, str]
    best_iteration: int | None
    fit_s: float
    score: float
    meets: bool
    missed: tuple[str, ...]
    figures: dict[str, dict[str, Any]]
    threshold: float = 0.5
    how: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as JSON types."""
        return {**asdict(self), "missed": list(self.missed)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Candidate:
        """Return the candidate that `to_json` wrote."""
        return cls(**{**value, "missed": tuple(value["missed"])})

    @property
    def title(self) -> str:
        """What it is, for people."""
        window = "" if self.window == "all" else f" on {self.window} rows"
        return f"{self.algorithm}{window}"


def outcome_of(target: Target, winner: Candidate) -> Outcome:
    """Return what the candidate says, in the words of the problem."""
    calibration, interval = winner.how.get("calibration"), winner.how.get("interval")
    return Outcome(
        task=target.task,  # type: ignore[arg-type]
        classes=target.classes,
        threshold=winner.threshold,
        calibration=Calibration.from_json(calibration) if calibration else None,
        interval=Interval.from_json(interval) if interval else None,
    )


def model_files(workspace: Workspace, winner: Candidate) -> dict[str, bytes]:
    """Return the files of the candidate that go into its bundle."""
    # wall times differ from run to run; without them the same model is the same bytes
    return {
        name: workspace.artifacts.get_bytes(digest)
        for name, digest in winner.members.items()
        if name not in ("training.json", "validation.parquet")
    }


def candidate_model(
    workspace: Workspace, loop: LoopFile, target: Target, winner: Candidate
) -> ServingModel:
    """Return the candidate as it would be served."""
    bundle = pack_bundle(
        model_files(workspace, winner),
        name=loop.name,
        algorithm=winner.algorithm,
        outcome=outcome_of(target, winner),
    )
    return open_bundle(bundle)
