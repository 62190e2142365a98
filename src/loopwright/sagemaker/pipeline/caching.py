"""Steps that need not run again: the same step with the same arguments has succeeded before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from loopwright.core.digest import digest_value
from loopwright.sagemaker.error import ApiError
from loopwright.sagemaker.pipeline.definition import Step
from loopwright.sagemaker.pipeline.duration import seconds_of
from loopwright.sagemaker.pipeline.properties import described
from loopwright.sagemaker.pipeline.run import Run
from loopwright.sagemaker.pipeline.step_kind import KINDS

_KIND = "sagemaker/pipeline-cache"
# What makes a step run again when it changes, by AWS's page "Default cache key attributes by
# pipeline step type". Where the outputs go is not in it: the SDKs name that after the execution.
_CHILD = (
    "AlgorithmSpecification",
    "HyperParameterRanges",
    "InputDataConfig",
    "StaticHyperParameters",
    "TuningObjective",
)
_PROCESSING = ("AppSpecification", "Environment", "ProcessingInputs")
_COMPARED = {
    "Lambda": ("FunctionArn", "Event", "Code"),
    "Processing": _PROCESSING,
    "QualityCheck": (*_PROCESSING, "Check"),
    "ClarifyCheck": (*_PROCESSING, "Check"),
    "Training": (
        "AlgorithmSpecification",
        "CheckpointConfig",
        "DebugHookConfig",
        "DebugRuleConfigurations",
        "Environment",
        "HyperParameters",
        "InputDataConfig",
    ),
    "Transform": ("DataProcessing", "Environment", "ModelName", "TransformInput"),
    "Tuning": (
        "HyperParameterTuningJobConfig",
        "TrainingJobDefinition",
        "TrainingJobDefinitions",
    ),
}

# what of a step's state goes with what it has made
_MADE = ("violated", "outputs")


def digest_of(step: Step, arguments: Mapping[str, Any]) -> str:
    """Return what two executions of a step agree in when one can stand for the other."""
    kept = {name: arguments.get(name) for name in _COMPARED[step.kind]}
    child = kept.get("TrainingJobDefinition")
    if child is not None:
        kept["TrainingJobDefinition"] = {name: child.get(name) for name in _CHILD}
    return digest_value([step.name, step.kind, kept])


def is_cached(step: Step) -> bool:
    """Return whether a step asks for it, and is of a type that has it."""
    return step.kind in _COMPARED and bool((step.about.get("CacheConfig") or {}).get("Enabled"))


def find_hit(run: Run, step: Step, digest: str) -> dict[str, Any] | None:
    """Return the earlier success that a step can take over, or None."""
    record = run.desk.workspace.metadata.find(_KIND, _key(run, digest))
    if record is None:
        return None
    found: dict[str, Any] = record.body
    longest = (step.about.get("CacheConfig") or {}).get("ExpireAfter")
    age_s = (run.desk.now() - datetime.fromisoformat(found["at"])).total_seconds()
    if longest and age_s > seconds_of(str(longest)):
        return None
    if step.kind not in KINDS:
        return found
    try:
        status = described(run, step.kind, found)[KINDS[step.kind].status]
    except ApiError:
        return None
    return found if status == KINDS[step.kind].done else None


def taken_from(hit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state of a step that takes over an earlier success."""
    made = {name: hit[name] for name in _MADE if name in hit}
    return {"job": hit["job"], "arn": hit["arn"], "cache": hit["execution"], **made}


def remember(run: Run, step: Step, state: Mapping[str, Any]) -> None:
    """Keep a success for later executions of the pipeline."""
    if is_cached(step) and state.get("digest") and not state.get("cache"):
        about = {
            "job": state["job"],
            "arn": state["arn"],
            "execution": run.body["arn"],
            "at": run.desk.now().isoformat(),
            **{name: state[name] for name in _MADE if name in state},
        }
        run.desk.workspace.metadata.put(_KIND, _key(run, state["digest"]), about)


def forget_all(run: Run) -> None:
    """Forget the successes of a pipeline that is deleted."""
    store = run.desk.workspace.metadata
    for record in store.list_(_KIND, prefix=_key(run, ""), limit=10_000):
        store.delete(_KIND, record.key)


def _key(run: Run, digest: str) -> str:
    return f"{run.key.rpartition('/')[0]}/{digest.removeprefix('sha256:')}"
