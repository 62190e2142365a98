"""The families of operations, one module each."""

from __future__ import annotations

import importlib

_MODULES: tuple[str, ...] = (
    "identity",
    "permission",
    "s3.bucket",
    "s3.object",
    "s3.listing",
    "s3.multipart",
    "log",
    "tag",
    "training_job",
    "tuning_job",
    "transform_job",
    "processing_job",
    "job_log",
    "monitoring.job_definition",
    "monitoring.schedule",
    "monitoring.alert",
    "monitoring.metric",
    "model_record",
    "endpoint",
    "variant_scaling",
    "invocation",
    "invocation_later",
    "metric",
    "metric_alarm",
    "endpoint_metric",
    "search",
    "model_package_group",
    "model_package",
    "experiment",
    "trial_metric",
    "trial_component",
    "mlflow_server",
    "lineage",
    "function.record",
    "function.invocation",
    "pipeline.pipeline_record",
    "pipeline.version",
    "pipeline.execution",
    "pipeline.execution_step",
    "pipeline.driver",
    "resubmission",
)


def load() -> None:
    """Load all of them; each enters what it serves into the registry."""
    for name in _MODULES:
        importlib.import_module(f"loopwright.sagemaker.{name}")
