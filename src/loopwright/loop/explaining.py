"""The step that says what a candidate goes by, and keeps what its bundle needs to give reasons."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from loopwright.evaluate.explanation import ExplanationReading, explanation
from loopwright.loop.candidate import Candidate, candidate_model
from loopwright.loop.file import LoopFile
from loopwright.loop.framing import read_part
from loopwright.loop.sourcing import Target
from loopwright.loop.step import StepResult, round_key
from loopwright.loop.workspace import Workspace
from loopwright.prepare.lineage import feature_origins
from loopwright.train.array_file import open_arrays
from loopwright.train.attribution import Attributor
from loopwright.train.reason import EXPLANATION_MEMBER, explanation_member

_SHOWN = 3


def explained(
    workspace: Workspace,
    loop: LoopFile,
    target: Target,
    winner: Candidate,
    parts: dict[str, Any],
    *,
    masked: frozenset[str],
) -> StepResult:
    """Say what the candidate goes by, on test rows; nothing is decided by it.

    What is learnt of training rows to explain answers goes into the bundle.
    """
    model = candidate_model(workspace, loop, target, winner)
    member = explanation_member(model, read_part(workspace, parts["windows"][winner.window]))
    attributor = Attributor(
        predictor=model.predictor,
        background=open_arrays(member, what=EXPLANATION_MEMBER),
        origins=feature_origins(model.fitted),
        transform=None if model.outcome.calibration is None else model.outcome.calibrated,
    )
    test = read_part(workspace, parts["test"])
    found = explanation(model, attributor, test, masked=masked, seed=loop.train.seed)
    kept = workspace.artifacts.put_bytes(member)
    reading = workspace.artifacts.put_bytes(msgspec.json.encode(found.to_json()))
    strongest = [each.column for each in found.columns[:_SHOWN] if each.share > 0]
    how = "exact SHAP values" if found.is_exact else "sampled SHAP values"
    return StepResult(
        output={"explanation": reading, "member": kept},
        summary=f"goes by {', '.join(strongest) or 'nothing'} most ({how}, {found.n_rows:,} rows)",
        artifacts=(kept, reading),
    )


def read_explanation(workspace: Workspace, output: dict[str, Any]) -> ExplanationReading | None:
    """Return what a step found; None where it did not run, or its result is gone."""
    digest = output.get("explanation")
    if digest is None or not workspace.artifacts.has(digest):
        return None
    return ExplanationReading.from_json(json.loads(workspace.artifacts.get_bytes(digest)))


def column_shares(workspace: Workspace, output: dict[str, Any]) -> dict[str, float] | None:
    """Return how much the candidate goes by each column, 0 to 1; None where that is not known."""
    found = read_explanation(workspace, output)
    return None if found is None else {each.column: each.share for each in found.columns}


def personal_columns(workspace: Workspace, loop: str, number: int) -> frozenset[str]:
    """Return the columns in which the round's profile found personal data."""
    record = workspace.metadata.find("step", f"{round_key(loop, number)}/explore")
    output = (record.body.get("output") if record else None) or {}
    digest = output.get("profile")
    if digest is None or not workspace.artifacts.has(digest):
        return frozenset()
    findings = json.loads(workspace.artifacts.get_bytes(digest)).get("findings", [])
    return frozenset(
        each["column"] for each in findings if each["kind"] == "personal_data" and each["column"]
    )
