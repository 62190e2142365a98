"""What scripts for scikit-learn and XGBoost import: media types, readers, answers, the environment.

The parts of the toolkit that ran the server are names alone here: loopwright is the server.
"""

# mypy: disable-error-code="import-not-found"

from sagemaker_inference import content_types

from . import encoders, env, errors, modules, server, transformer, worker

__all__ = [
    "content_types",
    "encoders",
    "env",
    "errors",
    "modules",
    "server",
    "transformer",
    "worker",
]
