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
    "training_log",
    "model_record",
    "endpoint",
    "invocation",
    "metric",
    "search",
)


def load() -> None:
    """Load all of them; each enters what it serves into the registry."""
    for name in _MODULES:
        importlib.import_module(f"loopwright.sagemaker.{name}")
