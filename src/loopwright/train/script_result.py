"""What a script job left: how it ended, its model, its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loopwright.core.files import read_json
from loopwright.train.script_worker import MODEL_ARCHIVE, OUTPUT_ARCHIVE, RESULT_FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptResult:
    """How a script ended, and what it left.

    Parameters
    ----------
    exit_code
        Of the script; negative for a signal, None when it was not started.
    failure
        Why it did not end well, in the script's own words where it left some; empty when it did.
    warnings
        What a person should know although the job succeeded, such as a model that is empty.
    model, output
        `model.tar.gz` and `output.tar.gz`; None where there is none.
    model_digest
        Of `model.tar.gz`: the same files make the same digest.
    n_model_files
        How many files the model has.
    metrics
        The last value of each metric; None for one that was not finite.
    prepare_s, script_s
        Seconds before the script (its environment included), and of the script.
    """

    exit_code: int | None
    failure: str = ""
    warnings: tuple[str, ...] = ()
    model: Path | None = None
    output: Path | None = None
    model_digest: str = ""
    n_model_files: int = 0
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    prepare_s: float = 0.0
    script_s: float = 0.0


def read_script_result(folder: Path) -> ScriptResult | None:
    """Return what the script job in a folder left, or None while (or if) it left nothing."""
    try:
        value = read_json(folder / "out" / RESULT_FILE)
    except ValueError:
        value = None
    if value is None:
        return None
    model = value.get("model") or {}
    model_path, output = (folder / "out" / name for name in (MODEL_ARCHIVE, OUTPUT_ARCHIVE))
    return ScriptResult(
        exit_code=value["exit_code"],
        failure=value["failure"],
        warnings=tuple(value["warnings"]),
        model=model_path if model_path.exists() else None,
        output=output if output.exists() else None,
        model_digest=model.get("digest", ""),
        n_model_files=model.get("n_files", 0),
        metrics=value.get("metrics", {}),
        prepare_s=value.get("prepare_s", 0.0),
        script_s=value.get("script_s", 0.0),
    )
