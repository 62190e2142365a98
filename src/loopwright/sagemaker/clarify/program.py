"""The program behind the image of Clarify: `python -m loopwright.sagemaker.clarify.program`.

It reads `analysis_config.json` and the data set from the inputs of its processing job, as SageMaker's
own container does, and writes `analysis.json`, `report.html`, `report.ipynb` and `explanations_shap`.
With `baseline_constraints` in its environment, as an execution of Model Monitor and the check of a
pipeline have it, it writes `constraint_violations.json` too.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loopwright.core.errors import InvalidInputError, LoopwrightError
from loopwright.sagemaker.clarify.analysis import Analysis, Attributions, analysed
from loopwright.sagemaker.clarify.config import AnalysisConfig, checked
from loopwright.sagemaker.clarify.dataset import Dataset, read_dataset
from loopwright.sagemaker.clarify.layout import (
    CONFIG_INPUT,
    DATA_INPUT,
    FOLDER,
    ORDER_FILE,
    OUTPUT,
)
from loopwright.sagemaker.clarify.predictor import Model
from loopwright.sagemaker.clarify.report import notebook, report_page
from loopwright.sagemaker.clarify.shadow import asked_model
from loopwright.sagemaker.clarify.violation import attribution_violations, bias_violations
from loopwright.sagemaker.clarify.watched import (
    Watch,
    watch_of,
    watched_analysis,
)
from loopwright.sagemaker.monitoring.analyzer import baseline_file

_BASE = Path("/opt/ml")
_PROCESSING = _BASE / "processing"
_MESSAGE = _BASE / "output" / "message"


def main() -> int:
    """Analyse and return the exit code."""
    try:
        return _analyse(os.environ)
    except LoopwrightError as error:
        _say(f"ClientError: {error}")
        print(f"ClientError: {error}", file=sys.stderr, flush=True)
        return 1


def _analyse(variables: Mapping[str, str]) -> int:
    request = _json(_BASE / "config" / "processingjobconfig.json")
    inputs = {
        each["InputName"]: Path(each["S3Input"]["LocalPath"])
        for each in request.get("ProcessingInputs", ())
    }
    order = _json(_BASE / FOLDER / ORDER_FILE)
    told = _config_in(inputs.get(CONFIG_INPUT, _PROCESSING / "input" / "config"))
    if order.get("failure"):
        raise InvalidInputError(order["failure"])
    watch = watch_of(variables, told)
    out = _output(request, variables)
    if watch is not None:
        return _watched(watch, order, out, variables)
    config = checked(told)
    place = inputs.get(DATA_INPUT)
    if place is None:
        place = _fetched(order, config.dataset_uri or "")
    data = read_dataset(config, place, lambda uri: _fetched(order, uri))
    print(f"Analysing {len(data.table.rows)} rows.", flush=True)
    with _model(config, data, order) as model:
        found = analysed(config, data, model, lambda uri: _fetched(order, uri))
    _write(out, config, data, found)
    if variables.get("baseline_constraints"):
        # the check of a pipeline
        baseline = baseline_file(variables["baseline_constraints"]) or {}
        _judged(out, _violations(config, found, baseline))
    else:
        _say("Completed: SageMaker XAI Analyzer ran successfully")
    print("Calculated the analysis.", flush=True)
    return 0


def _violations(
    config: AnalysisConfig, found: Analysis, baseline: Mapping[str, Any]
) -> list[dict[str, str]]:
    return [
        *bias_violations(config, found.told, baseline),
        *attribution_violations(found.told, baseline),
    ]


def _judged(out: Path, violations: Sequence[Mapping[str, str]]) -> int:
    """Write what violates a baseline, and say how much it is."""
    report = {"version": "1.0", "violations": violations}
    (out / "constraint_violations.json").write_text(json.dumps(report, indent=1))
    outcome = f"{len(violations)} violations" if violations else "no violations"
    status = "CompletedWithViolations" if violations else "Completed"
    _say(f"{status}: Job completed successfully with {outcome}.")
    print(f"Compared with the baseline: {outcome}.", flush=True)
    return 0


def _watched(
    watch: Watch, order: Mapping[str, Any], out: Path, variables: Mapping[str, str]
) -> int:
    data = watch.read()
    print(f"Analysing {len(data.table.rows)} captured records.", flush=True)
    with _model(watch.config, data, order) as model:
        found = watched_analysis(watch, data, model, lambda uri: _fetched(order, uri))
    _write(out, watch.config, data, found.analysis)
    watch.publish(found.analysis.told, variables)
    return _judged(out, found.violations)


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}") from error
    return found


def _config_in(folder: Path) -> Any:
    paths = sorted(each for each in folder.rglob("*") if each.is_file())
    if not paths:
        raise InvalidInputError(f"There is no analysis configuration in {folder}.")
    try:
        return json.loads(paths[0].read_bytes())
    except ValueError as error:
        raise InvalidInputError(f"{paths[0].name} is no JSON: {error}.") from error


def _output(request: Mapping[str, Any], variables: Mapping[str, str]) -> Path:
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", ())
    places = {each["OutputName"]: each["S3Output"]["LocalPath"] for each in outputs}
    own = places.get(OUTPUT) or next(iter(places.values()), str(_PROCESSING / "output"))
    found = Path(variables.get("output_path", own))
    found.mkdir(parents=True, exist_ok=True)
    return found


def _fetched(order: Mapping[str, Any], uri: str) -> Path:
    place: str | None = order["places"].get(uri)
    if place is None:
        raise InvalidInputError(f"{uri!r} is no place in S3 from which data can be read.")
    return _BASE / place


@contextmanager
def _model(
    config: AnalysisConfig, data: Dataset, order: Mapping[str, Any]
) -> Iterator[Model | None]:
    """Return the model, served for as long as it is asked; None where it is not needed."""
    methods = config.methods
    has_predictions = data.predicted_column() is not None
    is_needed = methods.shap or methods.pdp or (methods.post_training_bias and not has_predictions)
    about = order.get("model")
    if not is_needed or about is None or config.predictor is None:
        yield None
        return
    with asked_model(about, attributes=config.predictor.custom_attributes) as ask:
        yield Model(
            about=config.predictor,
            names=data.feature_names,
            ask=ask,
            dataset_type=config.dataset_type,
        )


def _write(out: Path, config: AnalysisConfig, data: Dataset, found: Analysis) -> None:
    (out / "analysis.json").write_text(json.dumps(found.told, indent=1, allow_nan=False))
    if found.attributions is not None:
        _write_attributions(out / "explanations_shap", config, data, found.attributions)
    report = config.methods.report
    if report is not None:
        name = Path(report.name).name or "report"
        n_rows = len(data.table.rows)
        page = report_page(report.title, config, found, n_rows=n_rows)
        (out / f"{name}.html").write_text(page)
        (out / f"{name}.ipynb").write_text(notebook(report.title, found.told))


def _write_attributions(
    folder: Path, config: AnalysisConfig, data: Dataset, found: Attributions
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if found.baseline is not None:
        names = data.feature_names if data.table.has_header else None
        _write_csv(folder / "baseline.csv", names, found.baseline)
    shap = config.methods.shap
    if shap is None or not shap.save_local_shap_values:
        return
    names = [f"{name}_{label}" for label in found.labels for name in found.features]
    flat = found.values.transpose(0, 2, 1).reshape(len(found.values), -1).tolist()
    if data.identifier is not None:
        at = data.identifier
        names = [data.table.names[at], *names]
        flat = [[row[at], *values] for row, values in zip(data.table.rows, flat, strict=True)]
    _write_csv(folder / "out.csv", names, flat)


def _write_csv(path: Path, names: Sequence[str] | None, rows: Sequence[Sequence[Any]]) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        if names is not None:
            out.writerow(names)
        out.writerows(rows)


def _say(text: str) -> None:
    _MESSAGE.parent.mkdir(parents=True, exist_ok=True)
    _MESSAGE.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
