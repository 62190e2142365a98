"""Where the data of a job lies, and how it was ordered."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any


def training_env() -> SimpleNamespace:
    """Return what the variables `SM_...` of a training job say, as attributes."""
    return SimpleNamespace(
        channel_input_dirs={
            name: os.environ[f"SM_CHANNEL_{name.upper()}"] for name in _read("SM_CHANNELS", [])
        },
        current_host=os.environ.get("SM_CURRENT_HOST", "algo-1"),
        hosts=_read("SM_HOSTS", ["algo-1"]),
        hyperparameters=_read("SM_HPS", {}),
        input_data_config=_read("SM_INPUT_DATA_CONFIG", {}),
        input_dir=os.environ.get("SM_INPUT_DIR", ""),
        model_dir=os.environ.get("SM_MODEL_DIR", ""),
        module_dir=os.environ.get("SM_MODULE_DIR", ""),
        module_name=os.environ.get("SM_MODULE_NAME", ""),
        num_cpus=int(os.environ.get("SM_NUM_CPUS", "1")),
        num_gpus=int(os.environ.get("SM_NUM_GPUS", "0")),
        output_data_dir=os.environ.get("SM_OUTPUT_DATA_DIR", ""),
        output_dir=os.environ.get("SM_OUTPUT_DIR", ""),
    )


TrainingEnv = training_env


def _read(name: str, usual: Any) -> Any:
    text = os.environ.get(name)
    return json.loads(text) if text else usual
