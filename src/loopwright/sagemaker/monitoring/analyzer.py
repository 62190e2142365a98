"""The program behind the image of Model Monitor: `python -m loopwright.sagemaker.monitoring.analyzer`.

It reads what its environment names, as SageMaker's own container does, and writes `statistics.json`,
`constraints.json` and, with a baseline, `constraint_violations.json`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.sagemaker.monitoring.analysis import (
    Findings,
    Question,
    data_quality,
    model_quality,
)
from loopwright.sagemaker.monitoring.constraint import CHI_SQUARED, L_INFINITY

if TYPE_CHECKING:
    from types import ModuleType

_MESSAGE = Path("/opt/ml/output/message")
_METRICS = Path("/opt/ml/output/metrics/cloudwatch/cloudwatch_metrics.jsonl")


def main() -> int:
    """Analyse and return the exit code."""
    variables = os.environ
    try:
        question = _question(variables)
        kind = variables.get("analysis_type", "DATA_QUALITY").upper()
        if kind not in ("DATA_QUALITY", "MODEL_QUALITY"):
            raise InvalidInputError(f"The analysis type {kind} is not supported by loopwright.")
        found = model_quality(question) if kind == "MODEL_QUALITY" else data_quality(question)
        _write(Path(variables.get("output_path", "/opt/ml/processing/output")), found)
        _publish(variables, found)
        _after(variables)
    except LoopwrightError as error:
        _say(f"Error: {error}")
        print(error, file=sys.stderr, flush=True)
        return 1
    n = len(found.violations or ())
    if n:
        _say(f"CompletedWithViolations: Job completed successfully with {n} violations.")
    else:
        _say("Completed: Job completed successfully with no violations.")
    print(f"Analysed {found.n_rows} rows: {n} violations.", flush=True)
    return 0


def _question(variables: Mapping[str, str]) -> Question:
    about = variables.get("dataset_format")
    try:
        layout = json.loads(about) if about else {"sagemakerCaptureJson": {}}
    except ValueError as error:
        raise InvalidInputError("dataset_format is no JSON.") from error
    script = variables.get("record_preprocessor_script")
    truth = variables.get("ground_truth_source")
    return Question(
        source=Path(variables.get("dataset_source", "/opt/ml/processing/input")),
        layout=layout,
        constraints=baseline_file(variables.get("baseline_constraints")),
        baseline=baseline_file(variables.get("baseline_statistics")),
        preprocess=_module(script).preprocess_handler if script else None,
        start=_time(variables.get("start_time")),
        end=_time(variables.get("end_time")),
        problem=variables.get("problem_type", ""),
        prediction_at=variables.get("inference_attribute", ""),
        score_at=variables.get("probability_attribute", ""),
        truth_at=variables.get("ground_truth_attribute", ""),
        cut=_share(variables.get("probability_threshold_attribute")),
        truth=Path(truth) if truth else None,
        drift_method=_drift_method(variables.get("categorical_drift_method")),
    )


def _drift_method(text: str | None) -> str:
    found = text or L_INFINITY
    if found not in (L_INFINITY, CHI_SQUARED):
        raise InvalidInputError(
            f"categorical_drift_method is {found!r}; it can be {L_INFINITY} or {CHI_SQUARED}."
        )
    return found


def _share(text: str | None) -> float:
    try:
        return float(text) if text else 0.5
    except ValueError as error:
        raise InvalidInputError(
            f"probability_threshold_attribute is {text!r}, which is no number."
        ) from error


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def baseline_file(path: str | None) -> dict[str, Any] | None:
    """Return what stands in a file of a baseline; None of none.

    Raises
    ------
    InvalidInputError
        If it is no JSON, or not there.
    """
    if not path:
        return None
    try:
        found: dict[str, Any] = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInputError(
            f"{Path(path).name} of the baseline cannot be read: {error}"
        ) from error
    return found


def _module(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise InvalidInputError(f"There is no script {path}.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write(folder: Path, found: Findings) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "statistics.json").write_text(json.dumps(found.statistics, indent=1))
    (folder / "constraints.json").write_text(json.dumps(found.constraints, indent=1))
    if found.violations is not None:
        told: dict[str, Any] = {"violations": found.violations}
        (folder / "constraint_violations.json").write_text(json.dumps(told, indent=1))


def _publish(variables: Mapping[str, str], found: Findings) -> None:
    """Write figures where SageMaker takes those for CloudWatch."""
    if variables.get("publish_cloudwatch_metrics", "Disabled") != "Enabled":
        return
    own = {
        "Endpoint": variables.get("sagemaker_endpoint_name", ""),
        "MonitoringSchedule": variables.get("sagemaker_monitoring_schedule_name", ""),
    }
    dimensions = [{"Name": name, "Value": value} for name, value in own.items() if value]
    at = variables.get("end_time") or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    _METRICS.parent.mkdir(parents=True, exist_ok=True)
    with _METRICS.open("w") as file:
        for name, value in found.figures.items():
            about = {"MetricName": name, "Timestamp": at, "Dimensions": dimensions, **value}
            file.write(json.dumps(about) + "\n")


def _after(variables: Mapping[str, str]) -> None:
    script = variables.get("post_analytics_processor_script")
    if script:
        _module(script).postprocess_handler()


def _say(text: str) -> None:
    _MESSAGE.parent.mkdir(parents=True, exist_ok=True)
    _MESSAGE.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
