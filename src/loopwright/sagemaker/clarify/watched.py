"""An execution of a bias or explainability monitor: captured records, judged against a baseline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loopwright.core.errors import InvalidInputError
from loopwright.core.lazy import LazyModule
from loopwright.sagemaker.clarify.analysis import Analysis, analysed
from loopwright.sagemaker.clarify.config import CAPTURED, AnalysisConfig, Predictor, checked
from loopwright.sagemaker.clarify.dataset import Dataset
from loopwright.sagemaker.clarify.facet import is_continuous
from loopwright.sagemaker.clarify.layout import BIAS, EXPLAINABILITY
from loopwright.sagemaker.clarify.predictor import Model, Said, predicted_labels, read_answer
from loopwright.sagemaker.clarify.table import Table, found_at
from loopwright.sagemaker.clarify.violation import attribution_violations, bias_violations
from loopwright.sagemaker.monitoring.analyzer import baseline_file
from loopwright.sagemaker.monitoring.captured import (
    INPUT,
    OUTPUT,
    Event,
    payload,
    read_events,
    read_truth,
    text_of,
)

if TYPE_CHECKING:
    import polars as pl
else:
    pl = LazyModule("polars")

NO_DATA = "Job inputs had no data"
_METRICS = Path("/opt/ml/output/metrics/cloudwatch/cloudwatch_metrics.jsonl")
# what AWS publishes in place of an infinite value
_LARGEST = 2.348543e108
_STAGES = {
    "pre_training_bias_metrics": "Pre-training",
    "post_training_bias_metrics": "Post-Training",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What an execution looks at.

    Parameters
    ----------
    config
        The analysis, completed with what a monitor leaves out.
    source, truth
        The folders of captured requests, and of true values.
    start, end
        The window of requests.
    features
        The JMESPath of features in a captured request of JSON.
    answer
        Where labels and scores lie in captured answers.
    baseline
        `analysis.json` of the baseline.
    """

    config: AnalysisConfig
    source: Path
    truth: Path | None
    start: datetime | None
    end: datetime | None
    features: str | None
    answer: Predictor
    baseline: Mapping[str, Any]

    @property
    def is_bias(self) -> bool:
        """Tell whether bias is looked at."""
        return bool(self.config.facet)

    def read(self) -> Dataset:
        """Return the captured records: features, and for bias labels and predicted labels.

        Raises
        ------
        InvalidInputError
            If there are none, or they cannot be read.
        """
        rows, said = self._records()
        if not rows:
            raise InvalidInputError(NO_DATA)
        width = len(rows[0])
        n_features = width - 1 if self.is_bias else width
        names, label = self._names(n_features)
        table = Table(names=tuple(names), rows=rows)
        data = Dataset(
            table=table,
            features=tuple(range(n_features)),
            label=n_features if self.is_bias else None,
            path=self.features,
        )
        if not self.is_bias:
            return data
        values = self.config.label_values_or_threshold
        is_quantity = is_continuous(table.column(label), values)
        about = msgspec.structs.replace(self.config, predictor=self.answer)
        answers = predicted_labels(about, said, is_quantity=is_quantity)
        return Dataset(
            table=table,
            features=data.features,
            label=data.label,
            answers=answers,
            path=self.features,
        )

    def _names(self, n_features: int) -> tuple[list[str], str]:
        """Return the names of the columns, and that of the label, which stands last here."""
        headers = self.config.headers
        label = self.config.label
        if headers is None:
            headers = [f"column_{at}" for at in range(n_features)]
            return ([*headers, "label"] if self.is_bias else headers), "label"
        if not self.is_bias:
            own = [each for each in headers if each != label]
        else:
            name = headers[label] if isinstance(label, int) else str(label)
            if name not in headers:
                # of JSON lines the last header is that of the label
                name = headers[-1]
            own, label = [each for each in headers if each != name], name
        if len(own) != n_features:
            raise InvalidInputError(
                f"A captured record has {n_features} features, and the configuration names "
                f"{len(own)}: {', '.join(own[:30])}."
            )
        return ([*own, str(label)] if self.is_bias else own), str(label)

    def _records(self) -> tuple[list[list[Any]], list[Said]]:
        truths: Mapping[str, Mapping[str, str]] = {}
        if self.truth is not None and self.truth.is_dir():
            truths = read_truth(self.truth)
        rows: list[list[Any]] = []
        said: list[Said] = []
        for event in read_events(self.source, start=self.start, end=self.end):
            if INPUT not in event.data:
                continue
            features = list(_features(event, self.features))
            if not self.is_bias:
                rows += features
                continue
            true = truths.get(event.id) or event.truth
            if true is None or OUTPUT not in event.data:
                continue
            labels = [_one(each) for each in payload(true)]
            answers = _said(event, self.answer, len(features))
            if not len(features) == len(labels) == len(answers):
                raise InvalidInputError(
                    f"The event {event.id} has {len(features)} records, {len(answers)} predictions "
                    f"and {len(labels)} true values."
                )
            rows += [[*row, label] for row, label in zip(features, labels, strict=True)]
            said += answers
        return rows, said

    def publish(self, told: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        """Write figures where SageMaker takes those for CloudWatch."""
        if variables.get("publish_cloudwatch_metrics", "Enabled") != "Enabled":
            return
        own = {
            "Endpoint": variables.get("sagemaker_endpoint_name", ""),
            "MonitoringSchedule": variables.get("sagemaker_monitoring_schedule_name", ""),
        }
        at = variables.get("end_time") or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        _METRICS.parent.mkdir(parents=True, exist_ok=True)
        with _METRICS.open("w") as file:
            for name, value, about in figures(told):
                pairs = [{"Name": k, "Value": v} for k, v in {**own, **about}.items() if v]
                line = {"MetricName": name, "Timestamp": at, "Dimensions": pairs, "Value": value}
                file.write(json.dumps(line) + "\n")


def _features(event: Event, where: str | None) -> Iterator[list[Any]]:
    for record in payload(event.data[INPUT]):
        found = found_at(where, record) if where and not isinstance(record, str) else record
        if not isinstance(found, list):
            raise InvalidInputError(
                f"There are no features at {where!r} in the captured record {str(record)[:200]}; "
                "say where they are with FeaturesAttribute."
            )
        if found and isinstance(found[0], list):
            yield from found
        else:
            yield found


def _said(event: Event, about: Predictor, n_records: int) -> list[Said]:
    part = event.data[OUTPUT]
    kind = part.get("observedContentType", "").partition(";")[0].strip().lower()
    if kind not in ("text/csv", "application/json", "application/jsonlines"):
        kind = "text/csv"
    return read_answer(text_of(part).encode(), kind, about, n_records)


def _one(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def figures(told: Mapping[str, Any]) -> Iterator[tuple[str, float, dict[str, str]]]:
    """Yield the figures of an analysis for CloudWatch: name, value and dimensions.

    By AWS's documentation, "CloudWatch Metrics for Bias Drift Analysis" and "... for Feature Drift
    Analysis".
    """
    for section, stage in _STAGES.items():
        about = told.get(section, {})
        for facet, groups in about.get("facets", {}).items():
            for group in groups:
                where = {
                    "BiasStage": stage,
                    "Label": about["label"],
                    "LabelValue": about["label_value_or_threshold"],
                    "Facet": facet,
                    "FacetValue": group["value_or_threshold"],
                }
                for each in group["metrics"]:
                    if each["value"] is not None:
                        yield f"bias_metric_{each['name']}", _finite(each["value"]), where
    for label, about in told.get("explanations", {}).get("kernel_shap", {}).items():
        own = {"ExplainabilityMethod": "KernelShap", "Label": label}
        for name, value in about["global_shap_values"].items():
            yield f"feature_{name}", value, {**own, "ValueType": "GlobalShapValues"}
        expected = about["expected_value"]
        yield "ExpectedValue", expected, {**own, "ValueType": "ExpectedValue"}


def _finite(value: float | str) -> float:
    number = float(value)
    return max(-_LARGEST, min(_LARGEST, number))


def watch_of(variables: Mapping[str, str], told: Any) -> Watch | None:
    """Return what an execution of a monitor looks at; None for any other job.

    Raises
    ------
    InvalidInputError
        If the configuration of the monitor cannot be carried out.
    """
    kind = variables.get("analysis_type", "").upper()
    if kind not in (BIAS, EXPLAINABILITY):
        return None
    answer = Predictor(
        label=_where(variables.get("inference_attribute")),
        probability=_where(variables.get("probability_attribute")),
    )
    config = _completed(told, kind, answer, variables.get("probability_threshold_attribute"))
    headers = config.predictor.label_headers if config.predictor else None
    truth = variables.get("ground_truth_source")
    return Watch(
        config=config,
        source=Path(variables.get("dataset_source", "/opt/ml/processing/input")),
        truth=Path(truth) if truth else None,
        start=_time(variables.get("start_time")),
        end=_time(variables.get("end_time")),
        features=variables.get("features_attribute") or None,
        answer=msgspec.structs.replace(answer, label_headers=headers),
        baseline=baseline_file(variables.get("baseline_constraints")) or {},
    )


def _where(text: str | None) -> str | None:
    # the SDK writes None as a word
    return None if text in (None, "", "None") else text


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _completed(told: Any, kind: str, answer: Predictor, threshold: str | None) -> AnalysisConfig:
    """Return the configuration of a monitor with what it leaves out."""
    if not isinstance(told, Mapping):
        raise InvalidInputError("The analysis configuration is no JSON object.")
    config = {**told, "dataset_type": CAPTURED}
    methods = dict(config.get("methods") or {})
    if kind == BIAS:
        methods = {
            "pre_training_bias": {"methods": "all"},
            "post_training_bias": {"methods": "all"},
            **methods,
        }
        methods = {name: each for name, each in methods.items() if "bias" in name}
    methods.setdefault("report", {"name": "report", "title": "Monitoring Analysis Report"})
    config["methods"] = methods
    if isinstance(config.get("predictor"), Mapping) and kind == EXPLAINABILITY:
        own = dict(config["predictor"])
        if own.get("label") is None and answer.label is not None:
            own["label"] = answer.label
        config["predictor"] = own
    if threshold and config.get("probability_threshold") is None:
        try:
            config["probability_threshold"] = float(threshold)
        except ValueError as error:
            raise InvalidInputError(
                f"probability_threshold_attribute is {threshold!r}, which is no number."
            ) from error
    return checked(config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """An analysis of captured records, and what of it is worse than the baseline."""

    analysis: Analysis
    violations: Sequence[Mapping[str, str]]


def watched_analysis(
    watch: Watch, data: Dataset, model: Model | None, fetched: Callable[[str], Path]
) -> Watched:
    """Return the analysis of captured records, judged."""
    found = analysed(watch.config, data, model, fetched)
    if watch.is_bias:
        violations = bias_violations(watch.config, found.told, watch.baseline)
    else:
        violations = attribution_violations(found.told, watch.baseline)
    return Watched(analysis=found, violations=violations)
